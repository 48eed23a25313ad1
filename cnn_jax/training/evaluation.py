"""Measuring a network: every example exactly once, at any batch size and on any number of devices."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import config
from cnn_jax.data.source import Dataset
from cnn_jax.parallel import Parallel
from cnn_jax.training.state import Network
from cnn_jax.training.step import example_losses, forward, prepare_images

MOST_QUEUED = 16  # batches in flight; virtual CPU devices stall on long queues


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the network says of each example of a split.

    Attributes:
      losses: float32 [N].
      probabilities: float32 [N, classes].
      labels: int32 [N].
    """

    losses: np.ndarray
    probabilities: np.ndarray
    labels: np.ndarray

    @property
    def loss(self) -> float:
        """Mean loss."""
        return float(np.mean(self.losses, dtype=np.float64))

    @property
    def accuracy(self) -> float:
        """Top-1 accuracy, 0 to 1."""
        return float(np.mean(self.probabilities.argmax(-1) == self.labels, dtype=np.float64))


class Evaluator:
    """A compiled evaluation.

    Args:
      settings: the run's config.
      network: the model.
      parallel: the devices.
    """

    def __init__(self, settings: config.Config, network: Network, parallel: Parallel):
        devices = len(parallel.devices)
        self._batch = -(-settings.evaluation.batch_size // devices) * devices
        self._parallel = parallel

        def outputs(params, images, labels):
            logits, _ = forward(settings, network, params, prepare_images(settings, images))
            return example_losses(settings, logits, labels), jax.nn.softmax(logits.astype(jnp.float32))

        self._outputs = parallel.compile_evaluation(outputs)

    def __call__(self, params, dataset: Dataset) -> Outcome:
        """The outcome on every example; the last batch is filled up with copies that do not count."""
        total, results = len(dataset.labels), []
        for start in range(0, total, self._batch):
            index = np.minimum(np.arange(start, start + self._batch), total - 1)
            batch = self._parallel.split((dataset.images[index], dataset.labels[index]), 0)
            results.append(self._outputs(params, *batch))
            if len(results) % MOST_QUEUED == 0:
                jax.block_until_ready(results[-1])
        losses, probabilities = (
            np.concatenate([np.asarray(part) for part in parts])[:total] for parts in zip(*results)
        )
        return Outcome(losses, probabilities, dataset.labels)
