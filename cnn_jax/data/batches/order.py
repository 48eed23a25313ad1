"""The examples that a step sees: a pure function of (seed, step), on any number of devices or processes.

Each epoch is a permutation of the training set, and the stream of examples runs on from one epoch into the next,
so no example is ever dropped and a batch may span epochs.
"""

import dataclasses
import functools

import numpy as np

from cnn_jax import randomness


def random_order(count: int, seed: int, purpose: int, part: int = 0) -> np.ndarray:
    """Returns a permutation that depends on nothing but the arguments.

    Args:
      count: length of the permutation.
      seed: 0 to 2**64 - 1.
      purpose: one of `randomness.HOST`.
      part: which permutation of the purpose, such as the epoch; below 2**48.

    Returns:
      int64 [count].
    """
    return np.argsort(randomness.words(seed, purpose, count, part), kind="stable")


@functools.lru_cache(maxsize=4)
def _epoch_order(examples, seed, epoch):
    order = random_order(examples, seed, randomness.TRAINING_ORDER, epoch).astype(np.int32)
    order.flags.writeable = False
    return order


@dataclasses.dataclass(frozen=True)
class BatchOrder:
    """The dataset indices of every training step.

    Attributes:
      examples: size of the training set, at least 1.
      batch_size: examples per step over all processes, at least 1; it may exceed `examples`.
      seed: the run's seed, from 0.

    Raises:
      ValueError: an attribute is out of range.
    """

    examples: int
    batch_size: int
    seed: int

    def __post_init__(self):
        for name, low in (("examples", 1), ("batch_size", 1), ("seed", 0)):
            if getattr(self, name) < low:
                raise ValueError(f"{name} = {getattr(self, name)} must be at least {low}")

    def batch(self, step: int) -> np.ndarray:
        """Indices of one step, int32 [batch_size]."""
        return self.batches(step, step + 1)[0]

    def batches(self, start: int, stop: int) -> np.ndarray:
        """Indices of steps start, ..., stop - 1, int32 [stop - start, batch_size].

        Raises:
          ValueError: not 0 <= start <= stop.
        """
        if not 0 <= start <= stop:
            raise ValueError(f"steps {start} to {stop} must satisfy 0 <= start <= stop")
        first, last = start * self.batch_size, stop * self.batch_size
        flat = np.empty(last - first, np.int32)
        for epoch in range(first // self.examples, -(-last // self.examples)):
            begin = epoch * self.examples  # position of the epoch's first example in the whole stream
            low, high = max(first, begin), min(last, begin + self.examples)
            flat[low - first : high - first] = _epoch_order(self.examples, self.seed, epoch)[low - begin : high - begin]
        return flat.reshape(stop - start, self.batch_size)

    def epoch(self, step: int) -> float:
        """Epochs completed before `step` begins."""
        return step * self.batch_size / self.examples
