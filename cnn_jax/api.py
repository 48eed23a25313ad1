"""The Python interface, for notebooks and scripts: everything here is also an attribute of `cnn_jax`.

    import cnn_jax

    settings = cnn_jax.settings("lenet_digits", "model.pool.kind=average")
    network = cnn_jax.build(settings)       # untrained; network(images) returns logits and maps
    run = cnn_jax.Run(settings, "runs/average")
    run.train(steps=100)                    # or to the end, without `steps`
    run.evaluate("test")["accuracy"]
    run.metrics("train")["loss"]            # one array a column
    run.predict(["a.png", "b.png"]).names
    cnn_jax.load("lenet_mnist").predict(["a.png"])  # a network that is already trained, see cnn_jax.pretrained()

The command line is written on it. What a user can put right is raised as a `UserError`, whose message
gives the way out.
"""

import contextlib
import dataclasses
import functools
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnn_jax import attribution, checks, config, files, leases, origins, run, run_data, trained, weights
from cnn_jax import workdir as folders
from cnn_jax.config import experiments as cards
from cnn_jax.config.run import Config
from cnn_jax.config.study import Study
from cnn_jax.data.datasets import source
from cnn_jax.data.facts import Facts
from cnn_jax.data.identity import Identity
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.data.images.pictures import Picture, read_picture
from cnn_jax.devices import accelerators, choice, processes
from cnn_jax.errors import UsageError, UserError  # noqa: F401
from cnn_jax.models import outline, resolve_layout, torchvision
from cnn_jax.models.network import Layers
from cnn_jax.models.summary import summarise, table
from cnn_jax.predictions import Predictions
from cnn_jax.signals import heard
from cnn_jax.training import learner as learners
from cnn_jax.training import loop, metrics
from cnn_jax.training import state as states
from cnn_jax.training.checkpoints import LAST
from cnn_jax.training.learner import Learner
from cnn_jax.training.metric_files import read_rows
from cnn_jax.training.state import TrainState, Variables
from cnn_jax.training.step import forward, prepare_images

Columns = dict[str, np.ndarray]  # a table; pandas.DataFrame(columns) makes a frame of it


def experiments() -> dict[str, str]:
    """Lists the experiments: the first line of each one's recipe card, by name."""
    return dict(cards.summaries())


def settings(experiment: str, *changes: str, sweep: str = "") -> Any:
    """Returns the settings of an experiment.

    Args:
      experiment: its name, see `experiments`, or the path of a file of your own.
      changes: settings to replace, as with --set: "optimizer.learning_rate=0.002", "seed=3".
      sweep: values to try of one setting, as with --sweep: "optimizer.learning_rate=0.1,0.03,0.01".

    Returns:
      A `Config` or, where the experiment is a study or has a sweep, a `Study`.

    Raises:
      UserError: there is no such experiment, or the changes cannot be read or do not go together.
    """
    for change in changes:
        if not isinstance(change, str):
            raise UsageError(f'changes are texts such as "seed=3", one after the other, not {change!r}')
    return checks.settings(experiment, changes, sweep)


def pretrained() -> dict[str, str]:
    """Lists the networks that are already trained: the first line of each one's recipe card, by name."""
    return {name: cards.recipe(_known(name).title).partition("\n")[0] for name in trained.names()}


def _known(name):
    known = weights.about(trained.path(name))
    assert known is not None  # a test looks at all of them
    return known


def load(origin: str | os.PathLike) -> "Network":
    """Returns a network with trained weights.

    Args:
      origin: the name of one that is already trained, see `pretrained`; a weight file; the workdir of a run; or a
        PyTorch state dict of torchvision's AlexNet.

    Raises:
      UserError: there is none, or it cannot be read.
    """
    text = os.fspath(origin)
    found = origins.settings(text)
    if not isinstance(found, Config):
        origins.find(text)
        raise UsageError(f"{text} does not say which network it is of: give its settings to Run and `init_from` there")
    if files.place(text, text).is_dir():
        return Run(found, text).network()
    with processes.silenced():
        return Run(found, known=run.data_of(text)).network(text)


