"""Small tools for files, on a disk or in a bucket, and the machine: writing in one move, JSON lines, locks, space."""

import contextlib
import errno
import fcntl
import io
import json
import math
import os
import re
import shutil
import sys
import tempfile
import tokenize
import uuid
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

from cnn_jax import buckets, leases
from cnn_jax.errors import UsageError, UserError

SPARE_BYTES = 2**28  # left free on a disk


def place(text: str, what: str) -> Path:
    """Returns the path of a file or folder that a person names, absolute, on a disk or in a bucket.

    Args:
      text: such as "~/runs/1" or "gs://bucket/runs/1".
      what: names it, for the message, such as "--workdir=runs/1".

    Raises:
      UsageError: it is in other storage, or names no bucket.
    """
    if "://" in text:
        return buckets.place(text, what)
    if re.search(r"(^|/)gs:(/|$)", text):
        raise UsageError(f"{what} looks like a bucket, which is written gs://BUCKET/FOLDER")
    return Path(text).expanduser().absolute()


def replace(path: Path, write) -> None:
    """Writes a file so that it appears under its name only when whole, whoever else writes it at the same time.

    Args:
      path: the file.
      write: is given the open file, binary.

    Raises:
      OSError: it cannot be written.
    """
    leases.check_held(path)
    if buckets.is_far(path):
        content = io.BytesIO()
        write(content)
        path.write_bytes(content.getvalue())
        return
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    with named(path):
        try:
            with open(partial, "xb") as file:
                write(file)
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)


