"""A stored split decoded to one memory-mapped file.

    <folder>/<split>_<side>.npy          uint8 [N, side, side, channels]
    <folder>/<split>_<side>.json         what it was decoded from, how far it is, and what could not be decoded
    <folder>/<split>_<side>.npy.partial  while it is being built

It is written piece by piece in stored order; after a kill the next start goes on from the last whole piece. The file
is trusted only while it fits what it was decoded from; otherwise it is made anew. With a sound one neither TFDS nor
Pillow is imported.
"""

import dataclasses
import io
import json
import os
from pathlib import Path

import numpy as np

from cnn_jax import files
from cnn_jax.data.images.reader import ImageSource, LazyImages, Unreadable
from cnn_jax.errors import UserError
from cnn_jax.progress import Counter

PIECE_BYTES = 2**26  # written, and marked as done, at a time
OTHER_WAYS = (
    "--set data.placement=stream (no cache, decodes at every use) or --set data.data_dir=FOLDER (on another disk)"
)


class Cache:
    """The decoded images of a source.

    Attributes:
      path: the memory-mapped file.
      nbytes: of the images.

    Args:
      source: what is decoded.
      folder: where the files go; made when it is needed.
      split: the stored split, with which their names begin.
    """

    def __init__(self, source: ImageSource, folder: Path, split: str):
        stem = f"{split}_{source.shape[0]}"
        self._source = source
        self.path = folder / f"{stem}.npy"
        self._partial = folder / f"{stem}.npy.partial"
        self._notes = folder / f"{stem}.json"
        self._shape = (len(source.labels), *source.shape)
        self.nbytes = int(np.prod(self._shape))

    def is_complete(self) -> bool:
        """Tells whether the file is there, whole, and decoded from what the source reads now."""
        notes = self._read_notes()
        whole = notes is not None and notes["done"] == self._shape[0] and not self._partial.exists()
        return whole and self._mapped() is not None

    def build(self, workers: int) -> None:
        """Decodes what is still to be decoded.

        Args:
          workers: threads; 0: one for each core.

        Raises:
          UserError: the disk has no room, or fails.
        """
        if self.is_complete():
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with files.locked(self.path.with_suffix(".lock"), f"decode {self._source.title}"):
                if not self.is_complete():  # by another process, meanwhile
                    self._build(workers)
        except OSError as error:
            raise UserError(
                f"cannot write the decoded images to {self.path} ({error.strerror or error}); the same command goes on "
                f"from there, or take another way: {OTHER_WAYS}"
            ) from error

    def _build(self, workers):
        notes = self._read_notes()
        resumable = notes is not None and self._partial.is_file()
        notes = notes if resumable else {"origin": self._source.origin, "done": 0, "unreadable": {}}
        head = _npy_head(self._shape)
        image_bytes = self.nbytes // self._shape[0]
        done, unreadable = notes["done"], dict(notes["unreadable"])
        what = f"the decoded images of {self._source.title}"
        files.check_space(self.path.parent, (self._shape[0] - done) * image_bytes, what, OTHER_WAYS)
        reader = LazyImages(_blanked(self._source, unreadable), np.arange(self._shape[0]), workers)
        piece = max(1, PIECE_BYTES // image_bytes)
        begin = lambda start: reader.begin(np.arange(start, min(start + piece, self._shape[0])))
        title = f"decoding {self._source.title}, once, to {self.path}"
        with open(self._partial, "r+b" if resumable else "wb") as file, Counter(title, self._shape[0], done) as counter:
            file.write(head)
            file.seek(len(head) + done * image_bytes)
            coming = begin(done) if done < self._shape[0] else None
            while done < self._shape[0]:
                images = coming.result()
                following = done + len(images)
                coming = begin(following) if following < self._shape[0] else None
                file.write(images)  # not through the mapping: a full disk would end the process there
                file.flush()
                os.fdatasync(file.fileno())
                counter.advance(len(images))
                done = following
                self._write_notes(done, unreadable)
        os.replace(self._partial, self.path)

    def source(self) -> ImageSource:
        """The same images, from the file.

        Raises:
          UserError: it is not complete.
        """
        mapped, unreadable = self.images(), self._read_notes()["unreadable"]

        def read(row):
            if str(row) in unreadable:
                raise Unreadable(unreadable[str(row)])
            return mapped[row]

        return dataclasses.replace(self._source, read=read, fetch=list)

    def images(self) -> np.ndarray:
        """All images as they lie in the file, uint8 [N, H, W, C], read-only; black where one could not be decoded.

        Raises:
          UserError: it is not complete.
        """
        mapped = self._mapped() if self.is_complete() else None
        if mapped is None:
            raise UserError(f"{self.path} is not complete: start again to build it")
        return mapped

    def _mapped(self):
        try:
            mapped = np.lib.format.open_memmap(self.path, mode="r")
        except (OSError, ValueError, EOFError):
            return None
        # A plain array over the mapping: np.memmap's own class makes every slice slower.
        return np.asarray(mapped) if mapped.shape == self._shape and mapped.dtype == np.uint8 else None

    def _read_notes(self):
        """Reads the notes on how far decoding is; None if there are none, or they are of another origin."""
        try:
            notes = json.loads(self._notes.read_text())
        except (OSError, ValueError):
            return None
        return notes if isinstance(notes, dict) and notes.get("origin") == self._source.origin else None

    def _write_notes(self, done, unreadable):
        found = dict(unreadable)  # a copy: threads add to it
        notes = {"origin": self._source.origin, "done": done, "unreadable": found}
        files.replace(self._notes, lambda file: file.write(json.dumps(notes).encode()))


def _blanked(source, unreadable):
    """The source with black in place of what cannot be decoded, which is noted by row."""

    def fetch(rows):
        return list(zip(rows, source.fetch(rows), strict=True))

    def read(item):
        row, fetched = item
        try:
            return source.read(fetched)
        except Unreadable as error:
            unreadable[str(row)] = str(error)
            return np.zeros(source.shape, np.uint8)

    return dataclasses.replace(source, read=read, fetch=fetch)


def _npy_head(shape):
    """The bytes before the elements of an .npy file, NumPy's format version 1.0."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return head.getvalue()
