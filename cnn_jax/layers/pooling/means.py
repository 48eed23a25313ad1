"""Pooling between the mean and the maximum: power means, log-sum-exp, and means weighted by exponentials.

All compute in float32, whatever the precision of the network, and round to what came in.
"""

import jax
import jax.numpy as jnp
from flax import nnx
from jax import lax

from cnn_jax.layers.convolution import convolve
from cnn_jax.layers.pooling.base import PoolContext, Pooling, number
from cnn_jax.layers.pooling.reductions import log_mean_exp_pool, soft_pool
from cnn_jax.layers.windows import geometry, per_channel


class PowerMean(Pooling):
    """Lp pooling: (mean of a^p)^(1/p), p the power, from the mean at p = 1 towards the maximum (Boureau et al. 2010).

    For activations that are not negative: they are raised to at least 1e-6, as in GeM, which is the same over the
    whole map with a trainable p (Radenovic et al. 2018). Parameters: p, a number, if it is learned.
    """

    def __init__(self, site: PoolContext):
        super().__init__(site)
        learned, p = site.kind.learned, site.kind.p
        self.title = "Lp pooling, power learned," if learned else f"Lp pooling, power {p:g},"
        self.p = nnx.Param(jnp.float32(p)) if learned else p

    def pool(self, x):
        logarithm = jnp.log(jnp.maximum(x.astype(jnp.float32), 1e-6))
        return jnp.exp(log_mean_exp_pool(logarithm, number(self.p), self.geometry)).astype(x.dtype)


class LogSumExp(Pooling):
    """log(mean of exp(beta a)) / beta: from the mean at beta = 0 towards the maximum (Pinheiro and Collobert 2015).

    Parameters: beta, a number, if it is learned.
    """

    def __init__(self, site: PoolContext):
        super().__init__(site)
        learned, beta = site.kind.learned, site.kind.beta
        self.title = "log-sum-exp pooling, beta learned," if learned else f"log-sum-exp pooling, beta = {beta:g},"
        self.beta = nnx.Param(jnp.float32(beta)) if learned else beta

    def pool(self, x):
        return log_mean_exp_pool(x, number(self.beta), self.geometry).astype(x.dtype)


class SoftPool(Pooling):
    """The mean of each window weighted by exp(beta a); beta = 1 is SoftPool (Stergiou et al. 2021)."""

    def __init__(self, site: PoolContext):
        super().__init__(site)
        self.beta = site.kind.beta
        self.title = "soft pooling" + f", beta = {self.beta:g}," * (self.beta != 1)

    def pool(self, x):
        return soft_pool(self.beta * x.astype(jnp.float32), self.geometry, x)[1].astype(x.dtype)


class LocalImportance(Pooling):
    """The mean of each window weighted by the exponential of a learned logit: LIP (Gao et al. 2019).

    The logit is that of the paper's simplest form (SimplifiedLIP in the authors' code): a 3x3 convolution without
    bias, normalised over each map of each image, scaled and shifted by channel, and 12 times its sigmoid. The kernel
    begins at 0, as theirs, and the layer as average pooling.

    Parameters: kernel [3, 3, channels, channels]; scale [channels], started at 1; bias [channels], at 0.
    """

    title = "local importance pooling"

    def __init__(self, site: PoolContext):
        super().__init__(site)
        channels = self.input_shape[2]
        self.around = geometry(self.name, self.input_shape, 3, padding=1, layout=self.geometry.layout)
        self.kernel = nnx.Param(jnp.zeros((3, 3, channels, channels)))
        self.scale = nnx.Param(jnp.ones(channels))
        self.bias = nnx.Param(jnp.zeros(channels))

    @property
    def multiply_adds(self) -> int:
        """Number of multiply-adds for one image: those of the logit's convolution."""
        height, width, channels = self.input_shape
        return height * width * 9 * channels**2

    def pool(self, x):
        layout, axes = self.geometry.layout, self.geometry.axes
        logit = convolve(x, self.kernel[...], self.around).astype(jnp.float32)
        mean, var = (of(logit, axes, keepdims=True) for of in (jnp.mean, jnp.var))
        normal = (logit - mean) * lax.rsqrt(var + 1e-5)  # PyTorch's instance normalisation
        normal = normal * per_channel(self.scale[...], layout) + per_channel(self.bias[...], layout)
        return soft_pool(12 * jax.nn.sigmoid(normal), self.geometry, x)[1].astype(x.dtype)
