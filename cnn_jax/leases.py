"""The right to work in a folder, of one process at a time, whichever of several machines it runs on.

The owner of a folder is a record in it that shows a sign of life every `PERIOD` seconds. The record of a process that
was killed is followed at once on the same machine, by processes of others after `SILENCE` seconds without a sign of
life. Locks of the file system would tell sooner, but a bucket has none, and disks that machines share often have such
as hold for one machine alone.
"""

import contextlib
import errno
import json
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

from cnn_jax import buckets
from cnn_jax.errors import UserError

NAME = ".owner"  # of the record; on a disk with a number that each owner raises
PERIOD = 10.0  # seconds between signs of life
SILENCE = 45.0  # seconds without one, after which another process may take over


class Busy(UserError):
    """Another process is running in a folder.

    Args:
      who: the process, in words.
      folder: the folder.

    Attributes:
      what: this, in words, without a way out.
    """

    def __init__(self, who: str, folder: Path):
        self.what = f"another process is running in {folder}, {who}"
        super().__init__(f"{self.what}: wait for it, or choose another --workdir")


_held: dict[str, "_Lease"] = {}


@contextlib.contextmanager
def held(folder: Path, ask: bool = True, log: Callable[[str], None] = lambda line: None) -> Iterator[None]:
    """Keeps other processes out of a folder, which is there.

    Args:
      folder: on a disk or in a bucket.
      ask: whether to wait for a sign of life of an owner on another machine, which may have been killed.
      log: is told what is waited for.

    Raises:
      Busy: another process is running in it; where none is asked for a sign of life, it may have been killed.
      OSError: it cannot be written.
    """
    lease = _Lease(folder)
    lease.take(ask, log)
    _held[str(folder)] = lease
    try:
        yield
    finally:
        del _held[str(folder)]
        lease.release()


@contextlib.contextmanager
def waited_for(folder: Path) -> Iterator[None]:
    """Does what `held` does, once other processes have left the folder, for what is done in a moment."""
    while True:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(held(folder))
            except Busy:
                continue
            yield
            return


def check_held(path: Path) -> None:
    """Refuses to write into a folder that this process had and another one has taken over.

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
    """The right to write into a folder."""

    def __init__(self, folder: Path):
        self._folder = folder
        self._store: _Store = _Object(folder / NAME) if buckets.is_far(folder) else _Files(folder)
        self._record = _this_process() | {"id": uuid.uuid4().hex}
        self._seen = time.monotonic()
        self._taken = False  # by another process
        self._renewing = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._refresh, daemon=True, name="owner")

    @property
    def lost(self) -> bool:
        """Tells whether another process may have it by now."""
        if self._is_late():  # this process may have been stopped for a while, and nobody have noticed
            self._renew()
        return self._taken or self._is_late()

    def _is_late(self):
        return time.monotonic() - self._seen > SILENCE - PERIOD

    def take(self, ask, log):
        """Writes the record, once nobody else lives by it.

        Raises:
          Busy: somebody does.
        """
        version = 0
        while not self._store.write(self._record, version):
            found = self._store.read()
            version = 0 if found is None else self._abandoned(*found, ask, log)
        self._seen = time.monotonic()
        self._thread.start()

    def _abandoned(self, version, record, ask, log):
        """The version of an owner that is no more, or 0 if it went while that was found out."""
        if _is_dead(record):
            return version
        who = f"process {record.get('pid', '?')} on {record.get('host', '?')}"
        if not ask:
            raise Busy(who, self._folder)
        log(f"{self._folder}: asking for a sign of life of {who}")
        until = time.monotonic() + SILENCE
        while time.monotonic() < until:
            time.sleep(PERIOD / 10)
            found = self._store.read()
            if found is None:
                return 0
            if found[0] != version:
                raise Busy(who, self._folder)
            if _is_dead(record):
                break
        return version

    def _refresh(self):
        while not self._taken and not self._ended.wait(PERIOD):
            self._renew()

    def _renew(self):
        with self._renewing, contextlib.suppress(Exception):  # of the network; time tells whether it matters
            now = time.monotonic()
            self._taken = self._taken or not self._store.renew(self._record)
            self._seen = now

    def release(self):
        """Removes the record, if it is still this process's."""
        self._ended.set()
        self._thread.join()
        if not self._taken:
            with contextlib.suppress(Exception):  # the next process waits for a sign of life, then
                self._store.clear()


