"""The rendezvous of processes that share the work, read from the flags and the launcher's variables without jax."""

import dataclasses
import importlib.util
import os
import re
from pathlib import Path

from cnn_jax import config
from cnn_jax.errors import UsageError
from cnn_jax.flags import Flags

SHARED = ("train", "eval")  # modes that several processes can share
# What launchers set, as JAX reads it: the variables that must be there, and the one with the number of processes.
SLURM = ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID"), "SLURM_NTASKS"
OPEN_MPI = ("OMPI_MCA_orte_hnp_uri", "OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_LOCAL_RANK"), "OMPI_COMM_WORLD_SIZE"


@dataclasses.dataclass(frozen=True)
class Rendezvous:
    """The address, count, index and timeout with which several processes find each other.

    Attributes:
      timeout: seconds to wait for all.
      coordinator: HOST:PORT of process 0; None, as the other two, where JAX learns it from the cluster.
      count: number of processes.
      index: this process, from 0.
    """

    timeout: int
    coordinator: str | None = None
    count: int | None = None
    index: int | None = None


def from_flags(flags: Flags, environ=os.environ) -> Rendezvous | None:
    """Returns the rendezvous of the processes that share the work; None where this one works alone.

    Args:
      flags: of the command line.
      environ: the environment, in which launchers leave their variables.

    Raises:
      UsageError: the flags do not add up.
    """
    place = {name: getattr(flags, name) for name in ("coordinator", "process_count", "process_index")}
    missing = [f"--{name}" for name, value in place.items() if value is None]
    given = [f"--{name}" for name, value in place.items() if value is not None]
    if given and flags.distributed == "off":
        raise UsageError(f"{', '.join(given)} and --distributed=off exclude each other: leave one of them out")
    if given and missing:
        raise UsageError(f"{', '.join(given)} without {', '.join(missing)}: the three go together")
    asked = bool(given) or flags.distributed == "on"
    if asked and flags.mode not in SHARED:
        raise UsageError(f"--mode={flags.mode} is the work of one process: leave --distributed and its flags out")
    cluster = flags.distributed != "off" and flags.mode in SHARED and _in_cluster(environ)
    if not asked and not cluster:
        return None
    if not given and not cluster:
        raise UsageError(
            "--distributed=on: there are no variables of SLURM or Open MPI for several processes, and this is no "
            "Cloud TPU; give --coordinator=HOST:PORT, --process_count=N and --process_index=I"
        )
    return Rendezvous(flags.coordinator_timeout, **_checked(flags)) if given else Rendezvous(flags.coordinator_timeout)


def check_parallel(settings: config.Config) -> None:
    """Refuses settings that several processes cannot share.

    Raises:
      UsageError: they are for one device.
    """
    if settings.parallel == "jit":
        raise UsageError("--parallel=jit is for one device: with several processes, use mesh, pmap or auto")


def _checked(flags):
    address = re.fullmatch(r"(\S+):(\d{1,5})", flags.coordinator)
    if not address or not 0 < int(address[2]) < 2**16:
        raise UsageError(f"--coordinator={flags.coordinator} must be HOST:PORT of process 0, such as 10.0.0.1:8476")
    if not 0 <= flags.process_index < flags.process_count:
        raise UsageError(
            f"--process_index={flags.process_index} must be from 0 to {flags.process_count - 1}: "
            f"--process_count={flags.process_count}"
        )
    return {"coordinator": flags.coordinator, "count": flags.process_count, "index": flags.process_index}


def _in_cluster(environ):
    """Tells whether a launcher started several processes, of which this is one, or this is a Cloud TPU."""
    for names, count in (SLURM, OPEN_MPI):
        if all(name in environ for name in (*names, count)) and int(environ[count]) > 1:
            return True
    # On one TPU machine as on many, JAX finds out how many there are.
    chips = [path for pattern in ("accel[0-9]*", "vfio/[0-9]*") for path in Path("/dev").glob(pattern)]
    elsewhere = environ.get("JAX_PLATFORMS", "tpu").split(",")[0] != "tpu"
    return bool(chips) and not elsewhere and importlib.util.find_spec("libtpu") is not None
