"""Every setting of a run, its default and what it means. Nothing else in the project holds a default.

An experiment (experiments/NAME.py) returns a `Config`; `--set section.field=value` replaces single
fields (cnn_jax/overrides.py); cnn_jax/rules.py checks the result as a whole. Nothing here imports jax.

Durations are strings such as "10 epochs", "500 steps" or "64000 examples"; `duration_steps` turns
them into optimiser steps once the size of the training set is known.
"""

import dataclasses
import math
import re
from dataclasses import field

from cnn_jax.data import catalog

DURATION = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(steps?|epochs?|examples?)")
FILLS = ("zero", "reflect", "replicate", "circular", "symmetric", "partial")


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
    fill: str = setting("zero", choices=FILLS)  # partial: nothing, and sums are scaled up to a whole window


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edge:
    """What convolutions see beyond the edge, in a network that says itself how far that is."""

    fill: str = setting("zero", choices=FILLS)  # as Padding.fill


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool:
    """A pooling layer. The kinds are described in layers/pooling*.py; a setting the kind does not read is refused."""

    kind: str = setting(
        "max",
        choices=(
            "max", "average", "min", "subsample", "lp", "log_sum_exp", "soft", "lip", "stochastic",
            "max_average", "mixed", "gated", "tree", "fractional", "s3", "conv", "conv_max", "strided",
            "max_blur", "average_blur", "conv_blur", "aps", "lps",
        ),
    )  # fmt: skip
    window: int = setting(2, low=0)  # side of the square window, pixels; 0: the whole map (global pooling)
    stride: int = setting(2, low=1)  # step between windows; smaller than the window: overlapping pooling
    padding: str = "valid"  # as Padding.mode
    last: str = setting(
        "", choices=("", "max", "average", "lp", "pyramid")
    )  # the pooling before a dense layer: of this kind, over the whole map (global pooling); "": like the others
    count_padding: bool = False  # average, also with max: divide by the whole window, or by its pixels inside the map
    p: float = setting(3.0, low=0.01)  # lp: the power; 1: the mean, towards infinity: the maximum
    beta: float = setting(1.0, low=0.001)  # log_sum_exp, soft: factor of the exponent; 0: the mean, infinity: maximum
    learned: bool = False  # lp: train p; log_sum_exp: train beta; mixed: train the share (Lee) instead of drawing (Yu)
    share: float = setting(0.5, low=0.0, high=1.0)  # mixed: of the maximum; its probability, or where training begins
    per_region: bool = False  # mixed, drawn: for each window of each map, instead of once for each image
    depth: int = setting(2, low=1, high=5)  # tree: levels, leaves included
    ratio: float = setting(2**0.5, low=1.0, high=2.0)  # fractional: by which a side shrinks
    sequence: str = setting("pseudorandom", choices=("pseudorandom", "random"))  # fractional: the order of regions
    grid: int = setting(4, low=1)  # s3: rows (columns) of which grid / stride are kept; a multiple of the stride
    filter: int = setting(3, low=1, high=7)  # *_blur, aps, lps: side of the binomial filter, pixels; 1: none
    fill: str = setting(
        "reflect", choices=("reflect", "zero", "replicate", "circular", "symmetric")
    )  # *_blur, aps, lps: what lies beyond the edge
    norm: str = setting("l2", choices=("l2", "l1", "linf"))  # aps: of which the polyphase component is the largest
    temperature: float = setting(1.0, low=0.01)  # lps: of the softmax over the components; towards 0: one of them
    convex: bool = False  # lps: always the mean of the components weighted by that softmax, in place of one of them
    levels: int = setting(3, low=1, high=6)  # pyramid: grids of 1x1, 2x2, ... cells

    @property
    def draws(self) -> bool:
        """Whether it is random in training."""
        by_setting = {"mixed": not self.learned, "lps": not self.convex}
        return self.kind in ("stochastic", "fractional", "s3") or by_setting.get(self.kind, False)


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