def dataset(settings: Config, split: str = "test") -> Dataset:
    """Returns one split of the data, which is fetched and prepared first where it has to be.

    Args:
      settings: from `settings`.
      split: "train", "validation" or "test".

    Returns:
      images uint8 [N, height, width, channels], labels int32 [N], class_names, and more.

    Raises:
      UserError: the data are not there, and cannot be fetched.
    """
    _check_kind(settings, Config)
    _prepare(settings)
    _check_split(split)
    return learners.load(settings, split)


class Network:
    """A network with its weights: called with images, it returns logits and the maps of its layers.

    Attributes:
      settings: the config, its layout resolved.
      image_shape: height, width, channels of what the first layer reads.
      class_names: what each logit stands for.
      facts: of its data: the shape of stored images, the classes.
      variables: parameters and statistics, nested dicts of arrays by layer and name.
      about: what is known of them: their step, the figures they were measured with.
      layers: of the images and each layer: name, kind, output shape, parameters, multiply_adds.
    """

    def __init__(
        self,
        settings: Config,
        variables: Variables | None = None,
        facts: Facts | None = None,
        about: weights.About | None = None,
    ):
        """Builds it.

        Args:
          settings: from `settings`.
          variables: its weights; None: random ones, drawn from the settings' seed.
          facts: of its data; None: of those that lie there now.
          about: what is known of the weights; None: nothing.

        Raises:
          UserError: a layer does not fit its input.
        """
        _check_kind(settings, Config)
        _prepare(settings)
        model: Any = settings.model
        layout = resolve_layout(model.layout, jax.default_backend(), False)
        facts = facts or source.facts(settings.data)
        self.settings = dataclasses.replace(settings, model=dataclasses.replace(model, layout=layout))
        self.image_shape = config.image_shape(settings.data, facts.shape)
        self.class_names = facts.class_names
        self.facts = facts
        self.about = about or _nothing_known(
            settings, facts, "random weights" if variables is None else "weights of unknown origin"
        )
        parts = (self.settings, self.image_shape, facts.classes)
        self._network = states.make_network(*parts)
        self.layers = summarise(outline(self.settings.model, self.image_shape, facts.classes))
        self._initial = jax.jit(functools.partial(states.initial_variables, *parts))
        self._given = variables

    @functools.cached_property
    def variables(self) -> Variables:
        return self._initial(self.settings.seed) if self._given is None else self._given

    def __str__(self) -> str:
        """The table of layers."""
        return table(self.layers)

    def __call__(self, images) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Computes logits and maps; nothing is drawn at random.

        Args:
          images: uint8 [N, height, width, channels] as the dataset stores them, which are cut and normalised first; or
            floats [N, *image_shape] as the first layer reads them.

        Returns:
          Logits float32 [N, classes]; and by layer its maps, after the activation that follows, float32
          [N, height, width, channels].

        Raises:
          UserError: the images have another shape.
        """
        logits, maps = self._forward(self.variables, self._checked(images))
        names = [row.name for row in self.layers if row.name in maps]  # in the network's order
        return np.asarray(logits, np.float32), {name: np.asarray(maps[name], np.float32) for name in names}

    def trace(self, images) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Follows images through every part of the network, one after the other; nothing is drawn at random.

        Args:
          images: as for a call.

        Returns:
          The images as the first layer reads them, float32 [N, *image_shape]; and by name what each part puts out, the
          activations, flattening and dropout as well: float32 [N, height, width, channels] or [N, units].

        Raises:
          UserError: the images have another shape.
        """
        prepared, parts = self._trace(self.variables, self._checked(images))
        return np.asarray(prepared), {name: np.asarray(value) for name, value in parts.items()}

    @property
    def model(self) -> Layers:
        """The layers with their variables."""
        return self._network.model(self.variables)

    def predict(self, images: Sequence[str | os.PathLike] | np.ndarray, skip: bool = False) -> Predictions:
        """Returns the class probabilities of images; see `Run.predict`."""
        placed = self._learner.parallel.replicate(self.variables)
        return _predicted(self._learner, lambda: (placed, "those of this network"), images, skip)

    def evidence(self, image: np.ndarray, label: int | None = None, window: int = 0) -> attribution.Evidence:
        """Returns what an answer rests on: occlusion, gradient times input, and a class activation map.

        Args:
          image: uint8 [height, width, channels] as stored, or floats [*image_shape] as the first layer reads it.
          label: the class, from 0; None: the network's own answer.
          window: side of the patches that are covered, pixels; 0: a seventh of the image's.

        Raises:
          UserError: the image has another shape, or there is no such class.
        """
        logits, _ = self(np.asarray(image)[None])
        chosen = int(logits[0].argmax()) if label is None else label
        if chosen not in range(len(self.class_names)):
            raise UsageError(f"label = {label!r} must be from 0 to {len(self.class_names) - 1}")
        image = np.asarray(image)
        seen = np.asarray(prepare_images(self.settings, image[None]))[0] if image.dtype == np.uint8 else image
        return attribution.evidence(self.settings, self._network, self.variables, seen, chosen, window)

    def exciting(self, images: np.ndarray, layer: str, count: int = 9) -> attribution.Exciting:
        """Finds the images that excite each filter of a layer most, and where.

        Args:
          images: uint8 [N, height, width, channels] as stored.
          layer: one that has maps, such as "conv1".
          count: images for each filter.

        Raises:
          UserError: there is no such layer, or the images have another shape.
        """
        _, maps = self(np.asarray(images)[:1])
        if layer not in maps:
            raise UsageError(f"layer = {layer!r} must be one that has maps: {', '.join(maps)}")
        given = self.settings, self._network, self.variables, np.asarray(images)
        return attribution.exciting(*given, [layer], count)[layer]

    def report(self, path: str | os.PathLike, images: Sequence[str | os.PathLike]) -> None:
        """Writes an HTML page: the filters, pictures on their way through the network, its layers. Needs no test set.

        Args:
          path: of the page.
          images: paths of image files.

        Raises:
          UserError: a file cannot be read, or the page cannot be written.
        """
        from cnn_jax.reports.network.collect import Followed
        from cnn_jax.reports.network.page import write_network  # draws with matplotlib, which takes half a second

        pictures, _ = _read([os.fspath(name) for name in images], self._learner, skip=False)
        followed = [Followed(files.printable(name), "", picture.pixels) for name, picture in pictures.items()]
        write_network(path, self._learner, self.variables, self.about, followed)

    def export(self, path: str | os.PathLike, format: str = "") -> None:
        """Writes the network to a file that others read and, as its name with .md, a model card.

        Args:
          path: of the file; an existing one is replaced.
          format: "cnn_jax", .safetensors: the weights, and all that `load` needs to use them; "torchvision",
            .safetensors: of an `alexnet_owt`, its parameters as torchvision's state dict has them, without a card;
            "stablehlo", .stablehlo, and "onnx", .onnx: programs, see `cnn_jax.programs`, which need the extra `export`.
            "": by the ending, of .safetensors "cnn_jax".

        Raises:
          UserError: the format does not know such a network, a package is missing, or the file cannot be written.
        """
        chosen = weights.format_of(path, format)
        variables = jax.device_get(self.variables)
        if chosen == "torchvision":
            torchvision.save_torch(variables.params, os.fspath(path), self.class_names)
            return
        arrays = {name: np.asarray(leaf) for name, leaf in states.named_leaves(variables).items()}
        if chosen == "cnn_jax":
            content = weights.content(arrays, self.about)
        else:
            from cnn_jax import programs  # jax.export, which takes a moment

            make = {"stablehlo": programs.stablehlo, "onnx": programs.onnx}[chosen]
            content = make(self.settings, variables, self.facts, self.about.to_dict())
        weights.save(path, content, arrays, self.about)

    @functools.cached_property
    def _learner(self):
        return Learner(self.settings, facts=self.facts)

    def _checked(self, images):
        images = np.asarray(images)
        expected = self.facts.shape if images.dtype == np.uint8 else self.image_shape
        if images.shape[1:] != expected:
            kind = "uint8 images as stored" if images.dtype == np.uint8 else "floats as the first layer reads them"
            raise UsageError(
                f"images have the shape {images.shape}; {kind} must be [N, {', '.join(map(str, expected))}]"
            )
        return images

    @functools.cached_property
    def _forward(self):
        return jax.jit(
            lambda variables, images: forward(self.settings, self._network, variables, self._prepared(images))[:2]
        )

    @functools.cached_property
    def _trace(self):
        def compute(variables, images):
            prepared = self._prepared(images)
            return prepared, self._network.model(variables).outputs(prepared)

        return jax.jit(compute)

    def _prepared(self, images):
        return prepare_images(self.settings, images) if images.dtype == np.uint8 else images


