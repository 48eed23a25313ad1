"""A split of a dataset: its images, in memory or read as they are asked for, and their labels."""

import dataclasses

import numpy as np

from cnn_jax.data import subsets
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
      digests: of the examples, uint64 [N]; None: a sample is of those that come first.
    """

    images: np.ndarray | LazyImages
    labels: np.ndarray
    class_names: tuple[str, ...]
    name: str
    split: str
    where: str = "memory"
    reason: str = ""
    digests: np.ndarray | None = None

    @property
    def unreadable(self) -> dict[str, str]:
        """Why images could not be decoded, of those asked for so far, by name; others of their class stand in."""
        return self.images.unreadable if isinstance(self.images, LazyImages) else {}

    def sample(self, count: int) -> np.ndarray:
        """Returns the indices of some of its examples, always the same ones, ascending; all where there are no more."""
        if count >= len(self.labels) or self.digests is None:
            return np.arange(min(count, len(self.labels)))
        return subsets.stratified(self.labels, count, self.digests)
