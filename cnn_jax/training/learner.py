"""R networks of one config, one for each seed, trained and measured together.

R = 1 is a run, R > 1 the seeds of a study's arm. The step is that of a single run: each seed has its own weights, order
of examples, augmentation and dropout, and ends where a run of its own would. With one seed nothing is stacked. With
several, every leaf of a state is [R, ...]; each device has its share of the seeds.
"""

import concurrent.futures
import dataclasses
import functools
import operator
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from cnn_jax import config
from cnn_jax.data.batches.feed import SpreadFeed, make_feed
from cnn_jax.data.batches.order import BatchOrder
from cnn_jax.data.datasets import catalog, source
from cnn_jax.data.facts import Facts
from cnn_jax.data.identity import Identity
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.devices import choice, processes
from cnn_jax.devices.mesh import Parallel, each_seed
from cnn_jax.errors import UsageError, UserError
from cnn_jax.models import outline, resolve_layout
from cnn_jax.models.summary import summarise
from cnn_jax.training import state as states
from cnn_jax.training.checkpoints import Checkpoints
from cnn_jax.training.evaluation import Evaluator
from cnn_jax.training.metrics import Evaluation
from cnn_jax.training.optimizer import make_optimizer, make_schedule
from cnn_jax.training.state import Report, TrainState, Variables
from cnn_jax.training.step import example_losses, forward, make_run, make_train_step, prepare_images

# Operations of a training example for one multiply-add of the network: two forwards, and twice that backwards.
FLOPS = 6


