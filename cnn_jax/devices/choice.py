"""The meaning of "auto": the number of devices of a CPU and how they share the work; the cache of compiled programs."""

import contextlib
import os
import tempfile
import warnings
from pathlib import Path

import jax

from cnn_jax import config, files
from cnn_jax.files import cores

LEAST = 2**20  # bytes that the cache of compiled programs must have room for
SHARE = 16  # images of a batch, from which a core of its own for them is worth the exchange of gradients


def prepare(settings: config.Config, sizes: list[int] | None = None) -> None:
    """Makes a CPU as many devices as its cores can be used for; to be called before JAX looks for any.

    For a run of a small network, each core gets its share of every batch; for groups of seeds, its share of them. A
    number that the user has set, by JAX_NUM_CPU_DEVICES or XLA_FLAGS, stands, as does a --parallel other than auto.
    Accelerators are left as they are.

    Args:
      settings: the config of the run, or what all arms of a study have in common.
      sizes: of a study: how many networks are trained together, of each program.
    """
    parts = settings.train.batch_size // settings.optimizer.accumulate
    share = lambda devices: _shares_batches(settings) and parts % devices == 0 and parts // devices >= SHARE
    if sizes is None and _shares_batches(settings):
        _make_cores_devices(share)
    if sizes is not None and settings.parallel == "auto":
        _make_cores_devices(lambda devices: all(share(devices) if size == 1 else size % devices == 0 for size in sizes))


def mode_for(settings: config.Config, seeds: int = 1) -> str:
    """Returns the mode of `mesh.Parallel` that the settings mean, for so many seeds; "auto" where that decides."""
    cores = len(jax.devices()) > 1 and jax.default_backend() == "cpu" and jax.process_count() == 1
    return "pmap" if seeds == 1 and cores and _shares_batches(settings) else settings.parallel


def _shares_batches(settings):
    """Tells whether, on a CPU, each core is to be a device with a replica of the network.

    The settings must leave `parallel` and `model.layout` open: replicas are for small networks, whose steps are too
    short for all cores to share one.
    """
    return settings.parallel == "auto" and settings.model.layout == "auto"


def _make_cores_devices(fits):
    if jax.config.jax_num_cpu_devices < 0 and "device_count" not in os.environ.get("XLA_FLAGS", ""):
        with contextlib.suppress(RuntimeError):  # JAX has found its devices, in a notebook say: they stay what they are
            jax.config.update("jax_num_cpu_devices", max([1, *filter(fits, range(2, cores() + 1))]))


def numerics() -> dict[str, str]:
    """Returns what of JAX's environment can move results: the precision of matrix products, and XLA's flags."""
    precision = jax.config.jax_default_matmul_precision
    return {"JAX_DEFAULT_MATMUL_PRECISION": precision or "", "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")}


def enable_compilation_cache() -> str:
    """Keeps compiled programs in the user's cache folder, so that the next start need not compile; says where."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        folder = str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cnn_jax" / "xla")
    try:
        if "://" in folder:  # a bucket has no folders to make
            files.place(folder, f"JAX_COMPILATION_CACHE_DIR={folder}")
        else:
            Path(folder).mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"?" * LEAST)
    except OSError as error:
        return f"off ({folder}: {error.strerror})"
    # What cannot be written or read back is compiled anew; two lines for each program would not help anybody.
    warnings.filterwarnings("ignore", "Error (writing|reading) persistent compilation cache entry")
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder
