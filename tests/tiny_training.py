"""A training run small enough for a test, with every random and stateful part switched on."""

import functools

import jax
import numpy as np
import tiny_data

from cnn_jax import checks, config
from cnn_jax.config import overrides
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.training import state as states
from cnn_jax.training.learner import Learner
from cnn_jax.training.optimizer import plateau_init

STEPS = 20
EXAMPLES = 50  # no multiple of the batch: batches span epochs
IMAGE_SHAPE, CLASSES = (28, 28, 1), 10

RECIPE = config.Config(
    seed=3,
    model=config.LeNet(dropout=0.3, layout="CHWN"),
    data=config.Data(placement="device"),
    augment=config.Augment(shift=2, rotation=15.0),
    optimizer=config.Optimizer.of(
        name="sgd", learning_rate=0.05, momentum=0.9, weight_decay=1e-3, clip_norm=1.0, ema=0.9
    ),
    schedule=config.Schedule.of(name="cosine", warmup="5 steps"),
    train=config.Train(batch_size=16, duration=f"{STEPS} steps", label_smoothing=0.1),
    evaluation=config.Evaluation(every="8 steps", batch_size=16),
    checkpoint=config.Checkpoint(every="5 steps"),
    log=config.Log(every="3 steps", tensorboard=False),
    parallel="jit",
)
# For comparing programs whose sums have another order. The gradient of max pooling jumps where two elements of a window
# are nearly equal: a last digit of rounding then sends it to the other one, and 20 steps later losses differ by 6e-4.
# Which program meets such a pair, and when, depends on the CPU. Averages have no such jumps.
SMOOTH = "model.pool.kind=average"
PLAIN = ("model.dropout=0", "augment.shift=0", "augment.rotation=0", "train.label_smoothing=0", "optimizer.ema=0")


@functools.cache
def dataset(split: str = "train", count: int = EXAMPLES) -> Dataset:
    """A few digits; "validation" are some that "train" does not have."""
    images, labels = tiny_data.tiny_arrays(train=1000, test=count)["test" if split == "validation" else "train"]
    return Dataset(images[:count], labels[:count].astype(np.int32), tuple("0123456789"), "digits", split)


@functools.cache
def initial_weights(seed: int, layout: str, shape: tuple[int, int, int]):
    """`state.initial_variables` of the recipe, the parameters."""
    settings = overrides.apply(RECIPE, [f"model.layout={layout}"])
    initial = functools.partial(states.initial_variables, settings, shape, CLASSES)
    return jax.device_get(jax.jit(initial, compiler_options={"xla_backend_optimization_level": 0})(seed)).params


class TinyRun:
    """A learner on a few digits, step by step.

    Args:
      changes: overrides of `RECIPE`, as on the command line.
    """

    def __init__(self, *changes: str):
        self.learner = learner = Learner(overrides.apply(RECIPE, list(changes)), training=dataset())
        self.settings, self.parallel, self.network = learner.settings, learner.parallel, learner.network
        self.order, self.schedule, self.feed, self.run = learner.order, learner.schedule, learner.feed, learner.program
        self.feed.most_steps = STEPS

    def evaluator(self, variables, dataset):
        """The one network's evaluation."""
        (found,) = self.learner.evaluate(variables, dataset)
        return found

    @functools.cached_property
    def _first(self):
        # Weights drawn once for all runs of a test process; everything else of a first state is a copy or zero.
        shapes = self.learner.state_like()
        params = initial_weights(self.settings.seed, self.settings.model.layout, self.learner.image_shape)
        zero = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
        return zero._replace(
            seed=np.int32(self.settings.seed),
            params=params,
            ema=None if zero.ema is None else params,
            plateau=jax.device_get(plateau_init()),
        )

    def first_state(self):
        """The state before the first step; a copy, as the step takes its argument's memory."""
        return self.parallel.replicate(jax.tree.map(np.copy, self._first))

    def advance(self, state, steps: int):
        """The state after one stretch of so many steps."""
        start = int(state.step)
        state, report = self.run(state, self.feed.stretch(start, start + steps), np.int32(steps))
        assert report.finite
        return state

    def losses(self, state=None, steps: int = STEPS):
        """The loss of each step, float32 [steps], and the last state."""
        state, losses = self.first_state() if state is None else state, []
        for _ in range(steps):
            state = self.advance(state._replace(totals=self.parallel.replicate(states.zero_totals())), 1)
            losses.append(np.float32(state.totals.loss))
        return np.array(losses), state


def train_seeds(numbers: list[int], *changes: str):
    """Seeds of the recipe together: losses, float32 [steps, seeds], their last states, and the learner."""
    learner = Learner(overrides.apply(RECIPE, list(changes)), numbers, dataset())
    state, losses = learner.initial(), []
    zero = jax.device_get(states.zero_totals())
    for step in range(STEPS):
        state, report = learner.advance(state, learner.begin(step, step + 1).result(), np.ones(len(numbers)))
        assert np.all(report.finite)
        losses.append(np.asarray(state.totals.loss))
        state = state._replace(totals=learner.joined([zero] * len(numbers)))
    return np.array(losses), jax.device_get(state), learner


def assert_same_bits(one, other):
    """Every leaf of two states is equal to the bit."""
    one, other = (states.named_leaves(jax.device_get(tree)) for tree in (one, other))
    assert one.keys() == other.keys() and one
    different = [name for name in one if np.asarray(one[name]).tobytes() != np.asarray(other[name]).tobytes()]
    assert different == []


def folder_settings(path, *changes):
    """The settings of a short run of lenet_digits on the images in a folder; its caches lie beside that."""
    words = (
        "data.name=folder", f"data.path={path}", f"data.data_dir={path.parent}/data", "data.side=28",
        "data.validation=6", "train.batch_size=4", "train.duration=6 steps", "schedule.warmup=0 steps",
        "evaluation.every=3 steps",
    )  # fmt: skip
    return checks.settings("lenet_digits", [*words, *changes])