class Learner:
    """The networks, their devices, how they are trained and measured.

    Attributes:
      settings: the config, with the layout resolved; its seed is that of the first network.
      seeds: of the networks.
      parallel: the devices.
      image_shape: height, width, channels of what a network is given.
      facts: of the data.
      classes: number of classes.
      network: the model without parameters.
      optimizer: see `optimizer.make_optimizer`.

    Args:
      settings: the config.
      seeds: default: the config's own.
      training: the training set; None: nothing is trained.
      facts: of the data; None: of those that lie there now.
      rates: learning rates of the networks, in place of the config's; of several networks.

    Raises:
      UsageError: batches or seeds do not divide over the devices, a layer does not fit its input, or the run has no
        step.
    """

    def __init__(
        self,
        settings: config.Config,
        seeds: Sequence[int] | None = None,
        training: Dataset | None = None,
        facts: Facts | None = None,
        rates: Sequence[float] = (),
    ):
        # The step multiplies the schedule's rate by the plateau's factor anyway: one program serves all rates.
        self._factors = np.array([rate / settings.optimizer.learning_rate for rate in rates], np.float32)
        self.seeds = [settings.seed] if seeds is None else list(seeds)
        mode = choice.mode_for(settings, len(self.seeds))
        size = None if training is None else settings.train.batch_size
        self.parallel = Parallel(
            mode,
            size,
            accumulate=settings.optimizer.accumulate,
            seeds=len(self.seeds),
            deterministic=settings.train.deterministic,
        )
        spread = self.parallel.mode == "mesh" and len(self.seeds) == 1
        layout = resolve_layout(settings.model.layout, jax.default_backend(), spread)
        model = dataclasses.replace(settings.model, layout=layout)
        self.settings = dataclasses.replace(settings, model=model, seed=self.seeds[0])
        self.facts = facts = facts or source.facts(settings.data)
        self.image_shape = config.image_shape(settings.data, facts.shape)
        self.classes = facts.classes
        self.network = states.make_network(self.settings, self.image_shape, self.classes)
        self.optimizer = make_optimizer(settings.optimizer)
        self._measured: tuple[list, list[Evaluation]] | None = None
        if training is not None:
            self._prepare_training(training)

    def _prepare_training(self, dataset):
        settings, size = self.settings, self.settings.train.batch_size
        self.orders = orders = [BatchOrder(len(dataset.labels), size, seed) for seed in self.seeds]
        self.order = orders[0]
        self.training = dataset
        self.total = config.duration_steps(settings.train.duration, self.order.examples, size)
        if self.total < 1:
            raise UsageError(f"train.duration = {settings.train.duration!r} is less than one step of {size} examples")
        layers = [row.name for row in summarise(self.model) if row.parameters]
        strange = [name for name in settings.optimizer.factors if name not in layers]
        if strange:
            raise UsageError(
                f"optimizer.layers: there is no layer {', '.join(strange)} with parameters; there are "
                + ", ".join(layers)
            )
        rate = settings.optimizer.learning_rate
        self.schedule = make_schedule(settings.schedule, rate, self.total, self.order.examples, size)
        self.feed, self.placement = make_feed(settings.data.placement, dataset, orders, self.parallel)
        run = make_run(make_train_step(settings, self.network, self.schedule, self.optimizer), self.feed.pick)
        run = run if len(self.seeds) == 1 else functools.partial(_run_each, run, self.feed.axes)
        self.program = self.parallel.compile_run(run, self.feed.axes)
        self._worker = concurrent.futures.ThreadPoolExecutor(1)

    @functools.cached_property
    def model(self):
        """The network with shapes in place of numbers."""
        return outline(self.settings.model, self.image_shape, self.classes)

    @functools.cached_property
    def cost(self) -> "Cost":
        """The size of a network; nothing is computed."""
        rows = summarise(self.model)
        return Cost(sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows))

    @property
    def flops(self) -> int:
        """Floating-point operations of one training example, counted from the network's shapes."""
        return FLOPS * self.cost.multiply_adds

    @functools.cached_property
    def evaluator(self) -> Evaluator:
        """The compiled evaluation."""
        return Evaluator(self.settings, self.network, self.parallel)

    def _initial(self, seeds):
        parts = self.settings, self.image_shape, self.classes, self.optimizer
        one = functools.partial(states.initial_state, *parts)
        state = one(seeds) if len(self.seeds) == 1 else jax.vmap(one)(seeds)
        if not len(self._factors):
            return state
        factor = jnp.reshape(self._factors, state.plateau.factor.shape)
        return state._replace(plateau=state.plateau._replace(factor=factor))

    @property
    def _numbers(self):
        return self.seeds[0] if len(self.seeds) == 1 else np.array(self.seeds, np.int32)

    def initial(self) -> TrainState:
        """Returns the state before the first step."""
        # Run once, so compiled quickly: optimising it would take longer than all it does.
        quick = jax.jit(self._initial, compiler_options={"xla_backend_optimization_level": 0})
        return self.parallel.place(quick(self._numbers))

    def state_like(self) -> TrainState:
        """Shapes and placement of a state, to restore into."""
        return _placed(jax.eval_shape(self._initial, self._numbers), self.parallel.of_state)

    def variables_like(self) -> Variables:
        """Shapes and placement of what evaluation uses of one network, to restore into."""
        initial = functools.partial(states.initial_variables, self.settings, self.image_shape, self.classes)
        return _placed(jax.eval_shape(initial, 0), self.parallel.replicated)

    def begin(self, start: int, stop: int) -> concurrent.futures.Future:
        """Begins to fetch the data of steps start..stop-1."""
        return self._worker.submit(self.feed.stretch, start, stop)

    def advance(self, state: TrainState, data: dict, steps) -> tuple[TrainState, Report]:
        """Returns the state after a stretch of steps; the state that is given is used up.

        Args:
          state: of all networks.
          data: of the stretch, from `begin`.
          steps: how many, [R]; a network with 0 stays as it is.

        Returns:
          The state, and a report of it. A network whose loss or gradient is not finite stays at the step after. The
          devices may still be at work.
        """
        steps = np.asarray(steps, np.int32)
        return self.program(state, data, steps[0] if len(self.seeds) == 1 else steps)

    def each(self, tree) -> list:
        """Returns a tree of arrays [R, ...] (as they are for one network) as R trees of NumPy arrays."""
        tree = jax.device_get(tree)
        if len(self.seeds) == 1:
            return [tree]
        return [jax.tree.map(lambda leaf: leaf[k], tree) for k in range(len(self.seeds))]

    def joined(self, trees: list):
        """Returns the reverse of `each`, on the devices."""
        joined = trees[0] if len(trees) == 1 else jax.tree.map(lambda *leaves: np.stack(leaves), *trees)
        return self.parallel.place(joined)

    def evaluate(self, variables: Variables, dataset: Dataset) -> list[Evaluation]:
        """Returns every network measured on every example of a split; what was measured last is not measured again."""
        asked = [dataset, *jax.tree.leaves(variables)]
        if self._measured is None or not all(map(operator.is_, asked, self._measured[0])):
            self._measured = asked, self.evaluator(variables, dataset)
        return self._measured[1]

    def prepare_evaluation(self, variables: Variables, dataset: Dataset) -> None:
        """Begins to compile `evaluate`, where it will be called; a split goes where a spread training set is.

        Args:
          variables: of the same shapes and placement.
          dataset: the split.

        Raises:
          UserError: the devices have not enough memory left.
        """
        if isinstance(self.feed, SpreadFeed):
            self.evaluator.keep(dataset)
        self.evaluator.prepare(variables, dataset)

    def predict(self, variables: Variables, images: np.ndarray) -> np.ndarray:
        """Probabilities, float32 [R, N, classes], of images uint8 [N, H, W, C]."""
        unlabelled = Dataset(images, np.zeros(len(images), np.int32), (), "", "")
        return np.stack([found.probabilities for found in self.evaluator(variables, unlabelled)])

    def maps(self, variables: Variables, images: np.ndarray) -> dict[str, np.ndarray]:
        """Returns the maps of every layer, float32 [R, N, H, W, C], of a few images uint8 [N, H, W, C]."""
        seen = self._see(variables, images[None])
        alone = len(self.seeds) == 1
        return {name: np.asarray(value[None] if alone else value, np.float32) for name, value in seen.items()}

    def look(self, variables: Variables, images: np.ndarray) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Returns what one network makes of one image uint8 [1, H, W, C].

        Returns:
          The maps of every layer, float32 [height, width, channels]; the logits, float32 [K]; and what the last layer
          is given, float32 [units].
        """
        maps, logits, state = jax.device_get(self._look(variables, images))
        return {name: np.asarray(value[0], np.float32) for name, value in maps.items()}, logits[0], state[0]

    @functools.cached_property
    def _look(self):
        def one(variables, images):
            prepared = prepare_images(self.settings, images)
            logits, maps, _ = forward(self.settings, self.network, variables, prepared)
            model = self.network.model(variables)
            state = model.through(model.from_images(prepared), None, model.names[-2])
            return maps, logits.astype(jnp.float32), state.astype(jnp.float32)

        return jax.jit(one)

    @functools.cached_property
    def _see(self):
        def one(variables, images):
            prepared = prepare_images(self.settings, images)
            return forward(self.settings, self.network, variables, prepared)[1]

        if len(self.seeds) == 1:
            return jax.jit(lambda variables, images: one(variables, images[0]))
        return self.parallel.compile_evaluation(lambda variables, images: each_seed(one, variables, images[0]))

    def uphill(self, variables: Variables, images: np.ndarray, labels: np.ndarray) -> np.ndarray:
        """Returns the direction in which each pixel makes the loss grow, -1, 0 or 1: int8 [R, N, H, W, C].

        Args:
          variables: of all networks.
          images: uint8 [N, H, W, C].
          labels: [N].
        """
        found = []
        for start in range(0, len(images), self.settings.evaluation.batch_size):
            cut = slice(start, start + self.settings.evaluation.batch_size)
            signs = np.asarray(self._climb(variables, (images[cut], np.asarray(labels[cut], np.int32))))
            found.append(signs[None] if len(self.seeds) == 1 else signs)
        return np.concatenate(found, axis=1)

    @functools.cached_property
    def _climb(self):
        def one(variables, data):
            images, labels = data

            def loss(pixels):
                logits, *_ = forward(self.settings, self.network, variables, prepare_images(self.settings, pixels))
                return example_losses(self.settings, logits, jax.nn.one_hot(labels, self.classes)).sum()

            slope = jax.grad(loss)(images.astype(jnp.float32))
            return jnp.where(jnp.isfinite(slope), jnp.sign(slope), 0).astype(jnp.int8)

        if len(self.seeds) == 1:
            return jax.jit(one)
        return self.parallel.compile_evaluation(lambda variables, data: each_seed(one, variables, data))

    @property
    def watched(self) -> str:
        """The split that is measured in training."""
        return "validation" if source.validates(self.settings.data, self.facts) else "test"

    def checkpoints(self, folder: Path, keep: int | None = None) -> Checkpoints:
        """Returns the checkpoints in a folder: the latest and, of a run with a validation split, the best."""
        best = self.watched == "validation" and len(self.seeds) == 1
        return Checkpoints(folder, keep or self.settings.checkpoint.keep, best=best)

    def chosen(self, checkpoints: Checkpoints) -> tuple[Variables, int, str]:
        """Returns the variables that stand for the run, their step, and the rule that chose it.

        Raises:
          UserError: nothing is saved yet, or nothing sound.
        """
        found = checkpoints.restore_chosen(self.variables_like())
        if found is None:
            raise UserError(f"there is no checkpoint in {checkpoints.folder}: train first, with --mode=train")
        return found

    def close(self) -> None:
        """Stops what is done in the background."""
        self._worker.shutdown(cancel_futures=True)
        self.feed.close()


@dataclasses.dataclass(frozen=True)
class Cost:
    """The size of a network.

    Attributes:
      parameters: trainable numbers.
      multiply_adds: of one image.
    """

    parameters: int
    multiply_adds: int


def load(settings: config.Config, split: str, known: Identity | None = None) -> Dataset:
    """Returns one split of the data, which is fetched and prepared first where it has to be.

    Args:
      settings: of a run.
      split: "train", "validation" or "test".
      known: the data of the run, where they are; see `source.load`.
    """
    return processes.first_before_others(lambda: _load(settings, split, known))


def _load(settings, split, known):
    data = settings.data
    if not source.of(data).is_prepared():
        processes.log(f"{data.name} is not prepared in {catalog.data_root(data)}: getting it ready, once")
        processes.log(source.prepare(data, experiment=settings.experiment))
    return source.load(data, split, settings.experiment, known)


def _placed(abstract, sharding):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), abstract)


def _run_each(run, axes, state, data, count):
    """`run(state, data, count)` of each seed, with its own part of what has one."""
    own = {name: array for name, array in data.items() if axes[name] == 0}
    shared = {name: array for name, array in data.items() if name not in own}

    def one(parts, shared):
        state, own, count = parts
        return run(state, shared | own, count)

    return each_seed(one, (state, own, count), shared)
