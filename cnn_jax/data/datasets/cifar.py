"""CIFAR-10 as its authors publish it: one archive of binary files.

Each file is a row of records: the label, one byte, then 32x32 pixels of red, of green and of blue, rows first
(https://www.cs.toronto.edu/~kriz/cifar.html).
"""

import io
import tarfile
from pathlib import Path

import numpy as np

from cnn_jax.data.datasets import catalog, mnist
from cnn_jax.errors import UserError

FILES = {
    "train": tuple(f"cifar-10-batches-bin/data_batch_{number}.bin" for number in range(1, 6)),
    "test": ("cifar-10-batches-bin/test_batch.bin",),
}


def read_folder(name: str, folder: Path) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Returns images and labels of each split, from the published archive.

    Args:
      name: "cifar10".
      folder: where the archive lies.

    Returns:
      Split name to (uint8 images [N, 32, 32, 3], uint8 labels [N]).

    Raises:
      UserError: the archive is missing, damaged or not the published one.
    """
    facts = catalog.DATASETS[name]
    (file,) = facts.files.sha256
    if not (folder / file).is_file():
        raise UserError(f"{folder} lacks {file}, published at {facts.files.url}")
    raw = mnist.verified(name, file, (folder / file).read_bytes(), str(folder / file))
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        read = lambda member: np.frombuffer(archive.extractfile(member).read(), np.uint8)
        flat = {split: np.concatenate([read(member) for member in members]) for split, members in FILES.items()}
    height, width, channels = facts.shape
    arrays = {}
    for split, values in flat.items():
        values = values.reshape(-1, 1 + height * width * channels)
        images = values[:, 1:].reshape(-1, channels, height, width).transpose(0, 2, 3, 1)
        arrays[split] = (np.ascontiguousarray(images), values[:, 0])
    return arrays
