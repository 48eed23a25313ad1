"""Images that are read when they are indexed: decoded on the spot, or taken from a memory-mapped cache."""

import concurrent.futures.process
import dataclasses
import functools
import sys
import threading
from collections.abc import Callable, Sequence

import numpy as np

from cnn_jax.data.images.workers import Workers
from cnn_jax.errors import UserError
from cnn_jax.files import cores

PIECE = 16  # images that a thread reads before it looks for other work; more of small ones:
PIECE_BYTES = 2**18
PIECE_OF_PROCESS = 32  # that a process reads: handing work to one takes as long as decoding a fifth of an image
AHEAD = 1024  # images that are begun before they are asked for: 192 MiB at 256x256, 2 s of decoding on 2 cores


class Unreadable(Exception):
    """An image that cannot be decoded; the message names it and says why."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """What is made of an image besides its pixels.

    Attributes:
      exif: whether it is turned as its EXIF data say.
      ground: what a transparent image is laid on, "white" or "black"; where nothing would show on it, on the other one.
        "none": transparency is dropped, and the colours below it show.
      channels: 3, or 1 for shades of grey.
    """

    exif: bool = True
    ground: str = "white"
    channels: int = 3


PUBLISHED = Reading(exif=False, ground="none")  # as ImageNet's recipes since 2012 and TFDS read


@dataclasses.dataclass(frozen=True)
class ImageSource:
    """One stored split whose images are read one by one.

    Attributes:
      title: what it is, such as "imagenet2012 train".
      shape: height, width and channels of every image.
      labels: int32 [N].
      read: what `fetch` gives for a row to uint8 [H, W, C]; raises Unreadable. Called from many threads, or processes.
      origin: what a cache of it depends on, ready for JSON.
      exact: whether all images are stored at that shape: then one that cannot be read is damage, never passed over.
      names: of each example, class and file such as "cat/1.png"; empty where they are known by number alone.
      fetch: rows, each from 0 to N - 1, to what is read of each; the rows themselves where nothing is gained by
        fetching several at once. Called from many threads, or processes.
    """

    title: str
    shape: tuple[int, int, int]
    labels: np.ndarray
    read: Callable[[int], np.ndarray]
    origin: dict
    exact: bool = False
    names: Sequence[str] = ()
    fetch: Callable[[list[int]], list] = list


class LazyImages:
    """Some rows of a source as an array of images: `images[index]` reads them, in threads or other processes.

    An image that cannot be read is named on standard error, and the next readable one of the same class, in the order
    of these rows and around their end, stands in for it wherever it is asked for; so labels hold, and the same images
    come out in every placement and after every restart.

    Attributes:
      shape: (N, H, W, C).
      dtype: uint8.
      nbytes: of all of them together.
      ahead: how many should be begun before they are asked for, that nobody who reads has to wait.

    Args:
      source: where they come from.
      rows: int [N], which ones.
      workers: threads or processes; 0: one for each core.
      corrupt: unreadable images that are put up with.
      processes: whether processes read them.
      instead: what is there in place of an image that cannot be read, of its place in `rows` and the reason; default:
        the next one of its class.
    """

    dtype = np.dtype(np.uint8)

    def __init__(
        self,
        source: ImageSource,
        rows: np.ndarray,
        workers: int = 0,
        corrupt: int = 0,
        processes: bool = False,
        instead: Callable[[int, str], np.ndarray] | None = None,
    ):
        self._source, self._rows, self._labels = source, rows, source.labels[rows]
        self._corrupt = corrupt
        self._unreadable: dict[int, str] = {}
        self._lock = threading.Lock()
        self._instead = instead or self._stand_in
        self._workers = workers or cores()
        read = functools.partial(_read, source.fetch, source.read)
        self._team = (Workers if processes else _Threads)(read, self._workers)
        self._piece = PIECE_OF_PROCESS if processes else PIECE
        self.ahead = max(AHEAD, 2 * self._workers * self._piece)
        self.shape = (len(rows), *source.shape)
        self.nbytes = int(np.prod(self.shape))

    @property
    def unreadable(self) -> dict[str, str]:
        """Why images could not be decoded, of those asked for so far, by name or else by number in the stored split."""
        names, rows = self._source.names, self._rows
        return {
            names[rows[place]] if names else f"example {rows[place]}": reason
            for place, reason in sorted(self._unreadable.items())
        }

    def __len__(self):
        return self.shape[0]

    def __getitem__(self, index) -> np.ndarray:
        """uint8 [..., H, W, C] for an index of any shape: an integer, a slice or an array of integers."""
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)))
        return self.begin(index).result()

    def __array__(self, dtype=None, copy=None):
        return np.asarray(self[:], dtype)

    def begin(self, index, ahead: bool = False) -> "PendingRead":
        """Begins to read in the background; the result is that of indexing.

        Args:
          index: as for indexing.
          ahead: whether others are begun as well, so that not all need to work on this one.

        Raises:
          IndexError: there is no such image.
        """
        index = np.asarray(index)
        flat = index.reshape(-1)
        if flat.size and not -len(self) <= flat.min() <= flat.max() < len(self):
            raise IndexError(f"index {flat.min()} to {flat.max()} is out of range for {len(self)} images")
        flat = flat % len(self) if flat.size else flat
        images = self._team.array((len(flat), *self.shape[1:]))
        most = max(self._piece, PIECE_BYTES // int(np.prod(self.shape[1:])))
        piece = most if ahead else max(1, min(most, -(-len(flat) // self._workers)))
        rows = self._rows[flat].tolist()
        starts = range(0, len(flat), piece)
        tasks = {start: self._team.submit(images, start, rows[start : start + piece]) for start in starts}

        def replace(place, reason):
            images[place] = self._instead(int(flat[place]), reason)

        return PendingRead(images.reshape(*index.shape, *self.shape[1:]), tasks, replace)

    def _stand_in(self, position, reason):
        """The next image of the same class that can be read."""
        self._note(position, reason)
        same = np.flatnonzero(self._labels == self._labels[position])
        for other in np.roll(same, -np.searchsorted(same, position) - 1)[:-1].tolist():
            if other in self._unreadable:
                continue
            try:
                return self._source.read(self._source.fetch([int(self._rows[other])])[0])
            except Unreadable as error:
                self._note(other, str(error))
        raise UserError(f"{self._source.title} has no readable image of class {self._labels[position]}")

    def _note(self, position, reason):
        """Says, the first time, that an image cannot be read."""
        with self._lock:
            if position not in self._unreadable:
                self._unreadable[position] = reason
                self._tell(reason)

    def _tell(self, what):
        count = len(self._unreadable)
        if count > self._corrupt:
            raise UserError(
                f"{count} images of {self._source.title} cannot be decoded, the last {what}; "
                f"data.corrupt = {self._corrupt} puts up with {self._corrupt}"
            )
        note = f"{self._source.title}: cannot decode {what}; the next image of its class stands in ({count} so far)"
        print(note, file=sys.stderr, flush=True)


def _read(fetch, read, write, rows):
    """Reads rows one after the other into write(place, pixels); returns the places of those that cannot be read, each
    with the reason."""
    failures = []
    for place, item in enumerate(fetch(rows)):
        try:
            write(place, read(item))
        except Unreadable as error:
            failures.append((place, str(error)))
    return failures


class _Threads:
    """Threads that do what `Workers` do."""

    def __init__(self, read: Callable, count: int):
        self._read = read
        self._pool = concurrent.futures.ThreadPoolExecutor(count)  # starts no thread before the first task

    def array(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.empty(shape, np.uint8)

    def submit(self, images: np.ndarray, start: int, rows: list[int]) -> concurrent.futures.Future:
        def write(place, pixels):
            images[start + place] = pixels

        return self._pool.submit(self._read, write, rows)


@dataclasses.dataclass(frozen=True)
class PendingRead:
    """Images on their way.

    Attributes:
      images: the array they are written into.
      tasks: what has to end before it is complete, by the place of its first image: it tells which cannot be read.
      replace: writes something in the place of one of them, given the reason.
    """

    images: np.ndarray
    tasks: dict[int, concurrent.futures.Future]
    replace: Callable[[int, str], None]

    def result(self) -> np.ndarray:
        """Waits for the images.

        Raises:
          UserError: too many cannot be decoded.
        """
        try:
            for start, task in self.tasks.items():
                for place, reason in task.result():
                    self.replace(start + place, reason)
        except concurrent.futures.process.BrokenProcessPool:
            raise UserError(
                "a process that decodes images was ended from outside, as where memory is short: start again, with "
                "fewer (data.workers=4) or in threads (data.decoders=threads)"
            ) from None
        except BaseException:
            self.cancel()
            raise
        return self.images

    def cancel(self) -> None:
        """Reads no more than what has been begun."""
        for task in self.tasks.values():
            task.cancel()