@contextlib.contextmanager
def named(path: Path):
    """Has an OSError name what it is about: a write to a file that is open does not, and a partial file is unknown."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def write_text(path: Path, text: str) -> None:
    """Writes a text file in one move: whoever reads it sees the old text or the new.

    Raises:
      OSError: it cannot be written.
    """
    replace(path, lambda file: file.write(text.encode()))


def write_json(path: Path, values) -> None:
    """Writes a JSON file in one move; what is not a finite number becomes null."""
    write_text(path, json.dumps(_finite(values), indent=2, allow_nan=False) + "\n")


def json_line(record: dict) -> str:
    """Returns a record as a line of a JSONL file; what is not a finite number becomes null."""
    return json.dumps(_finite(record), allow_nan=False) + "\n"


def _finite(values):
    """The values, with None for NaN and infinities, which JSON does not know."""
    if isinstance(values, dict):
        return {name: _finite(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [_finite(value) for value in values]
    return None if isinstance(values, float) and not math.isfinite(values) else values


# What JSON that is not ours can raise: not UTF-8, not JSON, nested too deep.
DAMAGED_JSON = (ValueError, RecursionError)
# And arrays, besides: of a file that is cut short, no archive, or has another header.
DAMAGED_ARRAYS = (
    ValueError, KeyError, TypeError, EOFError, SyntaxError, OverflowError, MemoryError, NotImplementedError,
    zipfile.BadZipFile, zlib.error, tokenize.TokenError,
)  # fmt: skip


def read_json(path: Path) -> dict:
    """Reads a JSON file that holds an object; NaN and infinities, which JSON does not know, are None.

    Raises:
      OSError: it cannot be read.
      ValueError: it holds something else.
    """
    try:
        found = json.loads(path.read_bytes().decode("utf-8"), parse_constant=lambda name: None)
    except DAMAGED_JSON as error:
        raise ValueError(f"{path} is damaged: {reason(error)}") from error
    if not isinstance(found, dict):
        raise ValueError(f"{path} is damaged: it holds no table of names and values")
    return found


def write_arrays(path: Path, **arrays) -> None:
    """Writes arrays, compressed, as an .npz file in one move.

    Raises:
      OSError: it cannot be written.
    """
    import numpy as np  # here: usage errors do without

    replace(path, lambda file: np.savez_compressed(file, **arrays))


def read_arrays(path: Path) -> dict:
    """Reads all arrays of an .npz file, by name.

    Raises:
      OSError: it cannot be read.
      ValueError: it is no such file, or damaged.
    """
    import numpy as np  # here: usage errors do without

    content = io.BytesIO(path.read_bytes())  # what fails from here on is the content, and not the disk
    try:
        with np.load(content, allow_pickle=False) as stored:
            return {name: stored[name] for name in stored.files}
    except (*DAMAGED_ARRAYS, AttributeError, OSError) as error:  # AttributeError: a single array is no archive
        raise ValueError(f"{path} is damaged: {reason(error)}") from error


def reason(error: Exception) -> str:
    """Returns what an error says, on one line and not too long; its kind where it says nothing."""
    return " ".join(str(error).split())[:400] or type(error).__name__


def read_lines(path: Path, sound: Callable[[dict], bool] = lambda record: True) -> list[dict]:
    """Reads the records of a JSONL file; none where there is no file. NaN and infinities are None.

    A line that is no record is named on standard error and left out; not so the last one, where a kill cut it short.

    Args:
      path: the file.
      sound: whether a record has what is needed.

    Raises:
      OSError: it cannot be read.
    """
    if not path.exists():
        return []
    records, wrong = [], []
    lines = path.read_bytes().decode("utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        try:
            record = json.loads(line, parse_constant=lambda name: None)
        except DAMAGED_JSON:
            record = None
        if isinstance(record, dict) and sound(record):
            records.append(record)
        elif number < len(lines):
            wrong.append(number)
    if wrong:
        some = ", ".join(map(str, wrong[:5])) + ", ..." * (len(wrong) > 5)
        what = f"line {some} is damaged" if len(wrong) == 1 else f"lines {some} are damaged"
        _tell(f"{path}: {what} and left out")
    return records


class Growing:
    """A text file that grows line by line and, after `put`, is in its place: on the disk, or written whole to a bucket.

    Args:
      path: of the file.
      text: that it begins with, in place of whatever was there.

    Raises:
      OSError: it cannot be written; of all methods.
    """

    def __init__(self, path: Path, text: str):
        self._path = path
        write_text(path, text)
        self._far = io.StringIO(text) if buckets.is_far(path) else None
        self._file = self._far or path.open("a", encoding="utf-8")
        self._file.seek(0, io.SEEK_END)
        self._new = False

    def write(self, text: str) -> None:
        """Adds text."""
        self._file.write(text)
        self._new = True

    def put(self) -> None:
        """Has all of it in its place."""
        if self._far:
            if self._new:
                write_text(self._path, self._far.getvalue())
        else:
            self._file.flush()
            os.fsync(self._file.fileno())
        self._new = False

    def is_there(self) -> bool:
        """Tells whether it lies under its name: what is written to a file without one is lost."""
        if self._far:
            return True  # it is written whole
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._file.fileno()))
        except OSError:
            return False

    def close(self) -> None:
        """Closes it; what was not put may be lost."""
        self._file.close()


class Outbox:
    """A folder on the disk for what is written by programs that know no bucket.

    Args:
      folder: where it shall lie.

    Attributes:
      local: the folder to write to: the same one, or one of which `put` copies what is new to the bucket.
    """

    def __init__(self, folder: Path):
        self._far = buckets.Outbox(folder) if buckets.is_far(folder) else None
        self.local = self._far.local if self._far else folder

    def put(self) -> None:
        """Has all of it in its place."""
        if self._far:
            self._far.put()

    def close(self) -> None:
        """Has all of it in its place, for good."""
        if self._far:
            self._far.close()


@contextlib.contextmanager
def on_disk(path: Path) -> Iterator[Path]:
    """Gives a file on the disk: the same one, or a copy of one in a bucket, for as long as it is needed.

    Raises:
      OSError: it cannot be read.
    """
    if not buckets.is_far(path):
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="cnn_jax-") as folder:
        copy = Path(folder) / path.name
        buckets.fetch(path, copy)
        yield copy


def make_folder(folder: Path) -> None:
    """Makes a folder, and those that it lies in; a bucket has none to make.

    Raises:
      OSError: it cannot be made.
    """
    if not buckets.is_far(folder):
        folder.mkdir(parents=True, exist_ok=True)


def remove_folder(folder: Path) -> None:
    """Removes a folder and all in it, as far as it is there and can be removed."""
    if buckets.is_far(folder):
        buckets.remove(folder)
    else:
        shutil.rmtree(folder, ignore_errors=True)


STRETCH = 4096  # bytes


def checksum(array) -> int:
    """Returns a checksum of an array's bytes: the CRC-32 of the sums of its stretches of 4 KiB, and of what is left.

    It finds every change of a single number, and of several in a stretch all that leave another sum: of 2**64
    changes made at random one does not. A CRC of all bytes would take a fifth of the time in which a checkpoint is
    saved.
    """
    data = array.reshape(-1).view("u1")
    whole = data.size // STRETCH * STRETCH
    sums = data[:whole].view("u8").reshape(-1, STRETCH // 8).sum(1)  # modulo 2**64
    return zlib.crc32(data[whole:], zlib.crc32(sums))


def make_workdir(folder: Path) -> None:
    """Makes a folder to work in.

    Raises:
      UserError: it cannot be made.
    """
    with _workdir(folder):
        make_folder(folder)


@contextlib.contextmanager
def _workdir(folder):
    """Has an error say what the folder is for."""
    try:
        yield
    except OSError as error:
        link = f"{folder / '.lock'} is a symbolic link" if error.errno == errno.ELOOP else error.strerror
        raise UserError(
            f"cannot write to the workdir {folder}: {link}; choose another with --workdir=FOLDER"
        ) from error


@contextlib.contextmanager
def claimed(folder: Path):
    """Makes a folder and keeps other processes out of it.

    Raises:
      UserError: it cannot be written, or another process is running in it.
    """
    if buckets.is_far(folder):
        with leases.held(folder, log=_tell):
            yield
        return
    make_workdir(folder)
    with _workdir(folder):
        lock = _lock_file(folder / ".lock")
    with lock:
        if not _lock(lock):
            raise UserError(f"another process is running in {folder}: wait for it, or choose another --workdir")
        sweep(folder)
        try:
            yield
        finally:
            with contextlib.suppress(OSError):  # it may be gone, which is told elsewhere
                if list(folder.iterdir()) == [folder / ".lock"]:  # nothing came of it: leave no empty folder behind
                    (folder / ".lock").unlink()
                    folder.rmdir()


PARTIAL = re.compile(r"\..+\.[0-9a-f]{32}")  # what `replace` writes to


def sweep(folder: Path) -> None:
    """Removes what a process that was killed had begun to write; to be called by the only process that writes."""
    if buckets.is_far(folder):
        return  # nothing is half written there
    with contextlib.suppress(OSError):
        for path in folder.iterdir():
            if PARTIAL.fullmatch(path.name):
                path.unlink()


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
    with _lock_file(path) as file:
        if not _lock(file):
            _tell(f"waiting for another process to {what} ({path})")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _lock_file(path):
    """Opens a lock; a symbolic link, which others could have put there, is not followed."""
    return open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW, 0o666), "wb")


# Of file systems without locks, such as Lustre and NFS as they are often mounted.
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


def _lock(file):
    """Tells whether the lock was taken; where there are no locks, it is said and taken as it is."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in NO_LOCKS:
            raise
        _tell(f"the file system has no locks ({error.strerror}): see to it that no other process uses the same folder")
    return True


