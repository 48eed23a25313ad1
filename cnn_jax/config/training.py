"""The settings of training and evaluation: optimisers, schedules, durations."""

import dataclasses
import math
import re

from cnn_jax.config.fields import Group, Kind, choice, setting

DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(steps?|epochs?|examples?)")

LONGEST = 10**12  # of a unit
MOST_STEPS = 2**31 - 1  # of a run: they are counted in 32 bits


def duration_steps(duration: str, examples: int, batch_size: int) -> int:
    """Returns the optimiser steps in a duration, rounded to the nearest whole step.

    Args:
      duration: "10 epochs", "500 steps" or "64000 examples".
      examples: size of the training set.
      batch_size: examples per step.

    Raises:
      ValueError: the text is not a duration, or longer than any run.
    """
    match = DURATION.fullmatch(duration.strip())
    if not match:
        raise ValueError(
            f"{duration!r} is not a duration; write a number and a unit, "
            "such as '10 epochs', '500 steps' or '64000 examples'"
        )
    amount, unit = float(match[1]), match[2].rstrip("s")
    if amount > LONGEST:
        raise ValueError(f"{duration[:40]!r} is longer than any run; at most {LONGEST:,} of a unit")
    per_unit = {"step": 1.0, "epoch": examples / batch_size, "example": 1 / batch_size}[unit]
    return math.floor(amount * per_unit + 0.5)


MOST_FACTOR = 1000  # of the learning rate of a layer


class OptimizerKind(Kind):
    """Base of the optimisers."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Momentum(OptimizerKind):
    momentum: float = setting(0.9, low=0.0, high=1.0)  # share of the velocity that is kept at a step; 0: none
    nesterov: bool = False  # look ahead along the velocity


@dataclasses.dataclass(frozen=True, kw_only=True)
class SGD(_Momentum):
    """Gradient descent with momentum."""

    name = "sgd"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Moments(OptimizerKind):
    beta1: float = setting(0.9, low=0.0, high=0.99999)  # decay of the mean of gradients
    beta2: float = setting(0.999, low=0.0, high=0.99999)  # decay of the mean of their squares
    epsilon: float = setting(1e-7, low=1e-12, high=1.0)  # added to the divisor; Keras's default, PyTorch's is 1e-8


@dataclasses.dataclass(frozen=True, kw_only=True)
class Adam(_Moments):
    """Adam."""

    name = "adam"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AdamW(_Moments):
    """Adam with decoupled weight decay."""

    name = "adamw"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lars(_Momentum):
    """Momentum with a local rate for each layer, for large batches."""

    name = "lars"
    trust: float = setting(0.001, low=0.0, high=1000.0)  # the local rate's coefficient


OPTIMIZERS = (SGD, Adam, AdamW, Lars)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Optimizer(Group):
    """The optimiser: how gradients become updates."""

    kind: OptimizerKind = choice(OPTIMIZERS, Adam(), "name")
    learning_rate: float = setting(1e-3, low=0.0, high=1e30)  # peak value; the schedule scales it
    weight_decay: float = setting(0.0, low=0.0, high=1000.0)  # adamw: decoupled; the others: added to the gradient (L2)
    decay_biases: bool = setting(False)  # also decay parameters with one axis: biases, scales
    clip_norm: float = setting(0.0, low=0.0, high=1e9)  # rescale gradients to at most this global norm; 0: off
    accumulate: int = setting(
        1, low=1, high=65_536
    )  # split each batch into this many parts, one after the other, in less memory; the same result, but that batch
    # normalisation then goes by the statistics of the parts
    layers: tuple[str, ...] = ()  # layers with a rate of their own, as NAME:FACTOR of the learning rate, such as
    # conv1:0,conv2:0.1; 0: the layer is frozen
    ema: float = setting(0.0, low=0.0, high=0.99999)  # decay of the averaged parameters that evaluation uses; 0: off

    @property
    def name(self) -> str:
        """The name of the kind."""
        return self.kind.name

    @property
    def factors(self) -> dict[str, float]:
        """The factors of `layers`, by name of layer.

        Raises:
          ValueError: one is not written so, or out of range.
        """
        found = {}
        for text in self.layers:
            name, _, factor = text.partition(":")
            try:
                found[name] = float(factor)
            except ValueError:
                raise ValueError(f"{text!r} must be NAME:FACTOR, such as conv1:0") from None
            if not 0 <= found[name] <= MOST_FACTOR:
                raise ValueError(f"{text!r}: the factor must be from 0 to {MOST_FACTOR}")
        return found


class ScheduleKind(Kind):
    """Base of the schedules."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constant(ScheduleKind):
    """The rate, unchanged."""

    name = "constant"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Step(ScheduleKind):
    """The rate falls at given times."""

    name = "step"
    drops: tuple[str, ...] = setting(())  # when to multiply by `factor`, as durations from the start
    factor: float = setting(0.1, low=0.0, high=1.0)  # what a drop multiplies by


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cosine(ScheduleKind):
    """Half a cosine from the rate to its end."""

    name = "cosine"
    final: float = setting(0.0, low=0.0, high=1.0)  # factor at the end


