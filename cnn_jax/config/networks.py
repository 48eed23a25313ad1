"""The networks, each with its settings. The modules are in models/."""

import dataclasses

from cnn_jax.config.fields import Group, Kind, setting
from cnn_jax.config.poolings import Average, Pool, Subsample
from cnn_jax.config.sizes import FILLS


@dataclasses.dataclass(frozen=True, kw_only=True)
class Padding(Group):
    """The padding of a convolution: how far it sees beyond the edge of its input, and what it sees there."""

    mode: str = (
        "valid"  # valid, same, full, or pixels: "2", "2,1" (rows, columns), "0,3,0,3" (top, bottom, left, right)
    )
    fill: str = setting(
        "zero", choices=FILLS
    )  # partial: nothing, sums are scaled up; mean: of the border, interpolated; random: zeros, on sides drawn


@dataclasses.dataclass(frozen=True, kw_only=True)
class Edge(Group):
    """The values that convolutions see beyond the edge, in a network that itself fixes the amount of padding."""

    fill: str = setting(
        "zero", choices=FILLS
    )  # partial: nothing, sums are scaled up; mean: of the border, interpolated; random: zeros, on sides drawn


@dataclasses.dataclass(frozen=True)
class Normal:
    """Weights from N(0, std^2), and one value for every bias: how Krizhevsky et al. 2012 (section 5) begin."""

    std: float
    bias: float = 0.0


