"""A stored split decoded to one memory-mapped file.

    <folder>/<split>_<side>.npy          uint8 [N, side, side, channels]
    <folder>/<split>_<side>.json         what it was decoded from, how far it is, and what could not be decoded
    <folder>/<split>_<side>.sums         a checksum of each stretch of it
    <folder>/<split>_<side>.npy.partial  while it is being built

It is written piece by piece in stored order; after a kill the next start goes on from the last whole piece. The file
is trusted only while it fits what it was decoded from, and each stretch only when its checksum was found right, at its
first use in a process; otherwise it is made anew. With a sound one neither TFDS nor Pillow is imported.
"""

import dataclasses
import io
import json
import os
import sys
from pathlib import Path

import numpy as np

from cnn_jax import files
from cnn_jax.data.images.reader import ImageSource, LazyImages, Unreadable
from cnn_jax.errors import UserError
from cnn_jax.progress import Counter

PIECE_BYTES = 2**26  # written, and marked as done, at a time
STRETCH_BYTES = 2**17  # that a checksum is of, in whole images: no more than a disk reads ahead for one of them
OTHER_WAYS = (
    "--set data.placement=stream (no cache, decodes at every use) or --set data.data_dir=FOLDER (on another disk)"
)


class Damaged(Exception):
    """A stretch of a cache is not what was written."""


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
        self._sums = folder / f"{stem}.sums"
        self._shape = (len(source.labels), *source.shape)
        self.nbytes = int(np.prod(self._shape))
        self._stretch = max(1, STRETCH_BYTES // int(np.prod(source.shape)))  # images
        self._told = False

    def is_complete(self) -> bool:
        """Tells whether the file is there, whole, and decoded from what the source reads now."""
        notes = self._read_notes()
        whole = notes is not None and notes["done"] == self._shape[0] and not self._partial.exists()
        return whole and self._mapped() is not None and (self._known_sums() is not None or not notes.get("stretch"))

    def build(self, workers: int, processes: bool = False) -> None:
        """Decodes what is still to be decoded; black stands for what cannot be.

        Args:
          workers: threads or processes; 0: one for each core.
          processes: whether processes decode.

        Raises:
          UserError: the disk has no room, or fails.
        """
        if self.is_complete():
            return
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with files.locked(self.path.with_suffix(".lock"), f"decode {self._source.title}"):
                if not self.is_complete():  # by another process, meanwhile
                    self._build(workers, processes)
        except OSError as error:
            raise UserError(
                f"cannot write the decoded images to {self.path} ({error.strerror or error}); the same command goes on "
                f"from there, or take another way: {OTHER_WAYS}"
            ) from error

    def _build(self, workers, processes):
        notes = self._read_notes()
        resumable = notes is not None and self._partial.is_file() and notes.get("stretch") == self._stretch
        sums = self._known_sums(notes["done"]) if resumable else None
        if sums is None:
            notes, sums, resumable = {"done": 0, "unreadable": {}}, np.zeros(0, np.uint32), False
        head = _npy_head(self._shape)
        image_bytes = self.nbytes // self._shape[0]
        done, unreadable = notes["done"], dict(notes["unreadable"])
        what = f"the decoded images of {self._source.title}"
        files.check_space(self.path.parent, (self._shape[0] - done) * image_bytes, what, OTHER_WAYS)

        def blank(row, reason):
            unreadable[str(row)] = reason
            return np.zeros(self._source.shape, np.uint8)

        reader = LazyImages(self._source, np.arange(self._shape[0]), workers, processes=processes, instead=blank)
        piece = max(1, PIECE_BYTES // image_bytes // self._stretch) * self._stretch
        begin = lambda start: reader.begin(np.arange(start, min(start + piece, self._shape[0])))
        title = f"decoding {self._source.title}, once, to {self.path}{', by processes' * processes}"
        mode = "r+b" if resumable else "wb"
        with (
            open(self._partial, mode) as file,
            open(self._sums, mode) as sums_file,
            Counter(title, self._shape[0], done) as counter,
        ):
            file.write(head)
            file.seek(len(head) + done * image_bytes)
            sums_file.seek(sums.nbytes)
            coming = begin(done) if done < self._shape[0] else None
            while done < self._shape[0]:
                images = coming.result()
                following = done + len(images)
                coming = begin(following) if following < self._shape[0] else None
                file.write(images)  # not through the mapping: a full disk would end the process there
                sums_file.write(self._checksums(images))
                for each in (file, sums_file):
                    each.flush()
                    os.fdatasync(each.fileno())
                counter.advance(len(images))
                done = following
                self._write_notes(done, unreadable)
        os.replace(self._partial, self.path)

    def _checksums(self, images):
        parts = range(0, len(images), self._stretch)
        return np.array([files.checksum(images[start : start + self._stretch]) for start in parts], "<u4")

    def _known_sums(self, done=None):
        """The checksums of the stretches of the first images, uint32; None where they are not there."""
        count = -(-(self._shape[0] if done is None else done) // self._stretch)
        try:
            found = np.fromfile(self._sums, "<u4")
        except OSError:
            return None
        return found[:count] if len(found) >= count else None

    def discard(self, reason: Exception) -> None:
        """Has the file made anew by the next `build`, and says so."""
        if not self._told:
            self._told = True
            print(f"{self.path} is damaged ({reason}): its images are decoded anew", file=sys.stderr, flush=True)
        self._notes.unlink(missing_ok=True)

    def source(self) -> ImageSource:
        """Returns the images, from the file; those of a damaged stretch are decoded, and the next start makes it anew.

        Raises:
          UserError: it is not complete.
        """
        mapped, unreadable = self._whole(), self._read_notes()["unreadable"]
        sums = self._known_sums()
        state = np.zeros(-(-self._shape[0] // self._stretch), np.int8)  # of each stretch: 1 sound, -1 damaged

        def read(row):
            if str(row) in unreadable:
                raise Unreadable(unreadable[str(row)])
            number = row // self._stretch
            if not state[number]:
                try:
                    self._check(mapped, sums, number)
                    state[number] = 1
                except Damaged as error:
                    self.discard(error)
                    state[number] = -1
            if state[number] > 0:
                return mapped[row]
            return self._source.read(self._source.fetch([row])[0])

        return dataclasses.replace(self._source, read=read, fetch=list)

    def images(self) -> np.ndarray:
        """Returns all images of the file, uint8 [N, H, W, C], read-only; black where one could not be decoded.

        Raises:
          UserError: it is not complete.
          Damaged: it is not what was written.
        """
        mapped, sums = self._whole(), self._known_sums()
        for number in range(-(-self._shape[0] // self._stretch)):
            self._check(mapped, sums, number)
        return mapped

    def _whole(self):
        mapped = self._mapped() if self.is_complete() else None
        if mapped is None:
            raise UserError(f"{self.path} is not complete: start again to build it")
        return mapped

    def _check(self, mapped, sums, number):
        """Raises Damaged where the checksum of a stretch is wrong; without checksums, as before November 2026, not."""
        first = number * self._stretch
        part = mapped[first : first + self._stretch]
        if sums is not None and files.checksum(part) != sums[number]:
            raise Damaged(f"the checksum of images {first:,} to {first + len(part) - 1:,} is wrong")

    def _mapped(self):
        head = _npy_head(self._shape)
        try:
            with open(self.path, "rb") as file:
                if file.read(len(head)) != head or os.fstat(file.fileno()).st_size != len(head) + self.nbytes:
                    return None
            mapped = np.memmap(self.path, np.uint8, "r", len(head), self._shape)
        except (OSError, ValueError):  # gone, or empty, meanwhile
            return None
        # A plain array over the mapping: np.memmap's own class makes every slice slower.
        return np.asarray(mapped)

    def _read_notes(self):
        """Reads the notes on how far decoding is; None if there are none, or they are of another origin."""
        try:
            notes = files.read_json(self._notes)
        except (OSError, ValueError):
            return None
        done, unreadable = notes.get("done"), notes.get("unreadable")
        sound = type(done) is int and 0 <= done <= self._shape[0] and isinstance(unreadable, dict)
        return notes if sound and notes.get("origin") == self._source.origin else None

    def _write_notes(self, done, unreadable):
        notes = {"origin": self._source.origin, "done": done, "stretch": self._stretch, "unreadable": unreadable}
        files.replace(self._notes, lambda file: file.write(json.dumps(notes).encode()))


def _npy_head(shape):
    """The bytes before the elements of an .npy file, NumPy's format version 1.0."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "|u1", "fortran_order": False, "shape": shape})
    return head.getvalue()
