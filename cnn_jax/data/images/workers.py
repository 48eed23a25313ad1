"""Processes that read images, for machines with many cores: in threads, decoding a JPEG holds Python's lock a tenth of
its time or more, and sixteen of them wait for each other.

They write into memory that is shared with this process, which only says what is wanted and hears that it is there: 0.03
ms for an image of 256x256, of five that decoding takes (`benchmarks/decoding.py`).
"""

import concurrent.futures.process
import contextlib
import dataclasses
import functools
import itertools
import mmap
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable

import numpy as np

MANY_CORES = 8  # from which on processes read faster than threads
IDLE_SECONDS = 300  # after which processes end that nobody needs; they are started again when somebody does
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)  # that a terminal or SLURM sends to all processes
LEFT_SECONDS = 1.0  # between looks whether the process is still there that they work for


def are_possible() -> bool:
    """Tells whether this system has memory that is shared as it is needed here: Linux does."""
    return hasattr(os, "memfd_create")


class Workers:
    """Processes that read the images of one source. They are started by the first task, and shared by all sources.

    Args:
      read: is given `write` and rows of the source, calls write(place, pixels) for each image, and returns anything. It
        is sent to the processes, once, with all that it holds.
      count: of processes.
    """

    def __init__(self, read: Callable, count: int):
        self._read, self._count = read, count

    @functools.cached_property
    def _source(self):
        import cloudpickle

        content = cloudpickle.dumps(self._read)
        number = os.memfd_create("cnn_jax-source")
        weakref.finalize(self, os.close, number)
        with open(number, "wb", closefd=False) as file:
            file.write(content)
        return _Shared(number)

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        """Returns memory for images, uint8, which `submit` takes; it is used anew when nobody needs it any more."""
        return _memory.array(shape)

    def submit(self, images: np.ndarray, start: int, rows: list[int]) -> concurrent.futures.Future:
        """Has rows of the source read into images[start : start + len(rows)]; the result is that of `read`.

        Args:
          images: from `array`.
          start: the first one.
          rows: of the source.
        """
        size = images[0].nbytes
        into = _Into(_memory.shared, _memory.offset_of(images) + start * size, size)
        try:
            future = self._begin(into, rows)
        except concurrent.futures.process.BrokenProcessPool:  # one was ended from outside, and whoever waited was told
            _pool.cache_clear()
            future = self._begin(into, rows)
        future.add_done_callback(lambda _: images)  # which is not used anew before, whoever gives it up
        return future

    def _begin(self, into, rows):
        pool = _pool(self._count)
        with _unheard():  # by processes that this starts
            return pool.submit(_work, self._source, into, rows)


@dataclasses.dataclass(frozen=True)
class _Shared:
    """A file in memory, which other processes reach through the one that has made it."""

    number: int
    process: int = dataclasses.field(default_factory=os.getpid)
    serial: int = dataclasses.field(default_factory=itertools.count().__next__)  # numbers of files come again

    def open(self, mode: int) -> int:
        return os.open(f"/proc/{self.process}/fd/{self.number}", mode)


@dataclasses.dataclass(frozen=True)
class _Into:
    """Where the first image goes, and the bytes of each."""

    memory: _Shared
    offset: int
    size: int


class _Memory:
    """Arrays in memory that other processes can write to."""

    def __init__(self):
        self._lock = threading.Lock()
        self._end = 0
        self._free: dict[int, list[mmap.mmap]] = {}  # pieces that nobody needs, by their size
        self._offsets: dict[int, int] = {}  # of the pieces, by the address of their first byte

    @functools.cached_property
    def shared(self):
        return _Shared(os.memfd_create("cnn_jax-images"))

    def array(self, shape):
        count = int(np.prod(shape))
        size = max(1, -(-count // mmap.PAGESIZE)) * mmap.PAGESIZE
        with self._lock:
            free = self._free.setdefault(size, [])
            mapped = free.pop() if free else self._more(size)
        whole = np.frombuffer(mapped, np.uint8)
        weakref.finalize(whole, free.append, mapped)  # views keep it alive, and so does who was handed its memory
        return whole[:count].reshape(shape)

    def _more(self, size):
        offset, self._end = self._end, self._end + size
        os.ftruncate(self.shared.number, self._end)
        mapped = mmap.mmap(self.shared.number, size, offset=offset)
        self._offsets[np.frombuffer(mapped, np.uint8).ctypes.data] = offset
        return mapped

    def offset_of(self, array):
        return self._offsets[array.ctypes.data]


_memory = _Memory()


@functools.cache
def _pool(count):
    import multiprocessing.resource_tracker

    import loky.backend.resource_tracker

    # Their start, which would come later, has the thread hear signals again.
    for tracker in (multiprocessing.resource_tracker, loky.backend.resource_tracker):
        tracker.ensure_running()
    return loky.ProcessPoolExecutor(count, timeout=IDLE_SECONDS, initializer=_start, initargs=(os.getpid(),))


@contextlib.contextmanager
def _unheard():
    """Holds signals back from this thread, and for good from the processes that it starts."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# What runs in the processes.


def _start(owner):
    """Leaves signals to the process that it works for, which saves first, and ends with that."""
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)

    def watch():
        while os.getppid() == owner:
            time.sleep(LEFT_SECONDS)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def _work(source, into, rows):
    number = _opened(into.memory)

    def write(place, pixels):
        if pixels.nbytes != into.size:
            raise ValueError(f"an image of {pixels.nbytes:,} bytes came in place of one of {into.size:,}")
        os.pwrite(number, np.ascontiguousarray(pixels), into.offset + place * into.size)

    return _loaded(source)(write, rows)


@functools.lru_cache(maxsize=8)
def _loaded(source):
    import cloudpickle

    with open(source.open(os.O_RDONLY), "rb") as file:
        return cloudpickle.load(file)


@functools.cache
def _opened(memory):
    return memory.open(os.O_RDWR)