class _Store(Protocol):
    """The place of a record. A version is another after each sign of life; 0 stands for that of none."""

    def read(self) -> tuple[object, dict] | None:
        """Returns the version and the record of the owner; None if there is none."""

    def write(self, record: dict, version) -> bool:
        """Tells whether the record was written in place of that version."""

    def renew(self, record: dict) -> bool:
        """Shows a sign of life; whether what was written is still there."""

    def clear(self) -> None:
        """Ends what was written."""


class _Object:
    """A record in a bucket: written only in place of the generation last seen."""

    def __init__(self, path: Path):
        from google.cloud import storage

        bucket, _, key = str(path).removeprefix(buckets.SCHEME).partition("/")
        self._blob = storage.Client().bucket(bucket).blob(key)
        self._generation = 0

    def read(self):
        from google.api_core import exceptions

        try:
            self._blob.reload()
            return self._blob.generation, _record(self._blob.download_as_bytes())
        except exceptions.NotFound:
            return None

    def write(self, record, version):
        from google.api_core import exceptions

        try:
            self._blob.upload_from_string(json.dumps(record), if_generation_match=version)
        except exceptions.PreconditionFailed:
            # A write that came through, and was sent again because its answer did not.
            found = self.read()
            if found is None or found[1].get("id") != record["id"]:
                return False
            self._generation = found[0]
            return True
        self._generation = self._blob.generation
        return True

    def renew(self, record):
        return self.write(record, self._generation)

    def clear(self):
        self._blob.delete(if_generation_match=self._generation)


class _Files:
    """A record on a disk: a file whose number is one higher than that of the owner before.

    A file that must be new is the one thing that all file systems promise to a single process. The last owner's stays
    and says so, that no number comes twice.
    """

    def __init__(self, folder: Path):
        self._folder = folder
        self._number = 0

    def _path(self, number):
        return self._folder / f"{NAME}.{number}"

    def _newest(self):
        try:
            names = os.listdir(self._folder)
        except FileNotFoundError:  # others have removed it
            return 0
        found = [re.fullmatch(rf"{re.escape(NAME)}\.(\d{{1,15}})", name) for name in names]
        return max((int(match[1]) for match in found if match), default=0)

    def read(self):
        number = self._newest()
        try:
            with self._path(number).open("rb") as file:
                record, changed = _record(file.read()), os.fstat(file.fileno()).st_mtime_ns
        except FileNotFoundError:  # there is none, or its owner has been followed
            return None
        return None if record.get("released") else ((number, changed), record)

    def write(self, record, version):
        newest, found = self._newest(), self.read()
        if version != (found[0] if found else 0):
            return False
        number = newest + 1
        try:
            with self._path(number).open("x", encoding="utf-8") as file:
                file.write(json.dumps(record))
        except FileExistsError:
            return False
        if self._newest() != number:  # this process was stopped while others came and went
            self._path(number).unlink(missing_ok=True)
            return False
        self._path(newest).unlink(missing_ok=True)
        self._number = number
        return True

    def renew(self, record):
        del record
        try:
            os.utime(self._path(self._number))
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ESTALE):
                return False
            raise
        return self._newest() == self._number

    def clear(self):
        with self._path(self._number).open("r+", encoding="utf-8") as file:  # not anew, should the folder be gone
            file.write(json.dumps({"released": True}))
            file.truncate()


def _record(content):
    try:
        found = json.loads(content)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _this_process():
    return {"host": socket.gethostname(), "boot": _boot(), "pid": os.getpid(), "started": _started(os.getpid())}


def _is_dead(record):
    """Tells whether the owner was a process of this machine that has ended."""
    here = (record.get("host"), record.get("boot")) == (socket.gethostname(), _boot()) and bool(_boot())
    return here and _started(record.get("pid")) != record.get("started")


def _boot():
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def _started(pid):
    """When a process started, in ticks since the machine did; None of one that has ended."""
    try:
        state, *rest = Path(f"/proc/{int(pid)}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return None if state in "ZX" else rest[18]
    except (OSError, ValueError, TypeError, IndexError):
        return None