# Of the AlexNets: their maps are deep, and NHWC is faster everywhere.
LAYOUT = dict(identity=False, choices=("NHWC", "CHWN"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNet:
    """Krizhevsky, Sutskever and Hinton 2012: two groups, local response normalisation, overlapping pooling.

    Where the paper and the code its authors released differ, the default is the paper's reading.
    """

    name: str = setting("alexnet", choices=("alexnet",))
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Edge = Edge()
    pool: Pool = Pool(window=3, stride=2)
    norm: str = setting("lrn", choices=("lrn", "none"))  # after conv1 and conv2
    norm_first: bool = False  # LRN before the ReLU, as the released code has it at conv1; the paper: after
    alpha_divided: bool = False  # LRN's alpha divided by its window n = 5, as in the released code, Caffe and PyTorch
    groups: int = setting(2, low=1)  # of conv2, conv4 and conv5: the two GPUs of 2012; 1: none
    middle_std: float = setting(0.01, low=0.0)  # initial weights of conv3 to conv5; the released code has 0.03
    dropout: float = setting(0.5, low=0.0, high=0.95)  # fraction of each hidden dense layer's units dropped
    units: int = setting(4096, low=1)  # of each hidden dense layer
    dropout_scale: str = setting(
        "evaluation", choices=("evaluation", "training")
    )  # where units are scaled to make up for it: evaluation, times 1 - dropout (2012), or training, divided by it
    layout: str = setting("NHWC", **LAYOUT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNetOWT:
    """Torchvision's AlexNet, after Krizhevsky 2014 ("One weird trick"): one column, no normalisation."""

    name: str = setting("alexnet_owt", choices=("alexnet_owt",))
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Edge = Edge()
    pool: Pool = Pool(window=3, stride=2)
    dropout: float = setting(0.5, low=0.0, high=0.95)  # before the first and the second dense layer
    layout: str = setting("NHWC", **LAYOUT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNetBN:
    """AlexNet of 2012 with batch normalisation before every hidden activation, in place of LRN; no groups."""

    name: str = setting("alexnet_bn", choices=("alexnet_bn",))
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Edge = Edge()
    pool: Pool = Pool(window=3, stride=2)
    groups: int = setting(1, low=1)
    dropout: float = setting(0.5, low=0.0, high=0.95)
    layout: str = setting("NHWC", **LAYOUT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNetNotebook:
    """The Keras notebook's variant: 11x11 second convolution, 2x2 pools, batch normalisation, dropout 0.4."""

    name: str = setting("alexnet_notebook", choices=("alexnet_notebook",))
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Padding = Padding()
    pool: Pool = Pool()
    dropout: float = setting(0.4, low=0.0, high=0.95)
    layout: str = setting("NHWC", **LAYOUT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNetSmall:
    """AlexNet's plan for images of 24 to 64 pixels: five padded convolutions, three overlapping poolings."""

    name: str = setting("alexnet_small", choices=("alexnet_small",))
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Edge = Edge()
    pool: Pool = Pool(window=3, stride=2)
    norm: str = setting("none", choices=("lrn", "batch", "none"))  # after each convolution
    width: int = setting(64, low=8)  # features of the first convolution; the others are multiples of it
    dropout: float = setting(0.5, low=0.0, high=0.95)
    layout: str = setting("NHWC", **LAYOUT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class FourLayer:
    """Three convolutions, three poolings and a dense layer, for CIFAR-10: ReLU against tanh, as in 2012's figure 1."""

    name: str = setting("four_layer", choices=("four_layer",))
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Edge = Edge()
    pool: Pool = Pool(window=3, stride=2, padding="0,1,0,1")  # the first; cuda-convnet rounds up
    later_pool: Pool = Pool(kind="average", window=3, stride=2, padding="0,1,0,1")  # the second and the third
    layout: str = setting("NHWC", **LAYOUT)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositionNet:
    """Four convolutions, global max pooling and a dense layer: what padding tells a network of position."""

    name: str = setting("position", choices=("position",))
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Padding = Padding()
    pool: Pool = Pool(window=0)
    layout: str = setting("auto", identity=False, choices=("auto", "NHWC", "CHWN"))


MODELS = {
    "lenet": LeNet,
    "lenet5": LeNet5,
    "alexnet": AlexNet,
    "alexnet_owt": AlexNetOWT,
    "alexnet_bn": AlexNetBN,
    "alexnet_notebook": AlexNetNotebook,
    "alexnet_small": AlexNetSmall,
    "four_layer": FourLayer,
    "position": PositionNet,
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data:
    """Which images, where they lie, and what the network sees of them."""

    name: str = setting("digits", choices=catalog.NAMES)
    data_dir: str = setting("", identity=False)  # prepared TFDS data; "": $TFDS_DATA_DIR, else ~/tensorflow_datasets
    manual_dir: str = setting("", identity=False)  # folder of downloaded files, for --mode=prepare
    validation: int = setting(0, low=0)  # training examples held out for selection, by a fixed stratified split
    limit: int = setting(0, low=0)  # use at most this many examples of each split; 0: all
    path: str = setting("", identity=False)  # folder: where the class folders lie
    side: int = setting(256, low=8)  # imagenet2012, folder, fake: images are stored at this side, pixels
    classes: int = setting(10, low=2)  # fake: number of classes
    examples: int = setting(1000, low=1)  # fake, red_green: training examples; a fifth as many test it
    size: int = setting(0, low=0)  # side of the canvas an image is centred on, pixels; 0: as stored
    crop: int = setting(0, low=0)  # side of the square cut from it, at random in training, else the centre; 0: all
    low: float = 0.0  # what black (0) becomes
    high: float = 1.0  # what white (255) becomes
    mean: tuple[float, ...] = ()  # then subtracted, one for each channel
    std: tuple[float, ...] = ()  # then divided by, one for each channel
    placement: str = setting("auto", identity=False, choices=("auto", "device", "host", "stream"))  # see data/feed.py
    workers: int = setting(0, identity=False, low=0)  # threads that decode; 0: one for each core
    corrupt: int = setting(10, low=0)  # images that cannot be decoded before a run refuses to go on


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
    area: float = setting(0.0, low=0.0, high=1.0)  # crop: of a random area, uniform in [area, 1] of the image; 0: off
    aspect: float = setting(4 / 3, low=1.0, high=4.0)  # with area: width / height, log-uniform in [1 / aspect, aspect]
    pca: float = setting(0.0, low=0.0)  # colour along ImageNet's principal components: standard deviation; 2012: 0.1
    brightness: float = setting(0.0, low=0.0, high=1.0)  # factor, uniform in [1 - brightness, 1 + brightness]
    contrast: float = setting(0.0, low=0.0, high=1.0)  # likewise, about the mean grey of the image
    saturation: float = setting(0.0, low=0.0, high=1.0)  # likewise, between the image and its greyscale
    hue: float = setting(0.0, low=0.0, high=0.5)  # turn of the hue circle, uniform in [-hue, hue] of a full turn
    mixup: float = setting(0.0, low=0.0)  # blend pairs of images and labels; share from Beta(mixup, mixup)
    cutmix: float = setting(0.0, low=0.0)  # paste a box of another image, labels by area from Beta(cutmix, cutmix)


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
    crops: int = setting(1, identity=False, choices=(1, 10))  # 10: corners, centre, and their mirror images
    passes: int = setting(1, identity=False, low=1)  # random pooling: mean over so many draws; 1: without chance


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
    peak: float = setting(0.0, identity=False, low=0.0)  # TFLOP/s of all devices: the log then shows the share used


@dataclasses.dataclass(frozen=True, kw_only=True)
class Protocol:
    """How a study trains and compares its arms: `--set study.NAME=value`."""

    seeds: int = setting(10, low=1)  # runs of each arm, from the seed on; the same ones for all arms
    arms: tuple[str, ...] = setting((), identity=False)  # train and compare only these, and the baseline; (): all
    together: int = setting(0, identity=False, low=0)  # seeds trained in one program; 0: all
    select: str = setting("last", choices=("last", "best"))  # whose parameters count: the last step's, or those with
    # the best validation accuracy of each seed, which needs data.validation
    measurements: tuple[str, ...] = ()  # besides accuracy; see studies/measuring.py
    test: str = setting("t", identity=False, choices=("t", "wilcoxon"))  # of paired differences to the baseline
    images: int = setting(0, low=0)  # test images that measurements use; 0: all
    target: float = setting(0.0, identity=False, low=0.0, high=1.0)  # report when training accuracy reaches it; 0: no


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config:
    """One training run."""

    experiment: str = ""  # the name it was started under
    seed: int = setting(0, low=0, high=2**31 - 1)
    parallel: str = setting("auto", identity=False, choices=("auto", "jit", "mesh", "pmap"))
    model: (
        LeNet | LeNet5 | AlexNet | AlexNetOWT | AlexNetBN | AlexNetNotebook | AlexNetSmall | FourLayer | PositionNet
    ) = LeNet()
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


def pools(model) -> list[Pool]:
    """The settings of a network's poolings."""
    return [value for value in vars(model).values() if isinstance(value, Pool)]


def image_shape(config: Config) -> tuple[int, int, int]:
    """Height, width and channels of what the network is given."""
    *sides, channels = catalog.facts(config.data).shape
    height, width = (config.data.crop or config.data.size or side for side in sides)
    return (height, width, channels)


def leaves(group, prefix: str = ""):
    """Each field of a group of settings and of the groups in it: dotted path, value and rule (see `setting`)."""
    for item in dataclasses.fields(group):
        value = getattr(group, item.name)
        if dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", value, item.metadata


def differences(ours, theirs) -> list[str]:
    """What sets two runs apart, as "path: theirs -> ours" lines; fields that change no result do not count."""
    old = {path: value for path, value, rule in leaves(theirs) if rule.get("identity", True)}
    new = {path: value for path, value, rule in leaves(ours) if rule.get("identity", True)}
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