class Network(Group, Kind):
    """Base of the networks."""

    activation: str
    layout: str


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeNet(Network):
    """Two convolutions, two poolings, three dense layers: the LeNet of the Keras notebook."""

    name = "lenet"
    activation: str = setting("tanh", choices=("tanh", "scaled_tanh", "relu", "sigmoid"))  # of the hidden layers
    padding: Padding = Padding()
    pool: Pool = Pool()
    order: str = setting("activation_pool", choices=("activation_pool", "pool_activation"))  # after each convolution
    dropout: float = setting(0.0, low=0.0, high=0.95)  # fraction of hidden dense units dropped
    init: str = setting(
        "glorot_uniform", choices=("glorot_uniform", "lecun_1998")
    )  # initial weights; glorot_uniform: Keras's default, lecun_1998: appendix A of LeCun et al. 1998
    layout: str = setting(
        "auto", identity=False, choices=("auto", "NHWC", "CHWN")
    )  # order of axes inside; auto: CHWN on CPU


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeNet1(Network):
    """Two small convolutions, two poolings and a dense layer: LeNet-1, with all C3 maps reading all S2 maps."""

    name = "lenet1"
    activation: str = setting("scaled_tanh", choices=("tanh", "scaled_tanh", "relu", "sigmoid"))
    padding: Padding = Padding()
    pool: Pool = Pool(kind=Subsample())
    init: str = setting("lecun_1998", choices=("glorot_uniform", "lecun_1998"))
    layout: str = setting("auto", identity=False, choices=("auto", "NHWC", "CHWN"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class LeNet5(Network):
    """Three convolutions, two poolings, two dense layers: LeNet-5 as published in 1998, and its modern reading."""

    name = "lenet5"
    activation: str = setting("scaled_tanh", choices=("tanh", "scaled_tanh", "relu", "sigmoid"))
    padding: Padding = Padding()
    pool: Pool = Pool(kind=Subsample())
    connections: str = setting(
        "table", choices=("table", "dense")
    )  # which S2 maps a C3 map reads (1998, table I), or all
    output: str = setting(
        "rbf", choices=("rbf", "softmax")
    )  # Euclidean distance to fixed 7x12 bitmaps, or a dense layer
    background: float = setting(
        3.0, low=0.0, high=1000.0
    )  # rbf: distance of the background class, j of eq. 9 (1998 gives no value)
    dropout: float = setting(0.0, low=0.0, high=0.95)  # fraction of C5's and F6's units dropped
    init: str = setting("lecun_1998", choices=("glorot_uniform", "lecun_1998"))
    layout: str = setting("auto", identity=False, choices=("auto", "NHWC", "CHWN"))


def _fixed_layout() -> str:
    """Order of axes inside the AlexNets: their maps are deep, and NHWC is faster everywhere."""
    return setting("NHWC", identity=False, choices=("NHWC", "CHWN"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNet(Network):
    """Krizhevsky, Sutskever and Hinton 2012: two groups, local response normalisation, overlapping pooling.

    Where the paper and the code its authors released differ, the default is the paper's reading.
    """

    name = "alexnet"
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Edge = Edge()
    pool: Pool = Pool(window=3, stride=2)
    norm: str = setting("lrn", choices=("lrn", "none"))  # after conv1 and conv2
    norm_first: bool = False  # LRN before the ReLU, as the released code has it at conv1; the paper: after
    alpha_divided: bool = False  # LRN's alpha divided by its window n = 5, as in the released code, Caffe and PyTorch
    groups: int = setting(2, low=1, high=64)  # of conv2, conv4 and conv5: the two GPUs of 2012; 1: none
    middle_std: float = setting(
        0.01, low=0.0, high=10.0
    )  # initial weights of conv3 to conv5; the released code has 0.03
    dropout: float = setting(0.5, low=0.0, high=0.95)  # fraction of each hidden dense layer's units dropped
    units: int = setting(4096, low=1, high=65_536)  # of each hidden dense layer
    dropout_scale: str = setting(
        "evaluation", choices=("evaluation", "training")
    )  # where units are scaled to make up for it: evaluation, times 1 - dropout (2012), or training, divided by it
    layout: str = _fixed_layout()


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNetOWT(Network):
    """Torchvision's AlexNet, after Krizhevsky 2014 ("One weird trick"): one column, no normalisation."""

    name = "alexnet_owt"
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Edge = Edge()
    pool: Pool = Pool(window=3, stride=2)
    dropout: float = setting(0.5, low=0.0, high=0.95)  # before the first and the second dense layer
    blur_conv: int = setting(0, choices=(0, 2, 3, 4, 5, 6, 7))  # side of a binomial filter that has half of conv1's
    # stride, after its activation (Zhang 2019); 0: none
    layout: str = _fixed_layout()


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNetBN(Network):
    """AlexNet of 2012 with batch normalisation before every hidden activation, in place of LRN; no groups."""

    name = "alexnet_bn"
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Edge = Edge()
    pool: Pool = Pool(window=3, stride=2)
    groups: int = setting(1, low=1, high=64)
    dropout: float = setting(0.5, low=0.0, high=0.95)
    layout: str = _fixed_layout()


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNetNotebook(Network):
    """The Keras notebook's variant: 11x11 second convolution, 2x2 pools, batch normalisation, dropout 0.4."""

    name = "alexnet_notebook"
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Padding = Padding()
    pool: Pool = Pool()
    dropout: float = setting(0.4, low=0.0, high=0.95)
    layout: str = _fixed_layout()


@dataclasses.dataclass(frozen=True, kw_only=True)
class AlexNetSmall(Network):
    """AlexNet's plan for images of 24 to 64 pixels: five padded convolutions, three overlapping poolings."""

    name = "alexnet_small"
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Edge = Edge()
    pool: Pool = Pool(window=3, stride=2)
    norm: str = setting("none", choices=("lrn", "batch", "none"))  # after each convolution
    width: int = setting(64, low=8, high=4096)  # features of the first convolution; the others are multiples of it
    dropout: float = setting(0.5, low=0.0, high=0.95)
    layout: str = _fixed_layout()


@dataclasses.dataclass(frozen=True, kw_only=True)
class FourLayer(Network):
    """Three convolutions, three poolings and a dense layer, for CIFAR-10: ReLU against tanh, as in 2012's figure 1."""

    name = "four_layer"
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Edge = Edge()
    pool: Pool = Pool(window=3, stride=2, padding="0,1,0,1")  # the first; cuda-convnet rounds up
    later_pool: Pool = Pool(kind=Average(), window=3, stride=2, padding="0,1,0,1")  # the second and the third
    width: int = setting(32, low=1, high=4096)  # features of conv1 and conv2; conv3 has twice as many
    layout: str = _fixed_layout()


@dataclasses.dataclass(frozen=True, kw_only=True)
class ZeilerFergus(Network):
    """Three convolutions, three overlapping poolings, a dense layer: Zeiler and Fergus 2013, on stochastic pooling."""

    name = "zeiler_fergus"
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Edge = Edge()
    pool: Pool = Pool(window=3, stride=2, padding="0,1,0,1")  # as in cuda-convnet, which rounds up
    norm: str = setting("lrn", choices=("lrn", "none"))  # after each pooling
    width: int = setting(64, low=1, high=4096)  # features of each convolution
    layout: str = _fixed_layout()


@dataclasses.dataclass(frozen=True, kw_only=True)
class PositionNet(Network):
    """Four convolutions, global max pooling and a dense layer: what padding tells a network of position."""

    name = "position"
    activation: str = setting("relu", choices=("relu", "tanh"))
    padding: Padding = Padding()
    pool: Pool = Pool(window=0)
    layout: str = setting("auto", identity=False, choices=("auto", "NHWC", "CHWN"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class MLP(Network):
    """A multilayer perceptron of one hidden layer, or a linear classifier: what convolutions are compared with."""

    name = "mlp"
    activation: str = setting("tanh", choices=("tanh", "scaled_tanh", "relu", "sigmoid"))
    units: int = setting(300, low=0, high=65_536)  # of the hidden layer; 0: none, the classifier is linear
    init: str = setting("glorot_uniform", choices=("glorot_uniform", "lecun_1998"))
    layout: str = setting("auto", identity=False, choices=("auto", "NHWC", "CHWN"))


MODELS = (
    LeNet, LeNet1, LeNet5, AlexNet, AlexNetOWT, AlexNetBN, AlexNetNotebook, AlexNetSmall, FourLayer, ZeilerFergus,
    PositionNet, MLP,
)  # fmt: skip


def pools(model: Network) -> list[Pool]:
    """Returns the settings of a network's poolings."""
    return [value for value in vars(model).values() if isinstance(value, Pool)]
