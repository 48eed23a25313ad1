"""Every setting of a run, its default and what it means. Nothing else in the project holds a default.

An experiment (experiments/NAME.py) returns a `Config`; `--set section.field=value` replaces single
fields (cnn_jax/overrides.py); `problems` checks the result as a whole. Nothing here imports jax.

Durations are strings such as "10 epochs", "500 steps" or "64000 examples"; `duration_steps` turns
them into optimiser steps once the size of the training set is known.
"""

import dataclasses
import math
import re
from dataclasses import field

from cnn_jax.data import catalog

DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(steps?|epochs?|examples?)")


def setting(default, *, identity: bool = True, choices: tuple | None = None, low=None, high=None):
    """A field with its rule.

    Args:
      default: the field's default value.
      identity: whether two runs that differ in it are different runs. Where data lies and how many devices
        share the work change no result, so a run may be resumed with other values of those.
      choices: the allowed values.
      low: the smallest allowed value.
      high: the largest allowed value.
    """
    return field(default=default, metadata={"identity": identity, "choices": choices, "low": low, "high": high})


@dataclasses.dataclass(frozen=True, kw_only=True)
class Padding:
    """How a convolution sees beyond the edge of its input."""

    mode: str = (
        "valid"  # valid, same, full, or pixels: "2", "2,1" (rows, columns), "0,3,0,3" (top, bottom, left, right)
    )
    fill: str = setting("zero", choices=("zero", "reflect", "replicate", "circular", "symmetric"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool:
    """A pooling layer."""

    kind: str = setting("max", choices=("max", "average", "min", "subsample"))
    window: int = setting(2, low=0)  # side of the square window, pixels; 0: the whole map (global pooling)
    stride: int = setting(2, low=1)  # step between windows; smaller than the window: overlapping pooling
    padding: str = "valid"  # as Padding.mode
    count_padding: bool = False  # average: divide by the whole window (True) or by its pixels inside the map (False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeNet:
    """Two convolutions, two poolings, three dense layers: the LeNet of the Keras notebook."""

    name: str = setting("lenet", choices=("lenet",))
    activation: str = setting("tanh", choices=("tanh", "scaled_tanh", "relu", "sigmoid"))
    padding: Padding = Padding()
    pool: Pool = Pool()
    dropout: float = setting(0.0, low=0.0, high=0.95)  # fraction of hidden dense units dropped
    init: str = setting("glorot_uniform", choices=("glorot_uniform", "lecun_1998"))
    layout: str = setting(
        "auto", identity=False, choices=("auto", "NHWC", "CHWN")
    )  # order of axes inside; auto: CHWN on CPU


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeNet5:
    """Three convolutions, two poolings, two dense layers: LeNet-5 as published in 1998, and its modern reading."""

    name: str = setting("lenet5", choices=("lenet5",))
    activation: str = setting("scaled_tanh", choices=("tanh", "scaled_tanh", "relu", "sigmoid"))
    padding: Padding = Padding()
    pool: Pool = Pool(kind="subsample")
    connections: str = setting(
        "table", choices=("table", "dense")
    )  # which S2 maps a C3 map reads (1998, table I), or all
    output: str = setting(
        "rbf", choices=("rbf", "softmax")
    )  # Euclidean distance to fixed 7x12 bitmaps, or a dense layer
    background: float = setting(3.0, low=0.0)  # rbf: distance of the background class, j of eq. 9 (1998 gives no value)
    dropout: float = setting(0.0, low=0.0, high=0.95)  # fraction of C5's and F6's units dropped
    init: str = setting("lecun_1998", choices=("glorot_uniform", "lecun_1998"))
    layout: str = setting("auto", identity=False, choices=("auto", "NHWC", "CHWN"))


MODELS = {"lenet": LeNet, "lenet5": LeNet5}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Which images, where they lie, and what the network sees of them."""

    name: str = setting("digits", choices=tuple(catalog.DATASETS))
    data_dir: str = setting("", identity=False)  # prepared TFDS data; "": $TFDS_DATA_DIR, else ~/tensorflow_datasets
    manual_dir: str = setting("", identity=False)  # folder of downloaded files, for --mode=prepare
    validation: int = setting(0, low=0)  # training examples held out for selection, by a fixed stratified split
    limit: int = setting(0, low=0)  # use at most this many examples of each split; 0: all
    size: int = setting(0, low=0)  # side of the canvas an image is centred on, pixels; 0: as stored
    low: float = 0.0  # what black (0) becomes
    high: float = 1.0  # what white (255) becomes
    placement: str = setting("auto", identity=False, choices=("auto", "device", "host"))  # where the decoded set lives


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment:
    """Random changes of each training image, drawn anew at every step. All off by default."""

    shift: int = setting(
        0, low=0
    )  # whole pixels along each axis, uniform in [-shift, shift]; the edge fills with black
    flip: bool = False  # mirror left-right with probability 1/2
    rotation: float = setting(0.0, low=0.0, high=180.0)  # degrees, uniform in [-rotation, rotation]
    scale: float = setting(0.0, low=0.0, high=0.9)  # factor, uniform in [1 - scale, 1 + scale]
    shear: float = setting(0.0, low=0.0, high=1.0)  # horizontal shear, uniform in [-shear, shear] columns per row


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How gradients become updates."""

    name: str = setting("adam", choices=("sgd", "adam", "adamw", "lars"))
    learning_rate: float = setting(1e-3, low=0.0)  # peak value; the schedule scales it
    momentum: float = setting(0.9, low=0.0, high=1.0)  # sgd, lars
    nesterov: bool = False  # sgd, lars
    beta1: float = setting(0.9, low=0.0, high=0.99999)  # adam, adamw
    beta2: float = setting(0.999, low=0.0, high=0.99999)  # adam, adamw
    epsilon: float = setting(1e-7, low=1e-12)  # adam, adamw; Keras's default, PyTorch's is 1e-8
    weight_decay: float = setting(0.0, low=0.0)  # adamw: decoupled; the others: added to the gradient (L2)
    decay_biases: bool = False  # also decay parameters with one axis: biases, scales
    trust: float = setting(0.001, low=0.0)  # lars: the local rate's coefficient
    clip_norm: float = setting(0.0, low=0.0)  # rescale gradients to at most this global norm; 0: off
    accumulate: int = setting(
        1, low=1
    )  # split each batch into this many parts, one after the other; same result, less memory
    ema: float = setting(0.0, low=0.0, high=0.99999)  # decay of the averaged parameters that evaluation uses; 0: off


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule:
    """The learning rate over time, as a factor of optimizer.learning_rate."""

    name: str = setting("constant", choices=("constant", "step", "cosine", "linear", "one_cycle", "plateau"))
    warmup: str = "0 steps"  # linear from 0, before the schedule proper begins
    drops: tuple[str, ...] = ()  # step: when to multiply by `factor`, as durations from the start
    factor: float = setting(0.1, low=0.0, high=1.0)  # step, plateau: what a drop multiplies by
    final: float = setting(0.0, low=0.0, high=1.0)  # cosine, linear, one_cycle: factor at the end
    peak_at: float = setting(0.3, low=0.0, high=1.0)  # one_cycle: when the peak is reached, as a fraction of the run
    patience: int = setting(3, low=1)  # plateau: evaluations without a better loss before a drop


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train:
    """The length and precision of training."""

    batch_size: int = setting(32, low=1)  # examples per step, over all devices
    duration: str = "10 epochs"
    label_smoothing: float = setting(0.0, low=0.0, high=0.9)  # share of the target spread evenly over all classes
    precision: str = setting("float32", choices=("float32", "bfloat16"))  # of the computation; parameters stay float32


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation:
    """When and how the network is measured."""

    every: str = "1 epochs"
    batch_size: int = setting(50, identity=False, low=1)  # examples per step; moves at most the last digits of a loss


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """When the state is saved, and what is kept."""

    every: str = setting("1 epochs", identity=False)
    keep: int = setting(2, identity=False, low=1)  # latest checkpoints kept, beside the best one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Log:
    """What is written while training."""

    every: str = "100 steps"  # training rows of the metrics files: means over this interval
    tensorboard: bool = setting(True, identity=False)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One training run."""

    experiment: str = ""  # the name it was started under
    seed: int = setting(0, low=0, high=2**31 - 1)
    parallel: str = setting("auto", identity=False, choices=("auto", "jit", "mesh", "pmap"))
    model: LeNet | LeNet5 = LeNet()
    data: Data = Data()
    augment: Augment = Augment()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    train: Train = Train()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()


def duration_steps(duration: str, examples: int, batch_size: int) -> int:
    """Optimiser steps in a duration, rounded to the nearest whole step.

    Args:
      duration: "10 epochs", "500 steps" or "64000 examples".
      examples: size of the training set.
      batch_size: examples per step.

    Raises:
      ValueError: the text is not a duration.
    """
    match = DURATION.fullmatch(duration.strip())
    if not match:
        raise ValueError(
            f"{duration!r} is not a duration; write a number and a unit, "
            "such as '10 epochs', '500 steps' or '64000 examples'"
        )
    amount, unit = float(match[1]), match[2].rstrip("s")
    per_unit = {"step": 1.0, "epoch": examples / batch_size, "example": 1 / batch_size}[unit]
    return math.floor(amount * per_unit + 0.5)


def image_shape(config: Config) -> tuple[int, int, int]:
    """Height, width and channels of what the network is given."""
    height, width, channels = catalog.DATASETS[config.data.name].shape
    return (config.data.size or height, config.data.size or width, channels)


def problems(config) -> list[str]:
    """Everything wrong with a config, one line each; empty when it is sound."""
    found = [line for path, value, rule in _leaves(config) for line in _check(path, value, rule)]
    durations = {
        "train.duration": config.train.duration,
        "evaluation.every": config.evaluation.every,
        "checkpoint.every": config.checkpoint.every,
        "log.every": config.log.every,
        "schedule.warmup": config.schedule.warmup,
    }
    durations |= {f"schedule.drops[{i}]": drop for i, drop in enumerate(config.schedule.drops)}
    for path, text in durations.items():
        try:
            steps = duration_steps(text, 10**6, 1)
        except ValueError as error:
            found.append(f"{path}: {error}")
            continue
        if steps == 0 and path != "schedule.warmup":
            found.append(f"{path} = {text!r} must be longer than nothing")
    found += _cross_checks(config)
    return found


def _leaves(group, prefix=""):
    for item in dataclasses.fields(group):
        value = getattr(group, item.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", value, item.metadata


def _check(path, value, rule):
    if rule.get("choices") and value not in rule["choices"]:
        yield f"{path} = {value!r} must be one of {', '.join(map(str, rule['choices']))}"
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{path} = {value} must be a finite number"
    if rule.get("low") is not None and value < rule["low"]:
        yield f"{path} = {value} must be at least {rule['low']}"
    if rule.get("high") is not None and value > rule["high"]:
        yield f"{path} = {value} must be at most {rule['high']}"


def _cross_checks(config):
    stored = catalog.DATASETS[config.data.name].shape if config.data.name in catalog.DATASETS else (0, 0, 0)
    if config.data.size and config.data.size < max(stored[:2]):
        yield (
            f"data.size = {config.data.size} must be 0 or at least the stored side, {max(stored[:2])}: "
            "images are centred on a larger canvas, never cut"
        )
    if config.data.low == config.data.high:
        yield f"data.low and data.high are both {config.data.low}: every image would be blank"
    if config.optimizer.accumulate > 0 and config.train.batch_size % config.optimizer.accumulate:
        parts = config.optimizer.accumulate
        yield f"train.batch_size = {config.train.batch_size} must be a multiple of optimizer.accumulate = {parts}"
    if config.schedule.name == "step" and not config.schedule.drops:
        yield "schedule.name = 'step' needs schedule.drops, such as --set schedule.drops='6 epochs,8 epochs'"
    if config.schedule.name != "step" and config.schedule.drops:
        name = config.schedule.name
        yield f"schedule.drops = {config.schedule.drops} only apply to schedule.name = 'step', not {name!r}"
    if config.optimizer.nesterov and not config.optimizer.momentum:
        yield "optimizer.nesterov needs optimizer.momentum above 0"
    if config.schedule.name == "plateau" and not config.data.validation:
        yield "schedule.name = 'plateau' follows the validation loss: hold out examples with data.validation"
    if getattr(config.model, "output", "") == "rbf":
        if config.train.label_smoothing:
            yield "train.label_smoothing does not apply to model.output = 'rbf', whose loss has its own background term"
        classes = catalog.DATASETS[config.data.name].classes if config.data.name in catalog.DATASETS else 10
        if classes != 10:
            yield f"model.output = 'rbf' has bitmaps of the ten digits, and {config.data.name} has {classes} classes"


def differences(ours, theirs) -> list[str]:
    """What sets two runs apart, as "path: theirs -> ours" lines; fields that change no result do not count."""
    old = {path: value for path, value, rule in _leaves(theirs) if rule.get("identity", True)}
    new = {path: value for path, value, rule in _leaves(ours) if rule.get("identity", True)}
    absent = "(absent)"
    return [
        f"{path}: {old.get(path, absent)!r} -> {new.get(path, absent)!r}"
        for path in sorted(old.keys() | new.keys())
        if old.get(path, absent) != new.get(path, absent)
    ]


def to_dict(config) -> dict:
    """Plain nested dict, ready for JSON."""
    return dataclasses.asdict(config)


def from_dict(values: dict) -> Config:
    """The config that `to_dict` (or JSON) made the dict from.

    Raises:
      ValueError: it names a field or model this version does not have.
    """
    return _build(Config, values, "")


def _build(kind, values, prefix):
    known = {item.name: item for item in dataclasses.fields(kind)}
    unknown = sorted(values.keys() - known.keys())
    if unknown:
        raise ValueError(f"unknown settings {', '.join(prefix + name for name in unknown)}")
    built = {}
    for name, value in values.items():
        default = known[name].default
        if isinstance(value, dict):
            if name == "model":
                if value.get("name") not in MODELS:
                    raise ValueError(f"unknown model {value.get('name')!r}")
                part = MODELS[value["name"]]
            else:
                part = type(default)
            built[name] = _build(part, value, f"{prefix}{name}.")
        else:
            built[name] = tuple(value) if isinstance(value, list) else value
    return kind(**built)
