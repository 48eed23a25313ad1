"""The image files that a person names: one by one, by a pattern, or by their folder. Imports nothing heavy."""

import functools
import glob
import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path

from cnn_jax import buckets
from cnn_jax.errors import UsageError
from cnn_jax.files import printable

SUFFIXES = {
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".tif", ".tiff", ".bmp", ".dib", ".gif", ".ppm", ".pgm", ".pnm",
    ".avif", ".avifs",
}  # fmt: skip
HEIF_SUFFIXES = {".heic", ".heif", ".hif"}  # with an extra


@functools.cache
def suffixes() -> set[str]:
    """Returns the suffixes of files that are taken for images, in small letters."""
    return SUFFIXES | HEIF_SUFFIXES if importlib.util.find_spec("pillow_heif") else SUFFIXES


def expand(names: Sequence[str], numbers: bool = False) -> list[str]:
    """Returns the files that are meant, each once, in order.

    Args:
      names: paths, patterns such as "*.png", and folders, of which all images are taken; a home may be written "~",
        and several may stand in one text, separated by commas.
      numbers: whether what is a number, and no file, is returned as it is: of an image of the test set.

    Raises:
      UsageError: there are no such files, or they are in a bucket.
    """
    found: dict[str, None] = {}
    missing = []
    for name in names:
        # A name may have a comma of its own.
        for part in [name] if os.path.lexists(os.path.expanduser(name)) else name.split(","):
            if buckets.is_far(part.strip()):
                raise UsageError(f"--images: {part.strip()} is in a bucket: copy it to the disk first")
            files = _files(os.path.expanduser(part.strip())) if part.strip() else []
            files = files or [part.strip()] * (numbers and part.strip().isdecimal())
            found |= dict.fromkeys(files)
            missing += [part] if part.strip() and not files else []
    if missing:
        raise UsageError(f"--images: these are no files: {', '.join(map(printable, missing))}")
    return list(found)


def _files(path):
    if os.path.isdir(path):
        inside = sorted(each for each in Path(path).rglob("*") if each.suffix.lower() in suffixes() and each.is_file())
        return [str(each) for each in inside if not each.name.startswith(".")]
    if os.path.isfile(path):
        return [path]
    return sorted(each for each in glob.glob(path, recursive=True) if os.path.isfile(each))
