"""Subsets of labelled examples, always the same ones: by a digest of each example, class by class.

A digest belongs to what an example is called, or to its number in a set that never changes, and not to its place in
a sorted list; so a subset has the proportions of the whole, and others that come to a folder move none that is there.
"""

import hashlib
import os
from collections.abc import Iterable

import numpy as np

from cnn_jax import randomness


def digests_of_names(names: Iterable[str]) -> np.ndarray:
    """Returns the digest of each name, the first eight bytes of its SHA-256 with the lowest first, uint64 [N]."""
    parts = b"".join(hashlib.sha256(os.fsencode(name)).digest()[:8] for name in names)
    return np.frombuffer(parts, "<u8").astype(np.uint64)


def digests_of_numbers(count: int, purpose: int = randomness.VALIDATION_SPLIT) -> np.ndarray:
    """Returns the digests of examples 0 to count - 1 of a set that never changes, uint64 [count].

    Args:
      count: how many.
      purpose: what they are for, one of `randomness.HOST`.
    """
    return randomness.words(0, purpose, count)


def stratified(labels: np.ndarray, size: int, digests: np.ndarray) -> np.ndarray:
    """Chooses an exact number of examples: of each class those of the smallest digests.

    Each class gives its exact share rounded down or up; the places left after rounding down go to the classes with
    the largest remainders, the lower label first on a tie.

    Args:
      labels: int [N], from 0.
      size: examples to choose, 0 to N.
      digests: uint64 [N].

    Returns:
      int64 [size], ascending indices into labels.
    """
    counts = np.bincount(labels)
    share, remainder = np.divmod(size * counts.astype(np.int64), max(len(labels), 1))
    share[np.argsort(-remainder, kind="stable")[: size - share.sum()]] += 1
    order = np.argsort(digests, kind="stable")
    ordered = labels[order]
    chosen = [order[ordered == label][:number] for label, number in enumerate(share)]
    return np.sort(np.concatenate(chosen)) if chosen else np.zeros(0, np.int64)


def shared(labels: np.ndarray, one_in: int, digests: np.ndarray) -> np.ndarray:
    """Chooses about one example in so many: those whose digest is below a threshold.

    Of each class at least one is chosen and, where it has two or more, one is left.

    Args:
      labels: int [N], from 0.
      one_in: of how many one is chosen, 2 or more.
      digests: uint64 [N].

    Returns:
      int64, ascending indices into labels.
    """
    chosen = digests < np.uint64(2**64 // one_in)
    for label in np.unique(labels):
        rows = np.flatnonzero(labels == label)
        chosen[rows[digests[rows].argmin()]] = True
        if len(rows) > 1:
            chosen[rows[digests[rows].argmax()]] = False
    return np.flatnonzero(chosen)
