"""One training run, from its settings to its final measurement."""

import contextlib
import dataclasses
import functools
import os
from pathlib import Path

import jax

from cnn_jax import config, workdir
from cnn_jax.data.batches.feed import make_feed
from cnn_jax.data.batches.order import IndexPlan
from cnn_jax.data.datasets import catalog, source
from cnn_jax.devices import processes
from cnn_jax.devices.mesh import Parallel, a_device_for_each_core
from cnn_jax.errors import UsageError, UserError
from cnn_jax.models import outline, resolve_layout, torchvision
from cnn_jax.models.summary import summarise
from cnn_jax.progress import Clock, Silence, make_progress
from cnn_jax.training import loop
from cnn_jax.training import state as states
from cnn_jax.training.checkpoints import Checkpoints
from cnn_jax.training.evaluation import Evaluator, Outcome
from cnn_jax.training.metrics import MetricFiles, NoFiles
from cnn_jax.training.optimizer import make_optimizer, make_schedule
from cnn_jax.training.profile import Profile
from cnn_jax.training.step import make_run, make_train_step

# Operations of a training example for one multiply-add of the network: two forwards, and twice that backwards.
FLOPS = 6
SHARE = 16  # images of a batch, from which a core of its own for them is worth the exchange of gradients


class Session:
    """What every mode needs of a config: devices, network, evaluation.

    Attributes:
      settings: the config, with the layout resolved.
      parallel: the devices.
      image_shape: what the network is given.
      classes: number of classes.
      network: the model without parameters.

    Args:
      settings: the config.
      training: whether its batches must divide over the devices.

    Raises:
      UsageError: they do not, or a layer does not fit its input.
    """

    def __init__(self, settings: config.Config, training: bool = False):
        batch_size = settings.train.batch_size if training else None
        cores = len(jax.devices()) > 1 and jax.default_backend() == "cpu" and jax.process_count() == 1
        mode = "pmap" if cores and shares_cores(settings) else settings.parallel
        self.parallel = Parallel(mode, batch_size, accumulate=settings.optimizer.accumulate)
        layout = resolve_layout(settings.model.layout, jax.default_backend(), self.parallel.mode == "mesh")
        self.settings = dataclasses.replace(settings, model=dataclasses.replace(settings.model, layout=layout))
        self.image_shape = config.image_shape(settings)
        self.classes = catalog.facts(settings.data).classes
        self.network = states.make_network(self.settings, self.image_shape, self.classes)

    @functools.cached_property
    def evaluator(self) -> Evaluator:
        """The compiled evaluation."""
        return Evaluator(self.settings, self.network, self.parallel)

    def load(self, split: str) -> source.Dataset:
        """One split of the data, which is fetched and prepared first where it has to be."""
        return processes.first_before_others(lambda: self._load(split))

    def _load(self, split):
        data = self.settings.data
        if not source.is_prepared(data):
            processes.log(f"{data.name} is not prepared in {source.data_root(data)}: getting it ready, once")
            processes.log(source.prepare(data, experiment=self.settings.experiment))
        return source.load(data, split, self.settings.experiment)

    def variables_like(self) -> states.Variables:
        """Shapes and placement of what evaluation uses, to restore into."""
        initial = functools.partial(states.initial_variables, self.settings, self.image_shape, self.classes)
        return self.placed(jax.eval_shape(initial, 0))

    def placed(self, abstract):
        """Shapes with the placement of a state: in full on every device."""
        everywhere = self.parallel.replicated
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=everywhere), abstract)

    def checkpoints(self, folder: Path) -> Checkpoints:
        """The run's checkpoints: the latest, and the best where a validation split can tell."""
        return Checkpoints(folder, self.settings.checkpoint.keep, best=self.settings.data.validation > 0)

    def chosen(self, checkpoints: Checkpoints) -> tuple[int, str]:
        """The step whose parameters stand for the run, and the rule that chose it.

        Raises:
          UserError: nothing is saved yet.
        """
        step = checkpoints.best()
        if step is None:
            raise UserError(f"there is no checkpoint in {checkpoints.folder}: train first, with --mode=train")
        return step, "best validation accuracy" if checkpoints.scored(step) else "last step"


def shares_cores(settings: config.Config) -> bool:
    """Whether on a CPU the cores are devices, each with a replica, if the settings leave the choice open.

    They are for small networks, whose layout is open as well: a step is too short for all cores to work on one.
    """
    return settings.parallel == "auto" and settings.model.layout == "auto"


