"""Accelerators that are in this machine while JAX's plugin for them is not installed; looked up without jax."""

import functools
import importlib.metadata
import importlib.util
import logging
import os
import re
import shlex
import sys
from pathlib import Path

# As JAX itself looks for them: jax/_src/hardware_utils.py.
NVIDIA = ("dev/nvidia0", "dev/nvidiactl", "dev/dxg")
GOOGLE = "0x1ae0"
TPUS = ("0x0027", "0x0056", "0x005e", "0x0062", "0x0063", "0x006f", "0x0076")
PLUGINS = {"cuda": ("jax_cuda13_plugin", "jax_cuda12_plugin"), "tpu": ("libtpu",)}
CUDA13 = 580  # the first driver for CUDA 13


def missing(environ=os.environ, root: Path = Path("/"), installed=importlib.util.find_spec) -> str:
    """Returns what an accelerator in this machine lacks, and the command that mends it; "" where there is nothing.

    Args:
      environ: the environment; $JAX_PLATFORMS says that the choice of devices is deliberate.
      root: of the file system.
      installed: tells whether there is a module.
    """
    if environ.get("JAX_PLATFORMS"):
        return ""
    if any((root / place).exists() for place in NVIDIA):
        title, extra, plugins = "an NVIDIA GPU", _cuda(root), PLUGINS["cuda"]
    elif _has_tpu(root):
        title, extra, plugins = "a TPU", "tpu", PLUGINS["tpu"]
    else:
        return ""
    if any(installed(name) for name in plugins):
        return ""
    lock = Path(__file__).resolve().parents[2] / f"requirements-{extra}.txt"
    what = ["-r", str(lock)] if lock.exists() else [f"jax[{extra}]=={importlib.metadata.version('jax')}"]
    command = shlex.join([sys.executable, "-m", "pip", "install", *what])
    return f"there is {title} here, but JAX's plugin for it is not installed, so the CPU is used. To use it: {command}"


def _cuda(root):
    """The extra that goes with the driver."""
    try:
        said = (root / "proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return "cuda13"  # under WSL 2, and in some containers, the driver does not say
    version = re.search(r"Kernel Module\D*(\d+)\.", said)
    return "cuda12" if version and int(version[1]) < CUDA13 else "cuda13"


def _has_tpu(root):
    for vendor in (root / "sys/bus/pci/devices").glob("*/vendor"):
        try:
            if vendor.read_text().strip() == GOOGLE and (vendor.with_name("device")).read_text().strip() in TPUS:
                return True
        except OSError:
            continue
    return False


@functools.cache
def tell_once() -> None:
    """Says on standard error what is missing, if anything is, in place of JAX's own line, which has no command."""
    line = missing()
    if line:
        print(line, file=sys.stderr)
        silence_jax()


def silence_jax() -> None:
    """Keeps JAX from saying the same in its own words."""
    own = lambda record: "may be present on this machine" not in str(record.msg)
    logging.getLogger("jax._src.xla_bridge").addFilter(own)