def _nothing_known(settings, facts, rule):
    known = Identity(name=settings.data.name, shape=facts.shape, class_names=facts.class_names)
    return weights.About(settings=settings, identity=known, step=0, rule=rule)


def build(settings: Config) -> Network:
    """Builds the network of an experiment with random weights, which the settings' seed decides.

    Raises:
      UserError: a layer does not fit its input.
    """
    return Network(settings)


class Run:
    """A training run, in a folder that it can be continued from.

    What measures or shows a run raises a UserError where nothing is saved yet.

    Attributes:
      settings: the config.
      folder: where it lives.
    """

    def __init__(
        self,
        settings: Config | None = None,
        workdir: str | os.PathLike | None = None,
        *,
        started: float | None = None,
        known: Identity | None = None,
    ):
        """Opens a run; nothing is written before `train`.

        Args:
          settings: from `settings`; None: those of the run that is in the folder.
          workdir: its folder; None: runs/NAME, after the experiment.
          started: `time.perf_counter()` when the process began, for the log.
          known: what its data are, where the folder is on another machine; None: what the folder says.

        Raises:
          UserError: there is neither a run in the folder nor settings, or the folder cannot be read.
        """
        self.folder = _folder(settings, workdir)
        self.settings: Config = _of_kind(Config, settings or folders.stored_config(self.folder), self.folder)
        self._started = started
        self._known = known
        self._learner: Learner | None = None
        self._ended: tuple[TrainState, Dataset] | None = None  # the last step, and what was measured there
        self._is_claimed = False

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Keeps other processes from training in the folder.

        Raises:
          UserError: one does so already, or the folder cannot be written.
        """
        if self._is_claimed:
            yield
            return
        _prepare(self.settings)  # before JAX looks for devices, which the claim asks for
        with processes.claimed(self.folder):
            self._is_claimed = True
            try:
                yield
            finally:
                self._is_claimed = False

    def train(
        self,
        steps: int | None = None,
        *,
        callback: Callable[[dict], None] | None = None,
        progress: bool = True,
        init_from: str = "",
        fresh: Sequence[str] = (),
        signals: bool = False,
        profile: bool = False,
        profile_process: int = 0,
    ) -> int:
        """Trains, or continues, and saves the last step.

        Args:
          steps: how many; None: to the end. The schedules are those of the whole run either way.
          callback: is given each row of metrics.jsonl as soon as it is written.
          progress: whether to show a progress bar and log lines.
          init_from: where the initial parameters come from: a trained network (see `pretrained`), a weight file, a
            workdir, or a PyTorch state dict of torchvision's AlexNet; "": random ones.
          fresh: layers that begin with random numbers all the same, such as "output".
          signals: whether SIGTERM, SIGHUP and Ctrl-C save first, as on the command line. If not, Ctrl-C raises
            KeyboardInterrupt, as everywhere, and what was saved last is there.
          profile: whether to write a trace of some steps to the folder.
          profile_process: which of several processes writes it, on its own machine.

        Returns:
          The step it has come to.

        Raises:
          Interrupted: a signal came, and the run is saved.
          UserError: the settings do not fit the data or the run in the folder; loss or gradient is not a finite number;
            or see the message.
        """
        if steps is not None and (not isinstance(steps, int) or steps < 1):
            raise UsageError(f"steps = {steps!r} must be a whole number, 1 or more; None: to the end")
        if callback is not None and not callable(callback):
            raise UsageError(f"callback = {callback!r} must be a function of one row, a dict")
        folders.check_same_run(self.folder, self.settings, resume=True)
        checks.check_data(self.settings)
        known = run_data.same(self.folder, self.settings.data)
        place = _prepare(self.settings)
        if profile_process >= jax.process_count():
            raise UsageError(f"--profile_process={profile_process}: there are {jax.process_count()} processes, from 0")
        traced = profile and jax.process_index() == profile_process
        with self.claimed(), contextlib.nullcontext() if progress else processes.silenced():
            processes.log(f"compilation cache: {place}")
            training = learners.load(self.settings, "train", known)
            facts = known.facts if known else None
            with contextlib.closing(Learner(self.settings, training=training, facts=facts)) as learner:
                watched = learners.load(self.settings, learner.watched, known)
                self._learner = learner
                with contextlib.closing(learner.checkpoints(self.folder)) as checkpoints:
                    state = run.first_state(learner, checkpoints, init_from, fresh)
                    before = int(state.step)
                    run.begin(learner, self.settings, self.folder, before, known)
                    with heard(signals):
                        state = loop.train(
                            learner,
                            state,
                            checkpoints,
                            [self.folder],
                            watched,
                            last=None if steps is None else before + steps,
                            listen=callback or (lambda row: None),
                            profile=self.folder / "trace" if traced else None,
                            started=self._started,
                        )
                    run_data.note_unreadable(self.folder, training, watched)
                    chosen_by_none = learner.watched == "test" and int(state.step) == learner.total
                    self._ended = (state, watched) if chosen_by_none else None
                    return int(state.step)

    @property
    def identity(self) -> Identity | None:
        """What the run's data are; None where that is not known, as before it was trained."""
        return self._known or run_data.stored(self.folder)

    @property
    def learner(self) -> Learner:
        """The network on its devices."""
        if self._learner is None:
            _prepare(self.settings)
            known = self.identity
            self._learner = Learner(self.settings, facts=known.facts if known else None)
        return self._learner

    def dataset(self, split: str = "test") -> Dataset:
        """Returns one split of the run's data, as `cnn_jax.dataset`; the images are those that it had in training.

        Raises:
          UserError: some of them are gone, or others.
        """
        _check_split(split)
        known = self.identity
        if known and known.splits:
            known.check(split, source.of(self.settings.data).files())
        return learners.load(self.settings, split, known)

    def unseen(self) -> tuple[Dataset | None, list[str]]:
        """Returns images of other data than the run's that it was neither trained on nor chosen by.

        Returns:
          (None, []) where the data that are there are those of the run; else the images, and how the data differ.

        Raises:
          UserError: there are none, or there are classes that the run does not know.
        """
        known = self.identity
        if not known or not source.of(self.settings.data).is_prepared():
            return None, []
        now = source.identity(self.settings.data)
        changed = known.differences(now)
        return (source.load_unseen(self.settings.data, known, now) if changed else None), changed

    def chosen(self, init_from: str = "") -> tuple[Variables, str]:
        """Returns the variables that stand for the run, and which those are, in words.

        Args:
          init_from: take these in their place, see `train`.
        """
        learner = self.learner
        if init_from:
            return run.taken_from(init_from, learner, learner.variables_like()), init_from
        variables, step, rule = self._stored()
        return variables, f"{rule}, step {step:,}"

    def _stored(self):
        """The variables that stand for the run, their step, and the rule that chose it."""
        with contextlib.closing(self.learner.checkpoints(self.folder)) as checkpoints:
            return self.learner.chosen(checkpoints)

    def measure(self, split: str = "test") -> run.Result:
        """Measures the parameters that stand for the run on every example of a split; returns all there is to know."""
        _check_split(split)
        if self._ended and split == "test":  # nothing is read again, or measured again
            state, dataset = self._ended
            return run.measured(self.learner, state.evaluated, dataset, int(state.step), LAST)
        with contextlib.closing(self.learner.checkpoints(self.folder)) as checkpoints:
            return run.measure(self.learner, checkpoints, self.dataset(split))

    def evaluate(self, split: str = "test", init_from: str = "") -> dict[str, Any]:
        """Returns every metric of a split: loss, accuracy (0 to 1), ...; None where one says nothing.

        Args:
          split: "test", "validation" or "train".
          init_from: measure these parameters in place of the run's, see `train`.
        """
        _check_split(split)
        (found,) = self.learner.evaluate(self.chosen(init_from)[0], self.dataset(split))
        return metrics.values(found)

    def measurements(self, *names: str, split: str = "test", init_from: str = "") -> dict[str, float]:
        """Returns what the measurements of these names find, by the names of docs/study.md; shares from 0 to 1.

        Args:
          *names: such as "corruptions", "fgsm" or "consistency".
          split: as for `evaluate`.
          init_from: likewise.

        Raises:
          UsageError: there is no such measurement, or it does not fit the run.
        """
        from cnn_jax.studies import measurements, measuring  # SciPy and more, which runs do without
        from cnn_jax.studies.measurements import storing

        _check_split(split)
        refused = measurements.refused(names, self.settings)
        if refused:
            raise UsageError("\n".join(refused))
        context = measuring.of_run(self.learner, self.chosen(init_from)[0], self.dataset(split))
        return {name: float(values[0]) for name, values in storing.columns(measuring.measure(names, context)).items()}

    def predict(
        self, images: Sequence[str | os.PathLike] | np.ndarray, skip: bool = False, init_from: str = ""
    ) -> Predictions:
        """Returns the class probabilities of images.

        Args:
          images: paths of image files, whose colour, size and polarity are handled; or uint8 [N, height, width,
            channels] as the dataset stores them.
          skip: whether files that cannot be read are passed over, as long as there are others; see
            `Predictions.unreadable`.
          init_from: use these parameters in place of the run's, see `train`.

        Raises:
          UserError: nothing is saved yet, a file cannot be read, or an array has another shape.
        """
        return _predicted(self.learner, lambda: self.chosen(init_from), images, skip)

    def write_answers(self, found: Predictions, path: str | os.PathLike) -> None:
        """Writes the answers to picture files: each file, its answer and the probability of every class.

        Args:
          found: from `predict`.
          path: a file that ends in .html, a page that shows each picture as it was given and as the network saw it;
            .csv; or .json.

        Raises:
          UserError: it ends otherwise, or cannot be written.
        """
        if Path(path).suffix != ".html":
            found.write_table(path)
            return
        from cnn_jax.reports.predictions.page import write_answers  # draws with matplotlib, which takes half a second

        seen = run.as_seen(self.settings, np.stack([picture.pixels for picture in found.pictures]))
        write_answers(os.fspath(path), cards.title(self.settings.experiment), found, seen)

    def network(self, init_from: str = "") -> Network:
        """Returns the network with the parameters that stand for the run.

        Args:
          init_from: take these in their place, see `train`.
        """
        facts = self.learner.facts
        if init_from:
            path = origins.find(init_from)
            about = weights.about(path) if path.is_file() else None
            return Network(self.settings, processes.local_copy(self.chosen(init_from)[0]), facts, about)
        variables, step, rule = self._stored()
        known = self.identity or source.identity(self.settings.data)
        about = run.about(self.settings, self.folder, known, step, rule)
        return Network(self.settings, processes.local_copy(variables), facts, about)

    def metrics(self, split: str | None = None) -> Columns:
        """Returns the rows of metrics.jsonl as columns: step, epoch, split, loss, ...; NaN where there is none.

        Args:
          split: only rows of "train", "validation" or "test"; None: all.
        """
        if split is not None:
            _check_split(split)
        rows = [row for row in read_rows(self.folder) if split in (None, row["split"])]
        return columns(rows)

    def export(self, path: str | os.PathLike, format: str = "") -> str:
        """Writes the parameters that stand for the run to a file that others read; see `Network.export`.

        Returns:
          Which parameters those are, in words.

        Raises:
          UserError: see there; or nothing is saved yet.
        """
        weights.format_of(path, format)
        network = self.network()
        network.export(path, format)
        return f"{network.about.rule}, step {network.about.step:,}"

    def report(self, result: run.Result | None = None, images: Sequence[str | os.PathLike | int] = ()) -> Path:
        """Writes report.html, and returns its path.

        Args:
          result: from `measure`; None: measure the test split now.
          images: those to follow through the network: paths of files, or numbers of test images. None: the first test
            image whose answer is right.

        Raises:
          UserError: nothing is saved yet, a file cannot be read, or there are not so many test images.
        """
        from cnn_jax.reports.run.collect import collect
        from cnn_jax.reports.run.report import write_report  # draws with matplotlib, which takes half a second

        result = result or self.measure()
        followed = self.followed(images, result.dataset)
        path = self.folder / "report.html"
        write_report(path, collect(self.settings, self.folder, result, self.learner, self.identity, followed))
        return path

    def followed(self, images: Sequence[str | os.PathLike | int], dataset: Dataset) -> list:
        """Returns images to follow through the network, a `Followed` each; see `report`.

        Args:
          images: paths of files, or numbers of images of a split.
          dataset: the split.
        """
        from cnn_jax.reports.network.collect import Followed, of_split

        found = []
        for each in images:
            name = str(each) if isinstance(each, int) else os.fspath(each)
            if name.isdecimal() and not os.path.lexists(name):
                found.append(of_split(dataset, int(name)))
            else:
                pictures, _ = _read([name], self.learner, skip=False)
                found.append(Followed(files.printable(name), "", pictures[name].pixels))
        return found


