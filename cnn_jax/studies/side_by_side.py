"""Networks of one config and several seeds, trained and asked in one program.

The step is that of a single run: each seed has its own weights, order of examples, augmentation and dropout, and ends
where a run of its own would. On several devices each takes its share of the seeds. An accelerator computes its seeds
together, by vmap. A CPU takes one after the other: a step fills its caches, and under vmap it is half as fast
(benchmarks/seeds.py). It is one program all the same, compiled once. Each core is then a device of its own, since the
matrices of a small network are too small to be shared by cores.
"""

import concurrent.futures
import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from cnn_jax import config
from cnn_jax.data.batches import feed as feeds
from cnn_jax.data.batches.order import IndexPlan
from cnn_jax.data.datasets.source import Dataset
from cnn_jax.devices.mesh import Parallel
from cnn_jax.errors import UsageError
from cnn_jax.models import outline
from cnn_jax.models.summary import summarise
from cnn_jax.run import Session
from cnn_jax.training import state as states
from cnn_jax.training.evaluation import make_measure
from cnn_jax.training.optimizer import make_optimizer, make_schedule
from cnn_jax.training.state import TrainState, Variables
from cnn_jax.training.step import forward, make_train_step, prepare_images

STACKED = TrainState(seed=0, step=None, params=0, statistics=0, optimizer=0, ema=0, plateau=0, totals=0)
ASKED_BYTES = 64 * 2**20  # of the images in one dispatch of `Seeds.ask`, over all seeds