def use_cores(settings: config.Config) -> None:
    """Makes the cores devices for such a run; to be called before JAX looks for any."""
    parts = settings.train.batch_size // settings.optimizer.accumulate
    if shares_cores(settings):
        a_device_for_each_core(lambda devices: parts % devices == 0 and parts // devices >= SHARE)


def enable_compilation_cache() -> str:
    """Keeps compiled programs in the user's cache folder, so that the next start need not compile; says where."""
    folder = os.environ.get("JAX_COMPILATION_CACHE_DIR")
    if folder is None:
        folder = str(Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "cnn_jax" / "xla")
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
    except OSError as error:
        return f"off ({folder}: {error.strerror})"
    jax.config.update("jax_compilation_cache_dir", folder)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    return folder


@dataclasses.dataclass(frozen=True)
class Result:
    """The end of a run.

    Attributes:
      outcome: on the split.
      dataset: the split, "test" unless asked otherwise.
      variables: the parameters and statistics measured.
      step: of the parameters.
      rule: why that step.
    """

    outcome: Outcome
    dataset: source.Dataset
    variables: states.Variables
    step: int
    rule: str


def train(settings: config.Config, folder: Path, started: float, init_from: str = "", profile: bool = False) -> Result:
    """Trains, or continues, the run in a folder, and measures the result on the test split.

    Args:
      settings: the config.
      folder: the workdir, claimed by the caller.
      started: `time.perf_counter()` when the process began.
      init_from: where the initial parameters come from, see `taken_from`; "" for random ones.
      profile: whether to trace some steps.

    Raises:
      UserError: see the message.
    """
    session = Session(settings, training=True)
    asked, settings = settings, session.settings
    dataset = session.load("train")
    watched = session.load("validation" if settings.data.validation else "test")
    plan = IndexPlan(len(dataset.labels), settings.train.batch_size, settings.seed)
    total = config.duration_steps(settings.train.duration, plan.examples, plan.batch_size)
    if total < 1:
        raise UsageError(
            f"train.duration = {settings.train.duration!r} is less than one step of {plan.batch_size} examples"
        )
    rate = settings.optimizer.learning_rate
    schedule = make_schedule(settings.schedule, rate, total, plan.examples, plan.batch_size)
    optimizer = make_optimizer(settings.optimizer)
    feed, placement = make_feed(settings.data.placement, dataset, plan, session.parallel)
    step_function = make_train_step(settings, session.network, schedule, optimizer)
    checkpoints = session.checkpoints(folder)
    state = _first_state(session, optimizer, checkpoints, init_from)
    step = int(state.step)
    if processes.is_first():
        workdir.store_config(folder, asked)
        workdir.record_start(
            folder,
            asked,
            devices=[str(device) for device in session.parallel.devices],
            parallel=str(session.parallel),
            placement=placement,
            step=step,
        )
    what = f"{plan.examples:,} training images, {total:,} steps of {plan.batch_size}"
    processes.log(f"{settings.experiment}: {what}, in {folder}")
    processes.log(f"parallel: {session.parallel}; data: {placement}; layout {settings.model.layout}")
    if step == total:
        processes.log(f"already at its last step, {step:,}: nothing left to train")
    elif step:
        processes.log(f"continuing from step {step:,}")
    files = MetricFiles(folder, step, settings.log.tensorboard) if processes.is_first() else NoFiles()
    model = outline(settings.model, session.image_shape, session.classes)
    flops = FLOPS * sum(row.multiply_adds for row in summarise(model))
    parts = loop.Parts(
        settings=settings,
        plan=plan,
        feed=feed,
        run=session.parallel.compile_run(make_run(step_function, feed.pick), feed.axes),
        schedule=schedule,
        parallel=session.parallel,
        evaluator=session.evaluator,
        watched=watched,
        checkpoints=checkpoints,
        files=files,
        progress=make_progress(total, step) if processes.is_first() else Silence(total),
        clock=Clock(settings.train.batch_size, files.seconds, flops, 1e12 * settings.log.peak),
        profile=Profile(folder / "trace" if profile and processes.is_first() else None, processes.log),
        total=total,
    )
    with contextlib.closing(checkpoints):  # a save under way is finished also when the run ends in an error
        with contextlib.closing(feed), contextlib.closing(files), contextlib.closing(parts.profile):
            loop.train(parts, state, started)
        return measure(session, checkpoints, session.load("test"))


def measure(session: Session, checkpoints: Checkpoints, dataset: source.Dataset) -> Result:
    """The chosen parameters of a run on a split."""
    step, rule = session.chosen(checkpoints)
    variables = checkpoints.restore_variables(step, session.variables_like())
    return Result(session.evaluator(variables, dataset), dataset, processes.local_copy(variables), step, rule)


def _first_state(session, optimizer, checkpoints, init_from):
    """The state to start from: the last checkpoint, or fresh, with the parameters of another run if asked."""
    initial = functools.partial(states.initial_state, session.settings, session.image_shape, session.classes, optimizer)
    latest = checkpoints.latest()
    if latest is not None:
        return checkpoints.restore(latest, session.placed(jax.eval_shape(initial, session.settings.seed)))
    # Run once, so compiled quickly: optimising it would take longer than all it does.
    quick = jax.jit(initial, compiler_options={"xla_backend_optimization_level": 0})
    state = session.parallel.replicate(quick(session.settings.seed))
    if not init_from:
        return state
    params, statistics = taken_from(init_from, session, states.Variables(state.params, state.statistics))
    ema = None if state.ema is None else jax.tree.map(lambda x: x.copy(), params)
    return state._replace(params=params, statistics=statistics, ema=ema)


def taken_from(origin: str, session: Session, like: states.Variables) -> states.Variables:
    """The variables of another run, or of a network that PyTorch saved.

    Args:
      origin: a workdir, or a PyTorch state dict; see `interop`.
      session: the devices they are for.
      like: variables of the same structure.

    Raises:
      UserError: there are none, or they are of another network.
    """
    path = workdir.locate(origin)
    if path.is_file():
        processes.log(f"parameters from {path}")
        return states.Variables(session.parallel.replicate(torchvision.load_torch(path, like.params)), like.statistics)
    with contextlib.closing(Checkpoints(path, best=True)) as others:
        step = others.best()
        if step is None:
            raise UsageError(f"--init_from={origin}: there is no checkpoint in {others.folder}")
        processes.log(f"parameters from {others.folder / str(step)}")
        return others.restore_variables(step, like)
