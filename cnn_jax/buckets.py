"""Folders in a bucket of Google Cloud Storage, gs://BUCKET/FOLDER: what differs from those on a disk.

A place in a bucket is an `etils.epath.Path`; it has the methods of a `pathlib.Path` that this package uses. A bucket
has no folders, locks, appending or renaming: an object appears whole, folders are what names have in common, and a lock
is an object that is only written if it has the generation last seen. Here is what that takes; `files.py` calls it.
"""

import contextlib
import importlib.util
import json
import logging
import os
import re
import socket
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from cnn_jax.errors import UsageError, UserError

SCHEME = "gs://"
NAME = re.compile(r"gs://[a-z0-9][a-z0-9_.-]{1,220}[a-z0-9](/.*)?")  # as Google Cloud Storage lets buckets be called
OWNER = ".owner"  # the object that says which process runs in a folder
PERIOD = 10.0  # seconds between signs of life of an owner
SILENCE = 45.0  # seconds without one, after which another process may take over
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
    """Whether an object's name is that of a file below a folder, and not above it."""
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


# One process at a time.

_held: dict[str, "_Lease"] = {}


@contextlib.contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Keeps other processes out of a folder in a bucket.

    Its owner is an object that this process writes anew every `PERIOD` seconds. One that was killed leaves it behind:
    on the same machine it is taken over at once, else after `SILENCE` seconds without a sign of life.

    Raises:
      UserError: another process is running in it.
    """
    lease = _Lease(folder)
    lease.take()
    _held[str(folder)] = lease
    try:
        yield
    finally:
        del _held[str(folder)]
        lease.release()


def check_held(path: Path) -> None:
    """Refuses to write into a folder that this process had claimed and another one has taken over.

    Raises:
      UserError: that is so.
    """
    for folder, lease in _held.items():
        if lease.lost and f"{path}/".startswith(f"{folder}/"):
            raise UserError(
                f"{folder} has another owner: no sign of life of this process came through for {SILENCE:.0f} seconds, "
                "and another one took over; what was saved is whole"
            )


class _Lease:
    """The right to write into a folder.

    Attributes:
      lost: whether another process may have it by now.
    """

    def __init__(self, folder: Path):
        from google.cloud import storage

        bucket, _, key = str(folder / OWNER).removeprefix(SCHEME).partition("/")
        self._folder = folder
        self._blob = storage.Client().bucket(bucket).blob(key)
        self._record = _this_process() | {"id": uuid.uuid4().hex}
        self._generation = 0
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True, name="owner")
        self.lost = False

    def take(self):
        """Writes the object, once nobody else lives by it.

        Raises:
          UserError: somebody does.
        """
        while not self._write(self._generation):
            found = self._read()
            self._generation = 0 if found is None else self._abandoned(*found)
        self._thread.start()

    def _abandoned(self, generation, record):
        """The generation of an owner that is no more, or 0 if it went while that was found out."""
        if _is_dead(record):
            return generation
        who = f"process {record.get('pid', '?')} on {record.get('host', '?')}"
        print(f"{self._folder}: asking for a sign of life of {who}", file=sys.stderr, flush=True)
        until = time.monotonic() + SILENCE
        while time.monotonic() < until:
            time.sleep(PERIOD / 10)
            found = self._read()
            if found is None:
                return 0
            if found[0] != generation:
                raise UserError(
                    f"another process is running in {self._folder}, {who}: wait for it, or choose another --workdir"
                )
        return generation

    def _write(self, generation):
        """Tells whether the object was written in place of a generation, 0 for none."""
        from google.api_core import exceptions

        try:
            self._blob.upload_from_string(json.dumps(self._record), if_generation_match=generation)
        except exceptions.PreconditionFailed:
            # A write that came through, and was sent again because its answer did not.
            found = self._read()
            if found is None or found[1].get("id") != self._record["id"]:
                return False
            self._generation = found[0]
            return True
        self._generation = self._blob.generation
        return True

    def _read(self):
        """The generation and the record of the owner; None if there is none."""
        from google.api_core import exceptions

        try:
            self._blob.reload()
            generation = self._blob.generation
            record = json.loads(self._blob.download_as_bytes())
        except exceptions.NotFound:
            return None
        except ValueError:
            record = {}
        return generation, record if isinstance(record, dict) else {}

    def _refresh(self):
        seen = time.monotonic()
        while not self._ended.wait(PERIOD):
            try:
                if not self._write(self._generation):
                    self.lost = True
                    return
                seen = time.monotonic()
            except Exception:  # the network, for a while; nothing but time tells whether it matters
                self.lost = time.monotonic() - seen > SILENCE - PERIOD

    def release(self):
        """Removes the object, if it is still this process's."""
        self._ended.set()
        self._thread.join()
        if not self.lost:
            with contextlib.suppress(Exception):  # the next process waits for a sign of life, then
                self._blob.delete(if_generation_match=self._generation)


def _this_process():
    return {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "started": _started(os.getpid())}


def _is_dead(record):
    """Whether the owner was a process of this machine that has ended."""
    here = (record.get("host"), record.get("boot")) == (socket.gethostname(), _boot()) and bool(_boot())
    return here and _started(record.get("pid")) != record.get("started")


def _boot():
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid):
    """When a process started, in ticks since the machine did; None of one that is not there."""
    try:
        return Path(f"/proc/{int(pid)}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[19]
    except (OSError, ValueError, TypeError, IndexError):
        return None
