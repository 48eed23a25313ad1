"""The values of the flags of launch.py."""

import dataclasses
from collections.abc import Sequence

MODES = ["train", "eval", "predict", "summary", "report", "export", "prepare"]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Flags:
    """The values of the flags, under their names; None where a flag was not given.

    Attributes:
      rest: words that belong to no flag.
      started: `time.perf_counter()` when the process began.
    """

    experiment: str | None
    list: bool  # of the experiments
    mode: str
    set: Sequence[str]
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
    report: bool
    profile: bool
    out: str | None
    images: Sequence[str]
    rest: Sequence[str]
    started: float