class StudyRun:
    """A study, in a folder that it can be continued from: arms and seeds, and the tables they add up to.

    Attributes:
      study: the study.
      folder: where it lives. `folder / "arms" / ARM / "seed-0"` is the workdir of a `Run`.
    """

    def __init__(self, settings: Study | None = None, workdir: str | os.PathLike | None = None):
        """Opens a study; nothing is written before `train`.

        Args:
          settings: from `settings`; None: those of the study that is in the folder.
          workdir: its folder; None: runs/NAME, after the experiment.

        Raises:
          UserError: there is neither a study in the folder nor settings, or the folder cannot be read.
        """
        self.folder = _folder(settings, workdir)
        self.study: Study = _of_kind(Study, settings or folders.stored_study(self.folder), self.folder)

    def plan(self) -> str:
        """Returns a table of what the study would do: its arms, their size, and what differs. Trains nothing.

        Raises:
          UserError: an arm has another number of parameters than the baseline and does not say why.
        """
        from cnn_jax.studies import runner  # SciPy and more, which runs do without

        choice.prepare(self.study.base, self.study.sizes)
        return runner.plan(self.study)

    def estimate(self) -> str:
        """Returns how long the study would take on this machine, in words; some steps are timed for that."""
        from cnn_jax.studies import runner

        choice.prepare(self.study.base, self.study.sizes)
        choice.enable_compilation_cache()
        return runner.estimate(self.study)

    def train(self, *, progress: bool = True, signals: bool = False, profile: bool = False) -> list[str]:
        """Trains and measures the arms that are not finished, and writes the tables.

        Other processes may do the same in the same folder: each takes a group of seeds that nobody works on.

        Args:
          progress: whether to show progress bars and log lines.
          signals: whether signals save first, see `Run.train`.
          profile: whether to write a trace of some steps of each arm.

        Returns:
          Why arms failed, a line each; the others are there.

        Raises:
          Interrupted: a signal came, and the study is saved.
          UserError: the settings do not fit the data or the study in the folder; or see the message.
        """
        from cnn_jax.studies import results, runner

        checks.check_data(self.study)
        known = run_data.same(self.folder, self.study.base.data)
        choice.prepare(self.study.base, self.study.sizes)
        quiet = contextlib.nullcontext() if progress else processes.silenced()
        with quiet, heard(signals):
            processes.log(f"compilation cache: {choice.enable_compilation_cache()}")
            failures = runner.run(self.study, self.folder, processes.log, profile, known)
            with leases.waited_for(self.folder):
                results.write(results.load(self.study, self.folder), self.folder)
            return failures

    def tables(self) -> dict[str, Columns]:
        """Returns the tables of the arms that are finished, as columns.

        "results": a row for each arm and seed. "summary": one for each arm, with its difference to the baseline.
        "figures": one for each arm and figure, with its interval. "comparisons": one for each comparison of a figure.
        "per_class": one for each arm, seed and class. "sweep": one for each arm, value and seed of a sweep. "costs":
        time and memory of each arm.
        """
        from cnn_jax.studies import results

        found = results.load(self.study, self.folder)
        made = {name: rows(found) for name, rows in results.TABLES.items()}
        return {name: columns(rows) for name, rows in made.items()}

    def __str__(self) -> str:
        """The arms and their differences to the baseline."""
        from cnn_jax.studies import results

        return results.text(results.load(self.study, self.folder))

    def report(self) -> Path | None:
        """Writes tables and report.html anew; returns the path of the latter, None where no arm is finished."""
        from cnn_jax.reports.study.report import write_report  # draws with matplotlib, which takes half a second
        from cnn_jax.studies import results

        found, path = results.load(self.study, self.folder), self.folder / "report.html"
        with leases.waited_for(self.folder):
            results.write(found, self.folder)
            if not found.arms:
                return None
            write_report(path, found, self.folder)
        return path