class Seeds:
    """The seeds of one config, side by side.

    Attributes:
      session: the network, as a single run on one device has it.
      numbers: the seeds.
      total: steps of a run.
      plan: which examples each step of the first seed sees.
      schedule: step to learning rate.
      most_steps: in one dispatch.

    Args:
      settings: the config; its own seed does not count.
      numbers: the seeds.
      dataset: the training set.

    Raises:
      UsageError: the devices do not divide the seeds.
    """

    def __init__(self, settings: config.Config, numbers: list[int], dataset: Dataset):
        self.numbers = numbers
        self.session = one_device(settings)
        self.settings = settings = self.session.settings
        self._parallel = spread(settings.parallel, len(numbers))
        plans = [IndexPlan(len(dataset.labels), settings.train.batch_size, number) for number in numbers]
        self.plan = plans[0]
        self.total = config.duration_steps(settings.train.duration, self.plan.examples, self.plan.batch_size)
        if self.total < 1:
            raise UsageError(f"train.duration = {settings.train.duration!r} is less than one step")
        self.schedule = make_schedule(
            settings.schedule,
            settings.optimizer.learning_rate,
            self.total,
            self.plan.examples,
            self.plan.batch_size,
        )
        self._optimizer = make_optimizer(settings.optimizer)
        self._feed = _Feed(settings.data.placement, dataset, plans, self._parallel)
        self.most_steps = self._feed.most_steps
        step = make_train_step(settings, self.session.network, self.schedule, self._optimizer)
        self._run = _run_of(step, self._feed)
        self._worker = concurrent.futures.ThreadPoolExecutor(1)
        self._measure = make_measure(settings, self.session.network)
        self._answer = self._parallel.over_seeds(self._answers)
        self._see = self._parallel.over_seeds(self._maps)

    @property
    def name(self) -> str:
        """Of the group: its seeds."""
        return f"{self.numbers[0]}-{self.numbers[-1]}"

    def initial(self) -> TrainState:
        """The states before the first step: leaves are [seeds, ...], but for `step`."""
        parts = self.session.image_shape, self.session.classes, self._optimizer
        one = functools.partial(states.initial_state, self.settings, *parts)
        quick = jax.jit(jax.vmap(one, out_axes=STACKED), compiler_options={"xla_backend_optimization_level": 0})
        return self.placed(quick(np.array(self.numbers, np.int32)))

    def placed(self, state: TrainState) -> TrainState:
        """States on the devices, each with its share of the seeds."""
        spread, everywhere = self._parallel.split, self._parallel.replicate
        return TrainState(*(everywhere(x) if axis is None else spread(x, 0) for axis, x in zip(STACKED, state)))

    def begin(self, start: int, stop: int) -> concurrent.futures.Future:
        """Starts to fetch the data of steps start..stop-1."""
        return self._worker.submit(self._feed.stretch, start, stop)

    def compiled(self, state: TrainState, data: dict):
        """The program `(state, data, steps) -> (state, finite [seeds])`, and the bytes it takes.

        It reuses the buffers of the state.
        """
        return self._parallel.compile_seeds(self._run, state, data, STACKED, self._feed.axes)

    def ask(self, variables: Variables, images: np.ndarray, labels: np.ndarray | None = None):
        """Probabilities, float32 [seeds, N, classes]; with labels [N] also the losses, float32 [seeds, N].

        Args:
          variables: leaves [seeds, ...].
          images: uint8 [N, H, W, C].
          labels: [N].
        """
        each, count = self.settings.evaluation.batch_size, len(images)
        fitting = ASKED_BYTES // (each * len(self.numbers) * images[0].nbytes)
        batches = max(1, min(fitting, -(-count // each)))
        targets = np.zeros(count, np.int32) if labels is None else labels
        results = []
        for start in range(0, count, batches * each):
            index = np.minimum(np.arange(start, start + batches * each), count - 1).reshape(batches, each)
            batch = images[index], targets[index], index.astype(np.int32)
            results.append(jax.device_get(self._answer(variables, batch)))
        losses, probabilities = (np.concatenate(part, axis=1)[:, :count] for part in zip(*results))
        return probabilities if labels is None else (probabilities, losses)

    def _answers(self, variables, batches):
        def answer(variables, batches):
            return lax.map(functools.partial(self._measure, variables), batches)

        results = for_each_seed(answer, variables, batches)  # [seeds, batches, examples, ...]
        return jax.tree.map(lambda x: x.reshape(x.shape[0], -1, *x.shape[3:]), results)

    def maps(self, variables: Variables, images: np.ndarray) -> dict[str, np.ndarray]:
        """The maps of every layer, float32 [seeds, N, height, width, channels], of a few images."""
        return {name: np.asarray(value, np.float32) for name, value in self._see(variables, images).items()}

    def _maps(self, variables, images):
        def see(variables, images):
            return forward(self.settings, self.session.network, variables, prepare_images(self.settings, images))[1]

        return for_each_seed(see, variables, images)

    def close(self) -> None:
        """Stops what is done in the background."""
        self._worker.shutdown(cancel_futures=True)
        self._feed.close()


def one_device(settings: config.Config) -> Session:
    """The session of a single run on one device: its network is that of every seed, wherever it is placed.

    Raises:
      UsageError: a layer does not fit its input.
    """
    session = Session(dataclasses.replace(settings, parallel="jit"))
    session.settings = dataclasses.replace(session.settings, parallel=settings.parallel)
    return session


@dataclasses.dataclass(frozen=True)
class Cost:
    """The size of a network.

    Attributes:
      parameters: trainable numbers.
      multiply_adds: of one image.
    """

    parameters: int
    multiply_adds: int


def cost(session: Session) -> Cost:
    """The size of a session's network; nothing is computed."""
    rows = summarise(network_of(session))
    return Cost(sum(row.parameters for row in rows), sum(row.multiply_adds for row in rows))


def network_of(session: Session):
    """A session's network, with shapes in place of numbers."""
    return outline(session.settings.model, session.image_shape, session.classes)


def spread(mode: str, seeds: int) -> Parallel:
    """The devices that share the seeds.

    Raises:
      UsageError: they cannot share them evenly.
    """
    parallel = Parallel(mode)
    devices = len(parallel.devices)
    if seeds % devices:
        raise UsageError(
            f"{seeds} seeds do not divide over {devices} devices: set study.seeds or study.together to a multiple of "
            f"{devices}, or use --parallel=jit for one device"
        )
    return parallel


def for_each_seed(function, stacked, *shared):
    """`function(one, *shared)` for each seed; results are stacked.

    Args:
      function: of one seed.
      stacked: what each seed has of its own, [seeds, ...].
      shared: what all have in common.
    """
    ways = {name: functools.partial(way, function) for name, way in WAYS.items()}
    return lax.platform_dependent(stacked, *shared, **ways)


def _together(function, stacked, *shared):
    return jax.vmap(function, in_axes=(0, *[None] * len(shared)))(stacked, *shared)


def _one_by_one(function, stacked, *shared):
    return lax.map(lambda one: function(one, *shared), stacked)


WAYS = {"cpu": _one_by_one, "default": _together}


def _run_of(step, feed):
    """`run(state, data, count) -> (state, finite)` for stacked states, as `step.make_run` for one."""

    def train(one, shared, count):
        def body(i, carry):
            state, finite = carry
            state, now = step(state, feed.pick(shared | own, i))
            return state, finite & now

        state, own = one
        # A seed whose loss is not finite stays so, and costs the others nothing: no need to stop.
        return lax.fori_loop(0, count, body, (state, jnp.bool(True)))

    def run(state, data, count):
        own = {name: array for name, array in data.items() if feed.axes[name] == 0}
        shared = {name: array for name, array in data.items() if name not in own}
        stacked = state._replace(step=jnp.broadcast_to(state.step, state.seed.shape))
        states, finite = for_each_seed(train, (stacked, own), shared, count)
        return states._replace(step=states.step[0]), finite

    return run


class _Feed:
    """One feed for each seed; what is the same for all is there once.

    Attributes:
      axes: for each array of a stretch, 0 where every seed has its own, else None.
      most_steps: the longest stretch.
    """

    def __init__(self, placement, dataset, plans, parallel):
        kind, self.why = feeds.choose(placement, dataset, parallel)
        # Each puts its part together on the host; it is spread with those of the other seeds.
        self._feeds = [kind(dataset, plan, parallel) for plan in plans]
        self._parallel = parallel
        self.pick, self.most_steps = kind.pick, self._feeds[0].most_steps
        self.axes = {name: None if axis is None else 0 for name, axis in kind.axes.items()}
        self._shared = parallel.replicate(kind.shared(dataset))

    def stretch(self, start, stop):
        """The data of steps start..stop-1, spread over the devices."""
        parts = [feed.arrays(start, stop) for feed in self._feeds]
        own = {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        return self._shared | {name: self._parallel.split(array, 0) for name, array in own.items()}

    def close(self):
        for feed in self._feeds:
            feed.close()
