"""The kinds of pooling, each with the settings that it alone reads. The layers are in layers/pooling/."""

import dataclasses
import math
from typing import ClassVar

from cnn_jax.config.fields import Group, Kind, choice, setting
from cnn_jax.config.sizes import Placed, place
from cnn_jax.errors import UsageError

FILLS = ("reflect", "zero", "replicate", "circular", "symmetric")


class Pooling(Kind):
    """Base of the kinds of pooling.

    Attributes:
      stride_1_windows: windows lie at every pixel, and what they find is sampled afterwards.
      stride_before: the convolution before has the stride.
    """

    stride_1_windows: ClassVar[bool] = False
    stride_before: ClassVar[bool] = False

    def output_shape(self, name: str, windows: Placed, stride: int) -> tuple[int, ...]:
        """Returns the height, width and channels of the output, or (units,) of a vector.

        Args:
          name: of the layer, for messages.
          windows: as `Pool.place` lays them.
          stride: of the pooling.

        Raises:
          UsageError: something does not fit.
        """
        del name, stride
        return windows.output_shape

    @property
    def draws(self) -> bool:
        """True where the pooling is random in training."""
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
    p: float = setting(3.0, low=0.01, high=1000.0)  # the power; 1: the mean, towards infinity: the maximum
    learned: bool = False  # train p


@dataclasses.dataclass(frozen=True, kw_only=True)
class LogSumExp(Pooling):
    """The logarithm of the mean of exponentials."""

    name = "log_sum_exp"
    beta: float = setting(1.0, low=0.001, high=1000.0)  # factor of the exponent; 0: the mean, infinity: the maximum
    learned: bool = False  # train beta


@dataclasses.dataclass(frozen=True, kw_only=True)
class Soft(Pooling):
    """The mean weighted by exponentials."""

    name = "soft"
    beta: float = setting(1.0, low=0.001, high=1000.0)  # factor of the exponent; 0: the mean, infinity: the maximum


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
        """True where the pooling is random in training."""
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
        """True where the pooling is random in training."""
        return not self.learned


@dataclasses.dataclass(frozen=True, kw_only=True)
class Alpha(Pooling):
    """A fixed mixture of the maximum and the average."""

    name = "alpha"
    count_padding: bool = False  # as of "average"
    alpha: float = setting(0.5, low=0.0, high=1.0)  # share of the maximum; 0.5: half the sum of both


@dataclasses.dataclass(frozen=True, kw_only=True)
class AverageTopK(Pooling):
    """The mean of the k largest values of each window."""

    name = "avg_topk"
    k: int = setting(2, low=1, high=4096)  # how many; all: the mean, 1: the maximum


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Threshold(Pooling):
    k: int = setting(2, low=1, high=4096)  # how many of the largest values are looked at
    threshold: float = 0.7  # from which the maximum is taken


@dataclasses.dataclass(frozen=True, kw_only=True)
class TMaxAvg(_Threshold):
    """The maximum where all of the k largest values reach a threshold, else their mean."""

    name = "t_max_avg"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Atp(_Threshold):
    """The maximum where the mean of the k largest values reaches a threshold, else that mean."""

    name = "atp"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Ordinal(Pooling):
    """The mean weighted by learned weights of ranks."""

    name = "ordinal"


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
    stride_1_windows = True
    ratio: float = setting(2**0.5, low=1.0, high=2.0)  # by which a side shrinks
    sequence: str = setting("pseudorandom", choices=("pseudorandom", "random"))  # the order of regions

    def output_shape(self, name: str, windows: Placed, stride: int) -> tuple[int, ...]:
        """See `Pooling.output_shape`; a side of n becomes ceil(n / ratio)."""
        return (*(math.ceil(side / self.ratio) for side in windows.output_size), windows.input_shape[2])

    @property
    def draws(self) -> bool:
        """True where the pooling is random in training."""
        return True