def _tell(line):
    print(printable(line), file=sys.stderr, flush=True)


def printable(text: str, lines: bool = False) -> str:
    """Returns a text, such as a file's name, with whatever a terminal would not show or would obey written as escapes.

    Args:
      text: any.
      lines: whether line feeds stay.
    """
    keep = lambda sign: sign.isprintable() or lines and sign == "\n"
    return "".join(sign if keep(sign) else sign.encode("unicode_escape").decode("ascii") for sign in text)


def cores() -> int:
    """Returns the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def free_bytes(folder: Path) -> int:
    """Returns the space left on the disk of a folder, which need not exist yet; a bucket has any amount."""
    if buckets.is_far(folder):
        return sys.maxsize
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def size(path: Path) -> int:
    """Bytes of a file.

    Raises:
      OSError: there is none.
    """
    return buckets.size(path) if buckets.is_far(path) else path.stat().st_size


def version(path: Path) -> str:
    """Returns what is another with every writing of a file: its size, and its time or number.

    Raises:
      OSError: there is none.
    """
    if buckets.is_far(path):
        return buckets.version(path)
    status = path.stat()
    return f"{status.st_size} {status.st_mtime_ns}"


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
    """Returns a number of bytes in a unit that suits it (1 GB = 10**9 bytes)."""
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{count / 1e6:,.1f} MB"
