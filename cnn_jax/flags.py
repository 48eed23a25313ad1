"""The values of the flags, and the words that start the program."""

import dataclasses
import shlex
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

# What each mode does, for --help.
MODES = {
    "train": "train, or continue what the workdir holds; measure the test images; write the report",
    "eval": "measure the trained run in the workdir, and change nothing",
    "predict": "class probabilities of image files, by the run in the workdir or --init_from: --images=a.png,b.jpg",
    "summary": "print the layers with their sizes and costs, and the memory of training; of a study, its arms",
    "report": "write report.html anew",
    "compare": "write a page that puts runs beside each other: --runs=runs/a,runs/b",
    "explore": "open a page where one draws and watches every layer: of the run, of --init_from, or of two, --runs=A,B",
    "export": "write the network for others, and a model card: --out=FILE.safetensors, .stablehlo or .onnx",
    "prepare": "get the dataset ready",
    "settings": "list settings with default, values and meaning: --mode=settings model.pool optimizer",
    "devices": "print what JAX sees here and, with --experiment, how the work would be shared",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """The values of the flags, under their names; None where a flag was not given.

    Attributes:
      rest: words that belong to no flag; for --mode=settings, what names begin with.
      started: `time.perf_counter()` when the process began.
    """

    experiment: str | None
    list: bool  # of the experiments
    mode: str
    set: Sequence[str]
    sweep: str | None
    workdir: str | None
    seed: int | None
    parallel: str | None
    distributed: str
    coordinator: str | None
    process_count: int | None
    process_index: int | None
    coordinator_timeout: int
    resume: bool
    init_from: str | None
    fresh: Sequence[str]
    like: str | None
    measure: Sequence[str]
    report: bool
    watchdog: float
    profile: bool
    profile_process: int
    out: str | None
    format: str | None
    images: Sequence[str]
    runs: Sequence[str]
    port: int
    browser: bool
    rest: Sequence[str]
    started: float


def program() -> list[str]:
    """Returns the words that start this program in the way in which it was started.

    In a notebook or a script, those of an installed package.
    """
    started = Path(sys.argv[0] if sys.argv else "")
    if started.name == "launch.py":
        return ["python", str(sys.argv[0])]
    return ["python", "-m", "cnn_jax"] if started.name == "__main__.py" else ["cnn_jax"]


def command(*words: str) -> str:
    """Returns a command line of this program that works as it is printed, its words quoted where a shell needs it."""
    first, *rest = program()
    running = Path(sys.executable) if first == "python" else Path(sys.executable).parent / first
    found = shutil.which(first)
    if not found or Path(found) != running:  # its environment is not active
        here = Path.cwd()
        first = str(running.relative_to(here) if running.is_relative_to(here) else running)
    return shlex.join([first, *rest, *words])
