"""Convolutions in place of pooling (Springenberg et al. 2014), and no pooling at all."""

from cnn_jax.layers.activations import ACTIVATIONS
from cnn_jax.layers.convolution import Convolution
from cnn_jax.layers.pooling.base import PoolContext, Pooling
from cnn_jax.layers.pooling.blur import Blurred
from cnn_jax.layers.pooling.reductions import max_pool
from cnn_jax.layers.windows import Geometry, geometry


class ConvolutionPool(Pooling):
    """A convolution with the pooling's window and stride, and an activation: "All-CNN". As many features as channels.

    Parameters: those of a `Convolution`, under `convolution`.
    """

    activation_follows = True
    title = "convolution"

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.convolution = _convolution(site, site.geometry)

    @property
    def multiply_adds(self) -> int:
        """Number of multiply-adds for one image, bias not counted."""
        return self.convolution.multiply_adds

    def pool(self, x):
        return self.convolution(x)


class ConvolutionMax(Pooling):
    """A convolution with the pooling's window, at every pixel, an activation, and max pooling: "ConvPool".

    It has the parameters of `ConvolutionPool` and keeps pooling: what tells more parameters from less pooling.
    """

    activation_follows = True
    title = "convolution and max pooling"

    def __init__(self, site: PoolContext):
        super().__init__(site)
        placed = site.geometry
        around = geometry(self.name, self.input_shape, placed.window, 1, "same", placed.layout)
        self.convolution = _convolution(site, around)

    @property
    def multiply_adds(self) -> int:
        """Number of multiply-adds for one image, bias not counted."""
        return self.convolution.multiply_adds

    def pool(self, x):
        return max_pool(self.convolution(x), self.geometry)  # and the activation afterwards: it is monotone


class ConvolutionBlur(Blurred):
    """A convolution with the pooling's window, at every pixel, an activation, and the blur in place of its stride.

    Zhang 2019: the activation comes before the blur, which would only smooth its argument otherwise.
    """

    title = "convolution"

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.activation = site.activation
        self.convolution = _convolution(site, site.geometry, site.kind.fill)

    @property
    def multiply_adds(self) -> int:
        """Number of multiply-adds for one image, bias and blur not counted."""
        return self.convolution.multiply_adds

    def find(self, x):
        return ACTIVATIONS[self.activation](self.convolution(x))


class NoPool(Pooling):
    """No pooling: the convolution before has the stride instead ("Strided-CNN")."""

    before_activation = True
    title = "no pooling"

    def words(self) -> str:
        return f"{self.title}, stride in the convolution before"

    def pool(self, x):
        return x


def _convolution(site: PoolContext, placed: Geometry, fill="zero"):
    rest = {"stride": placed.stride, "padding": placed.pads, "layout": placed.layout, "fill": fill}
    channels = placed.input_shape[2]
    return Convolution(site.name, placed.input_shape, channels, placed.window, key=site.key, init=site.init, **rest)