@dataclasses.dataclass(frozen=True, kw_only=True)
class Linear(ScheduleKind):
    """A straight line from the rate to its end."""

    name = "linear"
    final: float = setting(0.0, low=0.0, high=1.0)  # factor at the end


@dataclasses.dataclass(frozen=True, kw_only=True)
class OneCycle(ScheduleKind):
    """Up to the rate in a straight line, and down again."""

    name = "one_cycle"
    final: float = setting(0.0, low=0.0, high=1.0)  # factor at the end
    peak_at: float = setting(0.3, low=0.0, high=1.0)  # when the peak is reached, as a fraction of the run


@dataclasses.dataclass(frozen=True, kw_only=True)
class Plateau(ScheduleKind):
    """The rate falls when the validation loss stops falling."""

    name = "plateau"
    factor: float = setting(0.1, low=0.0, high=1.0)  # what a drop multiplies by
    patience: int = setting(3, low=1, high=10**6)  # evaluations without a better loss before a drop


SCHEDULES = (Constant, Step, Cosine, Linear, OneCycle, Plateau)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Schedule(Group):
    """The learning rate over time, as a factor of optimizer.learning_rate."""

    kind: ScheduleKind = choice(SCHEDULES, Constant(), "name")
    warmup: str = setting("0 steps")  # linear from 0, before the schedule proper begins

    @property
    def name(self) -> str:
        """The name of the kind."""
        return self.kind.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(Group):
    """The length and precision of training."""

    batch_size: int = setting(32, low=1, high=65_536)  # examples per step, over all devices
    duration: str = "10 epochs"  # of the whole run: "10 epochs", "500 steps" or "64000 examples"
    label_smoothing: float = setting(0.0, low=0.0, high=0.9)  # share of the target spread evenly over all classes
    precision: str = setting("float32", choices=("float32", "bfloat16"))  # of the computation; parameters stay float32
    deterministic: bool = False  # on a GPU: sums in a fixed order, and no operation chosen by its time, so that a run
    # that was killed ends as one that was not, to the byte; slower. On CPU and TPU that is so without it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluation(Group):
    """The evaluation: when and how the network is measured."""

    every: str = "1 epochs"  # between measurements of the validation images or, without any, of the test images
    batch_size: int = setting(
        50, identity=False, low=1, high=65_536
    )  # examples per step; moves at most the last digits of a loss
    crops: int = setting(1, identity=False, choices=(1, 10))  # 10: corners, centre, and their mirror images
    passes: int = setting(
        1, identity=False, low=1, high=10_000
    )  # random pooling: mean over so many draws; 1: without chance


@dataclasses.dataclass(frozen=True, kw_only=True)
class Checkpoint(Group):
    """The checkpoints: when the state is saved, and what is kept."""

    every: str = setting("1 epochs", identity=False)  # between saves
    keep: int = setting(2, identity=False, low=1, high=10**6)  # latest checkpoints kept, beside the best one


@dataclasses.dataclass(frozen=True, kw_only=True)
class Log(Group):
    """The log: what is written while training."""

    every: str = "100 steps"  # training rows of the metrics files: means over this interval
    tensorboard: bool = setting(True, identity=False)  # also write event files
    wandb: str = setting("", identity=False)  # also log to this project of Weights & Biases; "": do not
    layers: bool = setting(False, identity=False)  # also write layers.jsonl: at every training row the gradient and
    # weight norm of each layer, and its share of dead ReLUs; costs about one step, and a compilation at the start
    peak: float = setting(
        0.0, identity=False, low=0.0, high=1e9
    )  # TFLOP/s of all devices, of which the log shows the share used; 0: as published, where that is known