def _predicted(learner, chosen, images, skip) -> Predictions:
    """Probabilities of images; see `Run.predict`.

    Args:
      learner: the network on its devices.
      chosen: returns its variables, and which those are, in words; called when the images are read.
      images: paths or an array.
      skip: whether files that cannot be read are passed over.
    """
    facts = learner.facts
    if isinstance(images, str) or not hasattr(images, "__len__") or not len(images):
        raise UsageError(f"images must be a list of paths or an array, with at least one image, not {images!r:.80}")
    pictures: dict[str, Picture] = {}
    unreadable: dict[str, str] = {}
    if isinstance(images, np.ndarray):
        pixels = images
        if pixels.dtype != np.uint8 or pixels.shape[1:] != tuple(facts.shape):
            expected = ", ".join(map(str, facts.shape))
            raise UsageError(f"images must be uint8 [N, {expected}], and are {pixels.dtype} {list(pixels.shape)}")
    else:
        pictures, unreadable = _read([os.fspath(name) for name in images], learner, skip)
        pixels = np.stack([picture.pixels for picture in pictures.values()])
    variables, words = chosen()
    (found,) = learner.predict(variables, pixels)
    return Predictions(
        probabilities=found,
        class_names=facts.class_names,
        parameters=words,
        files=tuple(pictures),
        pictures=tuple(pictures.values()),
        unreadable=unreadable,
    )


