"""A split of a dataset: its images, in memory or read as they are asked for, and their labels."""

import dataclasses

import numpy as np

from cnn_jax.data.images.reader import LazyImages


@dataclasses.dataclass(frozen=True)
class Dataset:
    """One split, decoded, at its stored size.

    Attributes:
      images: uint8 [N, H, W, C]; an array, read-only, or LazyImages, which read what is indexed.
      labels: int32 [N], read-only.
      class_names: what each label, from 0, stands for.
      name: the dataset, such as "mnist".
      split: "train", "validation" or "test".
      where: what the images are read from: "memory", "cache" (decoded on disk) or "stream" (decoded at every use).
      reason: why, for the log.
    """

    images: np.ndarray | LazyImages
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    split: str
    where: str = "memory"
    reason: str = ""
