"""Starts launch.py as a user would, in a process of its own, for the end-to-end tests."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from cnn_jax import workdir
from cnn_jax.config import experiments
from cnn_jax.config.study import Study
from cnn_jax.training import state as states
from cnn_jax.training.learner import Learner

REPOSITORY = Path(__file__).resolve().parent.parent
STUDIES = [name for name in experiments.names() if isinstance(experiments.load(name), Study)]
RUNS = [name for name in experiments.names() if name not in STUDIES]
# Half the time to compile, where speed and the last bit do not matter.
QUICK = {"XLA_FLAGS": "--xla_backend_optimization_level=0"}


def environment(cache: Path, **changes: str) -> dict[str, str]:
    """The environment of a launch: one CPU device, compiled programs kept in `cache`, no settings of the caller's."""
    ours = ("JAX_", "XLA_", "TFDS_", "PYTHON", "COVERAGE")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1", "XDG_CACHE_HOME": str(cache)} | changes


def shared_folder(tmp_path_factory, name: str) -> Path:
    """A folder of the test session, the same in all its worker processes."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.mkdir(exist_ok=True)
    return folder


def command(*words) -> list[str]:
    """`python launch.py WORDS`, to be started anywhere."""
    return [sys.executable, str(REPOSITORY / "launch.py"), *map(str, words)]


def settings(**values) -> list[str]:
    """`--set` flags: settings(train__duration="3 steps") is --set train.duration='3 steps'."""
    return [word for name, value in values.items() for word in ("--set", f"{name.replace('__', '.')}={value}")]


def launch(env: dict[str, str], *words, status: int | None = 0, **options) -> subprocess.CompletedProcess:
    """Runs `python launch.py WORDS` to its end and checks its exit status (None: whatever it is).

    Whatever happens, a user must never see a traceback.
    """
    done = subprocess.run(command(*words), env=env, capture_output=True, text=True, timeout=300, **options)
    assert "Traceback" not in done.stderr, done.stderr
    assert status is None or done.returncode == status, f"{done.returncode}: {done.stdout}{done.stderr}"
    return done


def snapshot(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Everything below a folder but its lock: the time of its last change and its bytes."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(folder.rglob("*"))
        if path.name != ".lock"
    }


def stored_state(folder: Path, step: int) -> dict[str, np.ndarray]:
    """Every array of the checkpoint of a step, by name."""
    learner = Learner(workdir.stored_config(folder))
    checkpoints = learner.checkpoints(folder)
    restored = checkpoints.restore(step, learner.state_like())
    checkpoints.close()
    return {name: np.asarray(leaf) for name, leaf in states.named_leaves(restored).items()}