def _read(names, learner, skip) -> tuple[dict[str, Picture], dict[str, str]]:
    """Picture files made ready, each once, and why others cannot be read, by name."""
    facts = learner.facts
    reading, drawn = source.reading(learner.settings.data, facts)
    pictures: dict[str, Picture] = {}
    unreadable: dict[str, str] = {}
    for name in names:
        try:
            pictures[name] = read_picture(name, facts.shape, reading, drawn)
        except UserError as error:
            unreadable[name] = str(error)
            if not skip or len(unreadable) == len(names):
                raise
    return pictures, unreadable


def columns(rows: Sequence[dict]) -> Columns:
    """Returns rows as columns; a number that is missing is NaN."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    return {name: _column([row.get(name) for row in rows]) for name in names}


def _column(values):
    if all(isinstance(value, int | float | np.number) or value is None for value in values):
        return np.array([np.nan if value is None else value for value in values])
    return np.array(values, object if None in values else None)


def _check_kind(settings, *kinds):
    if not isinstance(settings, kinds):
        raise UsageError(f"settings must be what cnn_jax.settings(EXPERIMENT) returns, not {settings!r:.80}")


def _check_split(split):
    if split not in source.SPLITS:
        raise UsageError(f"split = {split!r} must be one of {', '.join(source.SPLITS)}")


def _folder(settings, workdir) -> Path:
    if settings is None and workdir is None:
        raise UsageError("which one? Give its settings, or the workdir of one that was begun")
    if settings is not None:
        _check_kind(settings, Config, Study)
    if workdir is not None and not isinstance(workdir, str | os.PathLike):
        raise UsageError(f"workdir = {workdir!r} must be the path of a folder")
    text = os.fspath(workdir or f"runs/{cards.title(settings.experiment)}")
    return files.place(text, f"workdir = {text!r}")


def _of_kind(kind, found, folder):
    if isinstance(found, kind):
        return found
    what = "run" if kind is Config else "study"
    if found is None:
        raise UsageError(f"there is no {what} in {folder}: give the settings of a new one, or its workdir")
    opener = "StudyRun" if kind is Config else "Run"
    raise UsageError(f"these are the settings of {found.experiment}, which is no {what}: open it with {opener}")


def _prepare(settings: Config) -> str:
    """Makes JAX ready before it looks for devices; returns the place of the cache of compiled programs."""
    accelerators.tell_once()
    if not jax.distributed.is_initialized():
        choice.prepare(settings)
    return choice.enable_compilation_cache()
