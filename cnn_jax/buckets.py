"""Folders in a bucket of Google Cloud Storage, gs://BUCKET/FOLDER: what differs from those on a disk.

A place in a bucket is an `etils.epath.Path`; it has the methods of a `pathlib.Path` that this package uses. A bucket
has no folders, appending or renaming: an object appears whole, and folders are what names have in common. Here is what
that takes; `files.py` calls it.
"""

import importlib.util
import json
import logging
import os
import re
import traceback
import uuid
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cnn_jax.errors import UsageError, UserError

SCHEME = "gs://"
NAME = re.compile(r"gs://[a-z0-9][a-z0-9_.-]{1,220}[a-z0-9](/.*)?")  # as Google Cloud Storage lets buckets be called
STREAMS = 16  # objects copied at the same time
INSTALL = "pip install 'cnn_jax[cloud]'"


def is_far(path: object) -> bool:
    """Tells whether a path, or its text, is in a bucket."""
    return str(path).startswith(SCHEME)


def place(text: str, what: str) -> Path:
    """Returns a path in a bucket.

    Args:
      text: such as "gs://bucket/folder".
      what: names it, for the message.

    Raises:
      UsageError: it is none; it is in other storage than Google's; or the extra `cloud` is not installed.
    """
    if not is_far(text):
        scheme = text.partition("://")[0]
        raise UsageError(
            f"{what}: {scheme}:// is not supported, as checkpoints cannot be kept there: name a local folder, or a "
            f"bucket as {SCHEME}BUCKET/FOLDER"
        )
    if not NAME.fullmatch(text):
        raise UsageError(f"{what} names no bucket: {SCHEME}BUCKET/FOLDER is needed, such as {SCHEME}my-bucket/runs/1")
    if any(importlib.util.find_spec(name) is None for name in ("gcsfs", "google.cloud.storage")):
        raise UsageError(f"{what}: folders in a bucket need an extra: {INSTALL}")
    return _path(text.rstrip("/"))


def _path(text) -> Any:
    # Read when their packages are imported. Listings that are remembered would hide what other processes wrote; with
    # TensorFlow beside it, epath would take another way than the one that is tested.
    os.environ.setdefault("EPATH_USE_TF", "false")
    import fsspec.config

    for protocol in ("gcs", "gs"):
        fsspec.config.conf.setdefault(protocol, {})["use_listings_cache"] = False
    from etils import epath

    logging.getLogger("gcsfs").setLevel(logging.CRITICAL)  # a traceback, where it has tried often enough
    return epath.Path(text)


def said(error: BaseException) -> str | None:
    """Returns what an error of a bucket says, on one line; None of an error that comes from elsewhere."""
    kinds = [f"{kind.__module__}.{kind.__name__}" for kind in type(error).__mro__]
    passed = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not any(name.startswith(("gcsfs.", "google.", "aiohttp.")) for name in (*kinds, *passed)):
        return None
    text = " ".join(str(error).split())[:300] or type(error).__name__
    if any(kind.startswith("google.auth.") for kind in kinds):
        return f"Google Cloud Storage: no access ({text}): log in with `gcloud auth application-default login`"
    return f"Google Cloud Storage: {text}"


# Folders and files.


def size(path: Any) -> int:
    """Bytes of an object."""
    return path.stat().length


def version(path: Path) -> str:
    """Returns what is another with every writing of an object: its size and its generation."""
    about = _system().info(str(path))
    return f"{about['size']} {about.get('generation', '')}"


def remove(folder: Any) -> None:
    """Removes a folder and all in it, if it is there."""
    folder.rmtree(missing_ok=True)


def listing(folder: Path) -> dict[str, dict]:
    """Returns every object in a folder, however deep: its name from there, and what the bucket says of it."""
    system, root = _system(), str(folder).removeprefix(SCHEME)
    found = system.find(root, detail=True)
    return {name.removeprefix(f"{root}/"): about for name, about in found.items() if about["type"] == "file"}


def _system():
    from etils.epath import backend

    return backend.fsspec_backend.fs(SCHEME)


def upload(folder: Path, to: Path, names: Sequence[str] | None = None, last: str = "") -> None:
    """Copies a local folder into a bucket.

    Args:
      folder: the local one.
      to: in a bucket; what it has already in the same size is left as it is.
      names: of the files, from the folder; None: all.
      last: the file that is copied when all others are there.
    """
    there = {name: about["size"] for name, about in listing(to).items()}
    if names is None:
        names = [path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if path.is_file()]
    new = [name for name in names if name != last and there.get(name) != (folder / name).stat().st_size]
    put = lambda name: _system().put_file(str(folder / name), str(to / name))
    with ThreadPoolExecutor(STREAMS) as pool:
        list(pool.map(put, new))
    if last:
        put(last)


def fetch(path: Path, to: Path) -> None:
    """Copies an object to a local file, which appears when it is whole; one of the same size is left as it is."""
    if to.is_file() and to.stat().st_size == size(path):
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    partial = to.with_name(f".{to.name}.{uuid.uuid4().hex}")
    try:
        _system().get_file(str(path), str(partial))
        os.replace(partial, to)
    finally:
        partial.unlink(missing_ok=True)


def mirror(folder: Path, to: Path, counter: Callable[[int], Any]) -> None:
    """Makes a local folder equal to one in a bucket: fetches what is new or changed, and removes what is gone.

    Args:
      folder: in a bucket.
      to: the local folder; it is this function's alone.
      counter: makes what counts files up to a number, such as `progress.Counter`.

    Raises:
      UserError: there is nothing in it.
    """
    there = {name: about for name, about in listing(folder).items() if _is_plain(name)}
    if not there:
        raise UserError(f"there is nothing in {folder}")
    record = to.with_name(f"{to.name}.json")
    try:
        known = json.loads(record.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    now = {name: [about["size"], str(about.get("generation", ""))] for name, about in there.items()}
    new = {name: None for name in now if known.get(name) != now[name] or not (to / name).is_file()}
    for path in sorted(to.rglob("*"), reverse=True) if to.is_dir() else []:
        name = path.relative_to(to).as_posix()
        if path.is_file() and (name not in now or name in new):
            path.unlink()
    if new:
        with counter(len(new)) as count, ThreadPoolExecutor(STREAMS) as pool:
            for _ in pool.map(lambda name: fetch(folder / name, to / name), new):
                count.advance(1)
        record.write_text(json.dumps(now), encoding="utf-8")


def _is_plain(name):
    """Tells whether an object's name is that of a file below a folder, and not above it."""
    return not {"", ".", ".."} & set(name.split("/"))


class Outbox:
    """A local folder for what can only write to a disk; `put` copies what is new in it to a bucket."""

    def __init__(self, folder: Path):
        import tempfile

        self._to = folder
        self._kept = tempfile.TemporaryDirectory(prefix="cnn_jax-")
        self.local = Path(self._kept.name)

    def put(self) -> None:
        """Copies what has changed."""
        upload(self.local, self._to)

    def close(self) -> None:
        """Copies what has changed, and removes the local folder."""
        try:
            self.put()
        finally:
            self._kept.cleanup()
