"""Images that are read when they are indexed: decoded on the spot, or taken from a memory-mapped cache."""

import concurrent.futures
import dataclasses
import sys
import threading
from collections.abc import Callable, Sequence

import numpy as np

from cnn_jax.errors import UserError
from cnn_jax.files import cores

PIECE = 16  # images that a thread reads before it looks for other work; more of small ones:
PIECE_BYTES = 2**18


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
      read: what `fetch` gives for a row to uint8 [H, W, C]; raises Unreadable. Called from many threads.
      origin: what a cache of it depends on, ready for JSON.
      exact: whether all images are stored at that shape: then one that cannot be read is damage, never passed over.
      names: of each example, class and file such as "cat/1.png"; empty where they are known by number alone.
      fetch: rows, each from 0 to N - 1, to what is read of each; the rows themselves where nothing is gained by
        fetching several at once. Called from many threads.
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
    """Some rows of a source as an array of images: `images[index]` reads them, in threads.

    An image that cannot be read is named on standard error, and the next readable one of the same class, in the order
    of these rows and around their end, stands in for it wherever it is asked for; so labels hold, and the same images
    come out in every placement and after every restart.

    Attributes:
      shape: (N, H, W, C).
      dtype: uint8.
      nbytes: of all of them together.

    Args:
      source: where they come from.
      rows: int [N], which ones.
      workers: threads; 0: one for each core.
      corrupt: unreadable images that are put up with.
    """

    dtype = np.dtype(np.uint8)

    def __init__(self, source: ImageSource, rows: np.ndarray, workers: int = 0, corrupt: int = 0):
        self._source, self._rows, self._labels = source, rows, source.labels[rows]
        self._corrupt = corrupt
        self._unreadable: dict[int, str] = {}
        self._lock = threading.Lock()
        self._workers = workers or cores()
        self._pool = concurrent.futures.ThreadPoolExecutor(self._workers)  # starts no thread before the first task
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

    def begin(self, index) -> "PendingRead":
        """Begins to read in the background; the result is that of indexing.

        Raises:
          IndexError: there is no such image.
        """
        index = np.asarray(index)
        flat = index.reshape(-1)
        if flat.size and not -len(self) <= flat.min() <= flat.max() < len(self):
            raise IndexError(f"index {flat.min()} to {flat.max()} is out of range for {len(self)} images")
        flat = flat % len(self) if flat.size else flat
        images = np.empty((len(flat), *self.shape[1:]), np.uint8)
        most = max(PIECE, PIECE_BYTES // int(np.prod(self.shape[1:])))
        piece = max(1, min(most, -(-len(flat) // self._workers)))
        tasks = [
            self._pool.submit(self._fill, images[start : start + piece], flat[start : start + piece])
            for start in range(0, len(flat), piece)
        ]
        return PendingRead(images.reshape(*index.shape, *self.shape[1:]), tasks)

    def _fill(self, images, positions):
        fetched = self._source.fetch(self._rows[positions].tolist())
        for image, position, item in zip(images, positions.tolist(), fetched, strict=True):
            image[...] = self._read(position, item)

    def _read(self, position, item):
        image = self._attempt(position, item)
        if image is not None:
            return image
        same = np.flatnonzero(self._labels == self._labels[position])
        for other in np.roll(same, -np.searchsorted(same, position) - 1)[:-1]:
            image = self._attempt(int(other), *self._source.fetch([int(self._rows[other])]))
            if image is not None:
                return image
        raise UserError(f"{self._source.title} has no readable image of class {self._labels[position]}")

    def _attempt(self, position, item):
        """The image at a position, None where it cannot be read; the first time, this is said."""
        if position in self._unreadable:
            return None
        try:
            return self._source.read(item)
        except Unreadable as error:
            with self._lock:
                if position not in self._unreadable:
                    self._unreadable[position] = str(error)
                    self._tell(str(error))
            return None

    def _tell(self, what):
        count = len(self._unreadable)
        if count > self._corrupt:
            raise UserError(
                f"{count} images of {self._source.title} cannot be decoded, the last {what}; "
                f"data.corrupt = {self._corrupt} puts up with {self._corrupt}"
            )
        note = f"{self._source.title}: cannot decode {what}; the next image of its class stands in ({count} so far)"
        print(note, file=sys.stderr, flush=True)


@dataclasses.dataclass(frozen=True)
class PendingRead:
    """Images on their way.

    Attributes:
      images: the array they are written into.
      tasks: what has to end before it is complete.
    """

    images: np.ndarray
    tasks: list[concurrent.futures.Future]

    def result(self) -> np.ndarray:
        """Waits for the images.

        Raises:
          UserError: too many cannot be decoded.
        """
        try:
            for task in self.tasks:
                task.result()
        except BaseException:
            self.cancel()
            raise
        return self.images

    def cancel(self) -> None:
        """Reads no more than what has been begun."""
        for task in self.tasks:
            task.cancel()
