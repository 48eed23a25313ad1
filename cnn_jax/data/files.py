"""Writing files that others may read at the same time, and knowing beforehand that they will fit."""

import contextlib
import fcntl
import os
import shutil
import sys
import uuid
from pathlib import Path

from cnn_jax.errors import UserError

SPARE_BYTES = 2**28  # left free on a disk


def replace(path: Path, write) -> None:
    """Writes a file so that it appears under its name only when whole, whoever else writes it at the same time.

    Args:
      path: the file.
      write: is given the open file, binary.

    Raises:
      OSError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(partial, "xb") as file:
            write(file)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, what: str):
    """Lets one process at a time do something; the others wait, and say so.

    The lock ends with its process, however that ends; its empty file stays.

    Args:
      path: of the lock.
      what: is being done, such as "prepare imagenet2012".

    Raises:
      OSError: the file cannot be made.
    """
    with open(path, "wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"waiting for another process to {what} ({path})", file=sys.stderr, flush=True)
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def free_bytes(folder: Path) -> int:
    """Space left on the disk of a folder, which need not exist yet."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def check_space(folder: Path, needed: int, what: str, way_out: str) -> None:
    """Refuses to begin what cannot be finished.

    Args:
      folder: where the bytes will go.
      needed: how many more there will be.
      what: that they are for, such as "the decoded images of imagenet2012".
      way_out: what the user can do instead.

    Raises:
      UserError: the disk has less than that free, and a little to spare.
    """
    free = free_bytes(folder)
    if needed + SPARE_BYTES > free:
        needs, has = gigabytes(needed), gigabytes(free)
        raise UserError(f"{what} need {needs} in {folder}, whose disk has {has} free: {way_out}")


def gigabytes(count: int) -> str:
    """A number of bytes in a unit that suits it (1 GB = 10**9 bytes)."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
