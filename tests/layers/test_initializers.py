"""Initial weights by name: distributions of kernels and biases."""

import jax
import numpy as np
import pytest
import scipy.stats

from cnn_jax.layers.convolution import Convolution
from cnn_jax.layers.dense import Dense
from cnn_jax.layers.initializers import Normal, weights_and_bias

KEY = jax.random.key(8)
CONV = dict(fan_in=5 * 5 * 10, shape=(5, 5, 10, 60))  # in two groups of 10 channels
DENSE = dict(fan_in=120, shape=(120, 130))


def made(kind, init):
    if kind == "conv":
        return Convolution("c", (9, 9, 20), 60, 5, key=KEY, groups=2, init=init), CONV
    return Dense("d", 120, 130, key=KEY, init=init), DENSE


def assert_drawn_from(values, distribution):
    """Kolmogorov and Smirnov do not object."""
    assert scipy.stats.kstest(np.ravel(values), distribution.cdf).pvalue > 0.001


@pytest.mark.parametrize("kind", ["conv", "dense"])
def test_normal(kind):
    layer, facts = made(kind, Normal(0.03, bias=1))
    assert layer.kernel.shape == facts["shape"]
    assert_drawn_from(layer.kernel[...], scipy.stats.norm(scale=0.03))
    np.testing.assert_array_equal(layer.bias[...], np.ones(facts["shape"][-1]))
    assert not made(kind, Normal(0.03))[0].bias[...].any()


@pytest.mark.parametrize("kind", ["conv", "dense"])
def test_he_normal(kind):
    layer, facts = made(kind, "he_normal")
    assert_drawn_from(layer.kernel[...], scipy.stats.norm(scale=np.sqrt(2 / facts["fan_in"])))
    assert not layer.bias[...].any()


@pytest.mark.parametrize("kind", ["conv", "dense"])
def test_torch(kind):
    layer, facts = made(kind, "torch")
    bound = 1 / np.sqrt(facts["fan_in"])
    for values in (layer.kernel[...], layer.bias[...]):
        assert_drawn_from(values, scipy.stats.uniform(-bound, 2 * bound))


def test_an_unknown_name_is_an_error():
    with pytest.raises(ValueError, match="init = 'xavier'"):
        weights_and_bias("xavier", KEY, (3, 4), 3, 4, [3] * 4)
