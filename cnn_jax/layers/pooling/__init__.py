"""Pooling: every kind is a reduction over the same windows, behind one constructor, `make_pool`.

A new kind is one class with a method `pool`, in the file of its family, its declaration in config/poolings.py, and a
line in `POOLS` that puts the two together; docs/add_your_own.md has an example.
"""

import jax

from cnn_jax import config
from cnn_jax.config import poolings
from cnn_jax.config.networks import Normal
from cnn_jax.layers.pooling import basic, blur, convolution, means, mixed, polyphase, random, ranked
from cnn_jax.layers.pooling.base import PoolContext, Pooling
from cnn_jax.layers.windows import on_layout

POOLS = {
    poolings.Max: basic.MaxPool,
    poolings.Average: basic.AveragePool,
    poolings.Min: basic.MinPool,
    poolings.Subsample: basic.Subsample,
    poolings.Lp: means.PowerMean,
    poolings.LogSumExp: means.LogSumExp,
    poolings.Soft: means.SoftPool,
    poolings.Lip: means.LocalImportance,
    poolings.Stochastic: random.StochasticPool,
    poolings.MaxAverage: mixed.MaxPlusAverage,
    poolings.Mixed: mixed.MixedPool,
    poolings.Gated: mixed.GatedPool,
    poolings.Tree: mixed.TreePool,
    poolings.Fractional: random.FractionalPool,
    poolings.S3: random.S3Pool,
    poolings.Conv: convolution.ConvolutionPool,
    poolings.ConvMax: convolution.ConvolutionMax,
    poolings.Strided: convolution.NoPool,
    poolings.MaxBlur: blur.MaxBlur,
    poolings.AverageBlur: blur.AverageBlur,
    poolings.ConvBlur: convolution.ConvolutionBlur,
    poolings.Aps: polyphase.AdaptivePolyphase,
    poolings.Lps: polyphase.LearnedPolyphase,
    poolings.Pyramid: basic.PyramidPool,
    poolings.Alpha: mixed.AlphaPool,
    poolings.AverageTopK: ranked.AverageTopK,
    poolings.TMaxAvg: ranked.ThresholdMaxAverage,
    poolings.Atp: ranked.AverageThreshold,
    poolings.Ordinal: ranked.OrdinalPool,
}


def make_pool(
    name: str,
    input_shape: tuple[int, int, int],
    settings: config.Pool,
    layout: str = "NHWC",
    *,
    last: bool = False,
    key: jax.Array | None = None,
    init: str | Normal = "glorot_uniform",
    activation: str = "relu",
) -> Pooling:
    """Returns the pooling layer that the settings ask for.

    Args:
      name: for messages, tables, initial weights and random draws.
      input_shape: height, width, channels.
      settings: of the pooling.
      layout: "NHWC" or "CHWN".
      last: whether a dense layer comes next, and `settings.last` applies.
      key: PRNG key of the model's initial weights; None does for kinds without any.
      init: of convolutions in place of pooling, as `initializers.weights_and_bias`.
      activation: of the network.

    Raises:
      UsageError: no window fits, the padding is as large as the window, or the kind does not fit the input.
    """
    kind, placed = settings.chosen(last), settings.place(name, input_shape, last)
    return POOLS[type(kind)](PoolContext(name, on_layout(placed, layout), settings, kind, key, init, activation))
