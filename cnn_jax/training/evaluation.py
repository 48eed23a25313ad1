"""Measuring a network: every example exactly once, at any batch size and on any number of devices."""

import concurrent.futures
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnn_jax import config, randomness, watchdog
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.devices.mesh import Parallel, each_seed
from cnn_jax.training.metrics import Evaluation
from cnn_jax.training.state import Network
from cnn_jax.training.step import example_losses, forward, prepare_crops, prepare_images

MOST_BATCHES = 20  # in one dispatch
DISPATCH_BYTES = 32 * 2**20  # of the images in one dispatch
MOST_QUEUED = 8  # dispatches in flight; virtual CPU devices stall on long queues


def make_measure(settings: config.Config, network: Network):
    """Returns the function `measure(variables, batch) -> (losses, probabilities)`, float32 [N] and [N, classes].

    A batch is images uint8 [N, H, W, C], labels int32 [N] and index int32 [N], of the examples in their split. With
    `evaluation.crops` or `evaluation.passes` above 1 the probabilities are means over crops and over draws of random
    pooling, and losses are the logarithms of those means. The draws go by the example's index alone: all networks and
    all devices have the same.

    Args:
      settings: the run's config.
      network: the model.
    """
    crops, passes = settings.evaluation.crops, settings.evaluation.passes

    def measure(variables, batch):
        images, labels, _ = batch
        logits, *_ = forward(settings, network, variables, prepare_images(settings, images))
        targets = jax.nn.one_hot(labels, logits.shape[-1])
        return example_losses(settings, logits, targets), _softmax(logits)

    def measure_mean(variables, batch):
        images, labels, index = batch
        views = prepare_crops(settings, images) if crops > 1 else prepare_images(settings, images)[None]

        def look(number):
            keys = _keys(number, index) if passes > 1 else None
            return _softmax(forward(settings, network, variables, views[number % crops], keys)[0])

        probabilities = jnp.mean(lax.map(look, jnp.arange(passes * crops)), axis=0)
        right = jnp.take_along_axis(probabilities, labels[:, None], axis=-1)[:, 0]
        return -jnp.log(jnp.maximum(right, jnp.finfo(jnp.float32).tiny)), probabilities

    return measure_mean if crops * passes > 1 else measure


def _keys(number, index):
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(0), randomness.EVALUATION), number)
    return jax.vmap(functools.partial(jax.random.fold_in, key))(index)


class Evaluator:
    """A compiled evaluation, of one network or of several seeds together.

    Args:
      settings: the run's config.
      network: the model.
      parallel: the devices.
    """

    def __init__(self, settings: config.Config, network: Network, parallel: Parallel):
        self._devices = len(parallel.devices) if parallel.seeds == 1 else 1  # that share a batch
        self._most = settings.evaluation.batch_size
        self._parallel = parallel
        measure = make_measure(settings, network)

        def every(variables, batches):
            return lax.map(functools.partial(measure, variables), batches)

        alone = parallel.seeds == 1
        self._outputs = parallel.compile_evaluation(every if alone else functools.partial(each_seed, every))
        self._gathered = parallel.compile_spread_evaluation(every) if alone else None
        self._kept: tuple[Dataset, jax.Array] | None = None
        self._compiler = concurrent.futures.ThreadPoolExecutor(1)  # starts no thread before the first task
        self._compiling: concurrent.futures.Future | None = None

    def prepare(self, variables, dataset: Dataset) -> None:
        """Begins to compile what `__call__` with such arguments needs, and waits for nothing; JAX keeps it.

        Args:
          variables: as for `__call__`; their numbers do not count.
          dataset: the split.
        """
        images = lambda index: np.zeros((*index.shape, *dataset.images.shape[1:]), np.uint8)
        program, arguments = self._asked(variables, dataset, np.zeros(self._sizes(dataset), int), images)
        place = lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=getattr(leaf, "sharding", None))
        like = jax.tree.map(place, arguments)
        self._compiling = self._compiler.submit(lambda: program.lower(*like).compile())

    def keep(self, dataset: Dataset) -> None:
        """Spreads the images of a split over the memory of the devices, where it is then measured.

        Raises:
          UserError: there is not enough of it.
        """
        if self._kept is None or self._kept[0] is not dataset:
            self._kept = None  # first, as there may not be room for both
            self._kept = dataset, self._parallel.spread(dataset.images)

    def _asked(self, variables, dataset, index, images):
        """The program that measures examples, and its arguments.

        Args:
          variables, dataset: as for `__call__`.
          index: of the examples, [batches, batch].
          images: of this process's part of the index.
        """
        own = index[:, self._parallel.part(index.shape[1])].astype(np.int32)
        rest = dataset.labels[own], own
        if self._kept and self._kept[0] is dataset:
            whole = self._parallel.replicate(index.astype(np.int32))
            return self._gathered, (variables, self._kept[1], whole, self._spread(rest))
        return self._outputs, (variables, self._spread((images(own), *rest)))

    def _sizes(self, dataset):
        """The batches of a dispatch, and their size."""
        total = len(dataset.labels)
        batch = -(-min(self._most, total) // self._devices) * self._devices
        fitting = DISPATCH_BYTES // (batch * int(np.prod(dataset.images.shape[1:])))  # no image is read for its size
        count = max(1, min(MOST_BATCHES, fitting, -(-total // batch)))
        return count, batch

    def __call__(self, variables, dataset: Dataset) -> list[Evaluation]:
        """The evaluation of each network on every example; copies that fill up the last batches do not count.

        Args:
          variables: of one network or, of several seeds, leaves [seeds, ...].
          dataset: the split.
        """
        count, batch = self._sizes(dataset)
        if self._compiling:
            self._compiling.result()
        total, size, results = len(dataset.labels), count * batch, []
        for start in range(0, total, size):
            index = np.minimum(np.arange(start, start + size), total - 1).reshape(count, batch)
            program, arguments = self._asked(variables, dataset, index, lambda own: dataset.images[own])
            watchdog.note()
            results.append(program(*arguments))
            if len(results) % MOST_QUEUED == 0:
                jax.block_until_ready(results[-1])
        seeds = self._parallel.seeds
        whole = lambda part: np.asarray(part).reshape(seeds, size, *part.shape[2 + (seeds > 1) :])
        losses, probabilities = (
            np.concatenate([whole(part) for part in parts], axis=1)[:, :total] for parts in zip(*results)
        )
        return [Evaluation(*each, dataset.labels) for each in zip(losses, probabilities)]

    def _spread(self, batches):
        return self._parallel.split(batches, 1) if self._parallel.seeds == 1 else batches


def _softmax(logits):
    return jax.nn.softmax(logits.astype(jnp.float32))