@dataclasses.dataclass(frozen=True, kw_only=True)
class S3(Pooling):
    """Maxima at every pixel, then rows and columns drawn at random."""

    name = "s3"
    stride_1_windows = True
    grid: int = setting(4, low=1, high=4096)  # rows (columns) of which grid / stride are kept; a multiple of the stride

    def output_shape(self, name: str, windows: Placed, stride: int) -> tuple[int, ...]:
        """See `Pooling.output_shape`; a side of n becomes ceil(n / stride)."""
        if self.grid % stride:
            raise UsageError(f"{name}: pool.grid = {self.grid} must be a multiple of pool.stride = {stride}")
        return (*(-(-side // stride) for side in windows.output_size), windows.input_shape[2])

    @property
    def draws(self) -> bool:
        """True where the pooling is random in training."""
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
    """No pooling: the convolution before has the stride."""

    name = "strided"
    stride_before = True


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Blurred(Pooling):
    stride_1_windows = True
    filter: int = setting(3, low=1, high=7)  # side of the binomial filter, pixels; 1: none
    fill: str = setting("reflect", choices=FILLS)  # what lies beyond the edge

    def output_shape(self, name: str, windows: Placed, stride: int) -> tuple[int, ...]:
        """See `Pooling.output_shape`; the filter has the stride."""
        return self.blurred(name, windows, stride).output_shape

    def blurred(self, name: str, windows: Placed, stride: int) -> Placed:
        """Lays the filter on what the windows find; centred, an even one reaches a pixel further at the high end."""
        pads = ((self.filter - 1) // 2, self.filter // 2)
        return place(name, windows.output_shape, self.filter, stride, (pads, pads), self.fill)


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Polyphase(_Blurred):
    def output_shape(self, name: str, windows: Placed, stride: int) -> tuple[int, ...]:
        """See `Pooling.output_shape`; of the stride x stride components of the blurred maps one is kept."""
        return self.phases(name, self.blurred(name, windows, 1), stride).output_shape

    def phases(self, name: str, blurred: Placed, stride: int) -> Placed:
        """Lays squares of stride x stride pixels, whose elements are the components, on the blurred maps."""
        height, width = ((0, -side % stride) for side in blurred.output_size)
        return place(name, blurred.output_shape, stride, stride, (height, width), self.fill)


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
class Aps(_Polyphase):
    """The polyphase component with the largest norm, of each image."""

    name = "aps"
    norm: str = setting("l2", choices=("l2", "l1", "linf"))  # by which components are compared
    choose: str = setting("before_blur", choices=("before_blur", "after_blur"))  # when they are compared; before_blur:
    # as in its authors' code; after_blur: as here until November 2026


@dataclasses.dataclass(frozen=True, kw_only=True)
class Lps(_Polyphase):
    """The polyphase component with the largest learned logit, of each image."""

    name = "lps"
    temperature: float = setting(
        1.0, low=0.01, high=1000.0
    )  # of the softmax over the components; towards 0: one of them
    convex: bool = False  # always the mean of the components weighted by that softmax, in place of one of them

    def output_shape(self, name: str, windows: Placed, stride: int) -> tuple[int, ...]:
        """See `_Polyphase.output_shape`; the 3x3 convolutions that score the components have to fit them."""
        components = self.phases(name, self.blurred(name, windows, 1), stride)
        return place(f"{name}.first", components.output_shape, 3, 1, 1, self.fill).output_shape

    @property
    def draws(self) -> bool:
        """True where the pooling is random in training."""
        return not self.convex


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pyramid(Pooling):
    """The largest value of each cell of several grids over the map."""

    name = "pyramid"
    levels: int = setting(3, low=1, high=6)  # grids of 1x1, 2x2, ... cells

    def output_shape(self, name: str, windows: Placed, stride: int) -> tuple[int, ...]:
        """See `Pooling.output_shape`; a number for each cell of each grid, and for each channel."""
        height, width, channels = windows.input_shape
        if self.levels > min(height, width):
            raise UsageError(f"{name}: pool.levels = {self.levels} is too fine a grid for maps of {height}x{width}")
        return (channels * sum(side**2 for side in range(1, self.levels + 1)),)


POOLINGS = (
    Max, Average, Min, Subsample, Lp, LogSumExp, Soft, Lip, Stochastic, MaxAverage, Mixed, Gated, Tree, Fractional,
    S3, Conv, ConvMax, Strided, MaxBlur, AverageBlur, ConvBlur, Aps, Lps, Alpha, AverageTopK, TMaxAvg, Atp, Ordinal,
)  # fmt: skip
LAST = (Max, Average, Lp, Pyramid)  # before a dense layer, over the whole map


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pool(Group):
    """A pooling layer."""

    kind: Pooling = choice(POOLINGS, Max(), "kind")
    window: int = setting(2, low=0, high=4096)  # side of the square window, pixels; 0: the whole map (global pooling)
    stride: int = setting(2, low=1, high=4096)  # step between windows; smaller than the window: overlapping pooling
    padding: str = setting(
        "valid"
    )  # valid, same, full, or pixels: "2", "2,1" (rows, columns), "0,3,0,3" (top, bottom, left, right)
    scale: float = setting(1.0, low=1e-6, high=1e6)  # factor of what it puts out, before an activation that follows:
    # a control for kinds that change the scale of the maps
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
        """True where the pooling is random in training."""
        return self.kind.draws

    def chosen(self, is_last: bool) -> Pooling:
        """Returns the kind of a pooling of these settings; `is_last` where no convolution follows it."""
        return self.last if is_last and self.last is not None else self.kind

    def place(self, name: str, input_shape: tuple[int, int, int], is_last: bool) -> Placed:
        """Lays the windows of a pooling of these settings on its input.

        Args:
          name: of the layer, for messages.
          input_shape: height, width, channels.
          is_last: whether no convolution follows, and `last` applies.

        Raises:
          UsageError: no window fits, or the padding is as large as the window.
        """
        kind, whole = self.chosen(is_last), self.window == 0 or (is_last and self.last is not None)
        window = input_shape[:2] if whole else self.window
        stride = 1 if whole or kind.stride_1_windows else self.stride
        padding = "valid" if whole else self.padding
        if kind.stride_before:
            window, stride, padding = 1, 1, "valid"
        placed = place(name, input_shape, window, stride, padding, getattr(kind, "fill", "zero"))
        for sides, side in zip(placed.pads, placed.window):
            if max(sides) >= side:
                raise UsageError(f"{name}: {placed.describe()}: the padding must be smaller than the window")
        return placed
