"""What --init_from names: a network that is already trained, a weight file, the workdir of a run, or weights of
PyTorch's. Without jax."""

import difflib
from pathlib import Path

from cnn_jax import config, files, trained, workdir
from cnn_jax.config import experiments
from cnn_jax.config.study import Study
from cnn_jax.errors import UsageError


def find(origin: str) -> Path:
    """Returns the file or folder that is meant; what lies there goes before the name of a trained network.

    Raises:
      UsageError: there is none, or a folder without a run.
    """
    what = f"--init_from={origin}"
    path = files.place(origin, what)
    if not path.exists() and origin in trained.names():
        return trained.path(origin)
    kinds = "a trained network (see --list), a weight file, the workdir of a run, or a state dict of PyTorch"
    if not path.exists():
        close = difflib.get_close_matches(origin, trained.names(), n=1)
        hint = f"did you mean {close[0]}? Name " if close else "name "
        raise UsageError(f"{what}: there is no such file or folder; {hint}{kinds}")
    if not path.is_file() and not (path / "checkpoints").is_dir():
        raise UsageError(f"{what}: there is no folder {path / 'checkpoints'}; name {kinds}")
    return path


def settings(origin: str) -> config.Config | Study | None:
    """Returns the settings of the network; of a folder, those of its run or study. None where nothing says them.

    Raises:
      UserError: it is damaged.
    """
    path = files.place(origin, f"--init_from={origin}")
    found = (workdir.stored_config(path) or workdir.stored_study(path)) if path.is_dir() else None
    if found:
        return found
    path = find(origin)
    from cnn_jax import weights  # here: what names nothing is refused without NumPy
    from cnn_jax.models import torchvision

    known = weights.about(path)
    if known:
        return known.settings
    return experiments.load(torchvision.EXPERIMENT) if torchvision.looks_like_torch(path) else None
