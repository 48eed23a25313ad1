"""The kinds of pooling, each with the settings that it alone reads. The layers are in layers/pooling/."""

import dataclasses

from cnn_jax.config.fields import Group, Kind, choice, setting

FILLS = ("reflect", "zero", "replicate", "circular", "symmetric")


class Pooling(Kind):
    """Base of the kinds of pooling."""

    @property
    def draws(self) -> bool:
        """Whether it is random in training."""
        return False


@dataclasses.dataclass(frozen=True, kw_only=True)
class Max(Pooling):
    """The largest value of each window."""

    name = "max"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Average(Pooling):
    """The mean of each window."""

    name = "average"
    count_padding: bool = False  # divide by the whole window, or by its pixels inside the map


@dataclasses.dataclass(frozen=True, kw_only=True)
class Min(Pooling):
    """The smallest value of each window."""

    name = "min"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Subsample(Pooling):
    """The trainable subsampling of 1998."""

    name = "subsample"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lp(Pooling):
    """The power mean of each window; as the last pooling, generalised mean pooling."""

    name = "lp"
    p: float = setting(3.0, low=0.01)  # the power; 1: the mean, towards infinity: the maximum
    learned: bool = False  # train p


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogSumExp(Pooling):
    """The logarithm of the mean of exponentials."""

    name = "log_sum_exp"
    beta: float = setting(1.0, low=0.001)  # factor of the exponent; 0: the mean, infinity: the maximum
    learned: bool = False  # train beta


@dataclasses.dataclass(frozen=True, kw_only=True)
class Soft(Pooling):
    """The mean weighted by exponentials."""

    name = "soft"
    beta: float = setting(1.0, low=0.001)  # factor of the exponent; 0: the mean, infinity: the maximum


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lip(Pooling):
    """The mean weighted by exponentials of learned logits."""

    name = "lip"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Stochastic(Pooling):
    """An element of each window, drawn in proportion to its size."""

    name = "stochastic"

    @property
    def draws(self) -> bool:
        """Whether it is random in training."""
        return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaxAverage(Pooling):
    """The sum of the maximum and the average."""

    name = "max_average"
    count_padding: bool = False  # as of "average"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mixed(Pooling):
    """The maximum or the average at random (Yu), or a learned mixture of both (Lee)."""

    name = "mixed"
    count_padding: bool = False  # as of "average"
    share: float = setting(0.5, low=0.0, high=1.0)  # of the maximum; its probability, or where training begins
    learned: bool = False  # train the share instead of drawing
    per_region: bool = False  # drawn for each window of each map, instead of once for each image

    @property
    def draws(self) -> bool:
        """Whether it is random in training."""
        return not self.learned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Gated(Pooling):
    """The maximum and the average, mixed by a learned gate."""

    name = "gated"
    count_padding: bool = False  # as of "average"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tree(Pooling):
    """A tree of learned filters and gates."""

    name = "tree"
    depth: int = setting(2, low=1, high=5)  # levels, leaves included


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fractional(Pooling):
    """Maxima of regions one or two pixels high and wide, in random order."""

    name = "fractional"
    ratio: float = setting(2**0.5, low=1.0, high=2.0)  # by which a side shrinks
    sequence: str = setting("pseudorandom", choices=("pseudorandom", "random"))  # the order of regions

    @property
    def draws(self) -> bool:
        """Whether it is random in training."""
        return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class S3(Pooling):
    """Maxima at every pixel, then rows and columns drawn at random."""

    name = "s3"
    grid: int = setting(4, low=1)  # rows (columns) of which grid / stride are kept; a multiple of the stride

    @property
    def draws(self) -> bool:
        """Whether it is random in training."""
        return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class Conv(Pooling):
    """A convolution with the pooling's window and stride."""

    name = "conv"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvMax(Pooling):
    """A convolution with the pooling's window, and max pooling."""

    name = "conv_max"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Strided(Pooling):
    """None: the convolution before has the stride."""

    name = "strided"


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Blurred(Pooling):
    filter: int = setting(3, low=1, high=7)  # side of the binomial filter, pixels; 1: none
    fill: str = setting("reflect", choices=FILLS)  # what lies beyond the edge


@dataclasses.dataclass(frozen=True, kw_only=True)
class MaxBlur(_Blurred):
    """Max pooling, blurred before it is sampled."""

    name = "max_blur"


@dataclasses.dataclass(frozen=True, kw_only=True)
class AverageBlur(_Blurred):
    """Average pooling, blurred before it is sampled."""

    name = "average_blur"


@dataclasses.dataclass(frozen=True, kw_only=True)
class ConvBlur(_Blurred):
    """A convolution, blurred before it is sampled."""

    name = "conv_blur"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Aps(_Blurred):
    """Of each image the polyphase component of the largest norm."""

    name = "aps"
    norm: str = setting("l2", choices=("l2", "l1", "linf"))  # by which components are compared


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lps(_Blurred):
    """Of each image the polyphase component of the largest learned logit."""

    name = "lps"
    temperature: float = setting(1.0, low=0.01)  # of the softmax over the components; towards 0: one of them
    convex: bool = False  # always the mean of the components weighted by that softmax, in place of one of them

    @property
    def draws(self) -> bool:
        """Whether it is random in training."""
        return not self.convex


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pyramid(Pooling):
    """The largest value of each cell of several grids over the map."""

    name = "pyramid"
    levels: int = setting(3, low=1, high=6)  # grids of 1x1, 2x2, ... cells


POOLINGS = (
    Max, Average, Min, Subsample, Lp, LogSumExp, Soft, Lip, Stochastic, MaxAverage, Mixed, Gated, Tree, Fractional,
    S3, Conv, ConvMax, Strided, MaxBlur, AverageBlur, ConvBlur, Aps, Lps,
)  # fmt: skip
LAST = (Max, Average, Lp, Pyramid)  # before a dense layer, over the whole map


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool(Group):
    """A pooling layer."""

    kind: Pooling = choice(POOLINGS, Max(), "kind")
    window: int = setting(2, low=0)  # side of the square window, pixels; 0: the whole map (global pooling)
    stride: int = setting(2, low=1)  # step between windows; smaller than the window: overlapping pooling
    padding: str = setting("valid")  # as Padding.mode
    last: Pooling | None = choice(
        LAST, None, "last", optional=True
    )  # the pooling before a dense layer: of this kind, over the whole map (global pooling); "": like the others

    def __post_init__(self):
        if self.last is not None:  # what both kinds have is one setting
            both = vars(self.kind).keys() & vars(self.last).keys()
            last = dataclasses.replace(self.last, **{name: getattr(self.kind, name) for name in both})  # type: ignore
            object.__setattr__(self, "last", last)

    @property
    def draws(self) -> bool:
        """Whether it is random in training."""
        return self.kind.draws
