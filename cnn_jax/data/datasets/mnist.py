"""The four IDX files MNIST and Fashion-MNIST are published as: fetching, checking and reading them.

The format (from LeCun's MNIST page): two zero bytes, a byte for the element type (0x08: unsigned byte), a byte for the
number of dimensions, each dimension as a big-endian 32-bit integer, then the elements in C order.
"""

import gzip
import hashlib
import math
import os
import struct
import urllib.request
import uuid
import zlib
from pathlib import Path

import numpy as np

from cnn_jax.data.datasets import catalog
from cnn_jax.errors import UserError

MAGIC = b"\0\0"  # what an IDX file begins with
UNSIGNED_BYTE = 0x08
PREFIXES = {"train": "train", "test": "t10k"}  # how the files of a split begin
TIMEOUT = 30  # seconds without an answer before a download is given up


def parse(raw: bytes, source: str) -> np.ndarray:
    """Returns the array in a decompressed IDX file of unsigned bytes.

    Args:
      raw: the file's bytes.
      source: the file's name, for messages.

    Returns:
      uint8, with the dimensions the file states.

    Raises:
      UserError: wrong magic number, or more or fewer elements than the dimensions say.
    """
    if len(raw) < 4 or raw[:2] != b"\0\0" or raw[2] != UNSIGNED_BYTE or not raw[3]:
        raise UserError(f"{source} is not an IDX file of unsigned bytes: it begins with {raw[:4].hex() or 'nothing'}")
    begin = 4 + 4 * raw[3]
    if len(raw) < begin:
        raise UserError(f"{source} is cut short: its {raw[3]} dimensions need {begin} bytes, and it has {len(raw)}")
    shape = struct.unpack(f">{raw[3]}I", raw[4:begin])
    expected = math.prod(shape)
    if len(raw) - begin != expected:
        sides = " x ".join(map(str, shape))
        raise UserError(f"{source} is damaged: it states {sides} = {expected} bytes, and {len(raw) - begin} follow")
    return np.frombuffer(raw, np.uint8, offset=begin).reshape(shape)


def verified(name: str, file: str, packed: bytes, source: str) -> bytes:
    """Returns the decompressed bytes of one published file, checked against its known checksum.

    Args:
      name: dataset, such as "mnist".
      file: the name the file was published under.
      packed: its bytes, compressed or, where the checksum is of what is inside, unpacked already.
      source: where they come from, for messages.

    Raises:
      UserError: they cannot be decompressed, or are not the published file's.
    """
    files = catalog.DATASETS[name].files
    again = f"fetch it again from {files.url}{file}"
    try:
        raw = packed if files.unpacked and packed.startswith(MAGIC) else gzip.decompress(packed)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UserError(f"{source} is not a complete gzip file ({error}): {again}") from None
    expected, got = files.sha256[file], hashlib.sha256(raw if files.unpacked else packed).hexdigest()
    if got != expected:
        of = "its decompressed bytes" if files.unpacked else "the file"
        raise UserError(
            f"{source} is not the published {name} file: sha256 of {of} expected {expected}, got {got}; {again}"
        )
    return raw


def read_folder(name: str, folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns images and labels of each split, from the four published files.

    Args:
      name: dataset, such as "mnist".
      folder: where they lie, compressed or unpacked; see `find`.

    Returns:
      Split name to (uint8 images [N, H, W, C], uint8 labels [N]).

    Raises:
      UserError: a file is missing, damaged or not the published one.
    """
    facts = catalog.DATASETS[name]
    paths = {file: find(name, folder, file) for file in facts.files.sha256}
    absent = [file for file, path in paths.items() if path is None]
    if absent:
        raise UserError(f"{folder} lacks {', '.join(absent)}, published at {facts.files.url}")
    arrays = {}
    for split, prefix in PREFIXES.items():
        published = f"{prefix}-images-idx3-ubyte.gz", f"{prefix}-labels-idx1-ubyte.gz"
        images_path, labels_path = (paths[file] for file in published)
        images, labels = (_read(name, file, paths[file]) for file in published)
        fit = images.shape[1:] == facts.shape[:2] and labels.shape == images.shape[:1]
        if not fit or labels.max(initial=0) >= facts.classes:
            raise UserError(
                f"{images_path} and {labels_path.name} do not fit together: shapes {images.shape}, {labels.shape}; "
                f"expected (N, {facts.shape[0]}, {facts.shape[1]}) and (N,), with labels below {facts.classes}"
            )
        arrays[split] = (images.reshape(-1, *facts.shape), labels)
    return arrays


def find(name: str, folder: Path, file: str) -> Path | None:
    """Returns where a published file lies in a folder, None if it does not.

    Where its checksum is of what is inside, it may be unpacked, then also under the names that copies of MNIST go by:
    with a point in place of the last hyphen but one, and in a folder of its own name.
    """
    found = [folder / file]
    if catalog.DATASETS[name].files.unpacked:
        plain = file.removesuffix(".gz")
        found += [folder / each / each for each in (plain, plain.replace("-idx", ".idx"))]
        found += [folder / plain, folder / plain.replace("-idx", ".idx")]
    return next((path for path in found if path.is_file()), None)


def download(name: str, folder: Path) -> None:
    """Fetches what is missing of the published files; each appears in the folder only once it is whole and verified.

    Raises:
      OSError, http.client.HTTPException: the network or the folder failed.
      UserError: the server sent something other than the published file.
    """
    files = catalog.DATASETS[name].files
    folder.mkdir(parents=True, exist_ok=True)
    for file in files.sha256:
        if (folder / file).is_file():
            continue
        with urllib.request.urlopen(files.url + file, timeout=TIMEOUT) as response:
            packed = response.read()
        verified(name, file, packed, files.url + file)
        partial = folder / f".{file}.{uuid.uuid4().hex}"
        try:
            partial.write_bytes(packed)
            os.replace(partial, folder / file)
        finally:
            partial.unlink(missing_ok=True)


def _read(name, file, path):
    try:
        packed = path.read_bytes()
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None
    return parse(verified(name, file, packed, str(path)), str(path))
