"""The checkpoints in a folder as they lie on the disk, looked at without JAX and Orbax; nothing is changed.

A step's folder, of the layout that Orbax gives it:

_CHECKPOINT_METADATA   written last: the step is whole
state/                 the arrays, by name
config/metadata        the settings, JSON
metrics/metrics        the score, and whether the step was scheduled, JSON
checksums/checksums    of all of these but the first, JSON; missing until November 2026
"""

import json
import math
import zlib
from pathlib import Path
from typing import NamedTuple

from cnn_jax import buckets

# What a step has at least; one that lacks any was cut short while it was removed, or damaged.
PARTS = ("_CHECKPOINT_METADATA", "config/metadata", "metrics/metrics", "state/_METADATA", "state/manifest.ocdbt")
CHECKSUMS = "checksums"
SCHEDULED = "scheduled"  # 1, or 0 where a signal or a part of a run asked for it; missing until November 2026
COMMITTED = "commit_success.txt"  # in a bucket, written when all else is: what lacks it was never a checkpoint
SCORE = "score"  # what "best" goes by: the higher the better; null (-Infinity before) where nothing was measured


class Saved(NamedTuple):
    """One step.

    Attributes:
      step: its number.
      score: what "best" goes by, -inf where nothing was measured.
      settings: the config, as a dict.
      checksums: of the arrays, by name, each with the shape; None where none were written.
    """

    step: int
    score: float
    settings: dict
    checksums: dict[str, tuple[int, list[int]]] | None

    @property
    def scored(self) -> bool:
        """Tells whether it has a score."""
        return math.isfinite(self.score)


def text_checksum(values) -> int:
    """Returns the CRC-32 of values that JSON can hold, whatever the order of their names."""
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def survey(folder: Path) -> tuple[list[Saved], dict[Path, str]]:
    """Looks at every step in a folder.

    Args:
      folder: of the checkpoints; need not exist.

    Returns:
      The sound ones, oldest first; and of the others the path and what is wrong.
    """
    sound, unsound = [], {}
    for path in sorted(numbered(folder), key=lambda path: int(path.name)):
        try:
            sound.append(_read(path))
        except FileNotFoundError:
            if path.exists():  # else it was removed meanwhile, as old ones are
                missing = [part for part in PARTS if not (path / part).exists()]
                unsound[path] = f"is not whole, it lacks {', '.join(missing)}"
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            unsound[path] = f"is damaged ({' '.join(str(error).split())[:200]})"
    return sound, unsound


def numbered(folder: Path, whole: bool = True) -> list[Path]:
    """Returns the folders of steps; in a bucket those that were saved to the end or, if not `whole`, the others."""
    found = [path for path in (folder.iterdir() if folder.is_dir() else ()) if path.name.isdecimal()]
    return [path for path in found if whole == (not buckets.is_far(path) or (path / COMMITTED).exists())]


def _read(path):
    for part in PARTS:
        (path / part).stat()
    settings, metrics = (_json(path / part) for part in ("config/metadata", "metrics/metrics"))
    found = path / CHECKSUMS / CHECKSUMS
    checksums = _json(found) if found.exists() else None
    if checksums is not None:
        for name, values in (("config", settings), ("metrics", metrics)):
            if checksums[name] != text_checksum(values):
                raise ValueError(f"the checksum of {name} is not that of its saving")
    score = -math.inf if metrics[SCORE] is None else metrics[SCORE]
    if not isinstance(score, int | float) or math.isnan(score):
        raise ValueError(f"its score is {score!r}")
    return Saved(int(path.name), float(score), settings, checksums and dict(checksums["arrays"]))


def _json(path):
    found = json.loads(path.read_bytes().decode("utf-8"))
    if not isinstance(found, dict):
        raise ValueError(f"{path.parent.name}/{path.name} holds no table of names and values")
    return found
