"""Local response and batch normalisation against NumPy loops: values, gradients, running statistics, precision."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cnn_jax.errors import UsageError
from cnn_jax.layers.normalisation import BatchNorm, LocalResponseNormalization
from cnn_jax.layers.windows import from_images, to_images

LAYOUTS = ("NHWC", "CHWN")
# channels; constants. The second has fewer channels than the window.
RESPONSES = {
    "paper": (8, {}),
    "few channels": (3, {}),
    "divided": (8, {"divided": True, "alpha": 0.3}),
    "others": (6, {"size": 3, "k": 1.0, "alpha": 0.2, "beta": 0.5}),
}


def drawn(*shape, seed=0, scale=1.0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype(np.float32)


def local_response_by_loops(a, size=5, k=2.0, alpha=1e-4, beta=0.75, divided=False):
    """Section 3.3 of the paper, channel by channel."""
    a, channels, half = np.asarray(a, np.float64), a.shape[-1], size // 2
    b = np.empty_like(a)
    for i in range(channels):
        total = sum(a[..., j] ** 2 for j in range(max(0, i - half), min(channels - 1, i + half) + 1))
        b[..., i] = a[..., i] / (k + (alpha / size if divided else alpha) * total) ** beta
    return b


def slope(function, x, direction, step=1e-5):
    """The derivative along a direction, by central differences in float64."""
    x, direction = np.float64(x), np.float64(direction)
    return (function(x + step * direction) - function(x - step * direction)) / (2 * step)


def in_layout(layer, layout, images, **rest):
    return to_images(layer(from_images(images, layout), **rest), layout)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("case", RESPONSES)
def test_local_response_is_that_of_loops(case, layout):
    """Activations of the order of 100, as alpha = 1e-4 was made for."""
    channels, constants = RESPONSES[case]
    layer = LocalResponseNormalization("n", (5, 4, channels), layout=layout, **constants)
    by_loops = functools.partial(local_response_by_loops, **constants)
    x, cotangent = drawn(3, 5, 4, channels, scale=100), drawn(3, 5, 4, channels, seed=1)
    y, pull = jax.vjp(functools.partial(in_layout, layer, layout), x)
    np.testing.assert_allclose(y, by_loops(x), rtol=1e-5, atol=1e-5)
    (gradient,) = pull(jnp.asarray(cotangent))
    for seed in range(2, 5):
        direction = drawn(*x.shape, seed=seed)
        expected = np.vdot(cotangent, slope(by_loops, x, direction, step=1e-3))
        np.testing.assert_allclose(np.vdot(gradient, direction), expected, rtol=1e-4, atol=1e-4)


def test_local_response_in_bfloat16_sums_in_float32():
    """k + alpha s is 2.05 on average here, between two numbers of bfloat16."""
    x = jnp.bfloat16(drawn(2, 5, 5, 8, scale=10))
    y = LocalResponseNormalization("n", (5, 5, 8))(x)
    assert y.dtype == jnp.bfloat16
    rounded = jnp.bfloat16(local_response_by_loops(np.float32(x)).astype(np.float32))
    assert np.mean(y == rounded) > 0.98


def test_an_even_window_is_refused():
    with pytest.raises(UsageError, match="norm1: size = 4 must be odd"):
        LocalResponseNormalization("norm1", (3, 3, 8), size=4)


def test_pytorch_agrees_on_local_response():
    torch = pytest.importorskip("torch")
    x, cotangent = drawn(2, 5, 4, 8, scale=10), drawn(2, 5, 4, 8, seed=1)
    layer = LocalResponseNormalization("n", (5, 4, 8), alpha=0.1, divided=True)
    y, pull = jax.vjp(layer, x)
    theirs = torch.tensor(x, requires_grad=True)
    expected = torch.nn.functional.local_response_norm(theirs.permute(0, 3, 1, 2), 5, alpha=0.1, beta=0.75, k=2.0)
    expected = expected.permute(0, 2, 3, 1)
    expected.backward(torch.tensor(cotangent))
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(pull(jnp.asarray(cotangent))[0], theirs.grad.numpy(), rtol=1e-4, atol=1e-6)


def batch_norm(x, mean, var, scale, bias, epsilon):
    return (x - mean) / np.sqrt(var + epsilon) * scale + bias


def of_batch(x):
    """Mean and variance (sum / n) over all but the last axis."""
    flat = np.float64(x).reshape(-1, x.shape[-1])
    mean = flat.sum(0) / len(flat)
    return mean, ((flat - mean) ** 2).sum(0) / len(flat)


def layer_with(shape, layout="NHWC", **constants):
    """A layer with parameters and statistics that are not those it begins with."""
    layer, channels = BatchNorm("n", shape, layout=layout, **constants), shape[-1]
    layer.scale[...], layer.bias[...] = 1 + 0.5 * drawn(channels, seed=5), drawn(channels, seed=6)
    layer.mean[...], layer.var[...] = drawn(channels, seed=7), 1 + drawn(channels, seed=8) ** 2
    return layer


def call(layer, layout, x, **rest):
    return in_layout(layer, layout, x, **rest) if x.ndim == 4 else layer(x, **rest)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(4, 3, 5), (6,)])
def test_batch_norm_in_training_uses_the_batch_and_moves_the_statistics(shape, layout):
    layer = layer_with(shape, layout, momentum=0.8, epsilon=1e-2)
    old_mean, old_var = np.asarray(layer.mean[...]), np.asarray(layer.var[...])
    x = 3 + 2 * drawn(7, *shape)
    y = call(layer, layout, x, training=True)
    mean, var = of_batch(x)
    expected = batch_norm(x, mean, var, layer.scale[...], layer.bias[...], 1e-2)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.mean[...], 0.8 * old_mean + 0.2 * mean, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(layer.var[...], 0.8 * old_var + 0.2 * var, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("shape", [(4, 3, 5), (6,)])
def test_batch_norm_otherwise_uses_the_running_statistics_and_leaves_them(shape, layout):
    layer = layer_with(shape, layout)
    mean, var = np.asarray(layer.mean[...]), np.asarray(layer.var[...])
    x = drawn(3, *shape)
    y = call(layer, layout, x)
    expected = batch_norm(x, mean, var, layer.scale[...], layer.bias[...], 1e-5)
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_array_equal(layer.mean[...], mean)
    np.testing.assert_array_equal(layer.var[...], var)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_gradients_of_batch_norm_go_through_the_batchs_statistics(layout):
    shape = (4, 3, 5)
    graph, params, statistics = nnx.split(layer_with(shape, layout), nnx.Param, nnx.BatchStat)
    x, cotangent = drawn(6, *shape), drawn(6, *shape, seed=1)

    def ours(params, x):
        return in_layout(nnx.merge(graph, params, statistics, copy=True), layout, x, training=True)

    _, pull = jax.vjp(ours, params, x)
    gradients, gradient = pull(jnp.asarray(cotangent))
    scale, bias = np.asarray(params["scale"][...]), np.asarray(params["bias"][...])
    theirs = lambda x, scale, bias: np.vdot(cotangent, batch_norm(x, *of_batch(x), scale, bias, 1e-5))
    for name, found, function, at in [
        ("x", gradient, lambda x: theirs(x, scale, bias), x),
        ("scale", gradients["scale"][...], lambda scale: theirs(x, scale, bias), scale),
        ("bias", gradients["bias"][...], lambda bias: theirs(x, scale, bias), bias),
    ]:
        direction = drawn(*at.shape, seed=3)
        expected = slope(function, at, direction)
        np.testing.assert_allclose(np.vdot(found, direction), expected, rtol=1e-4, atol=1e-4, err_msg=name)


def test_batch_norm_in_bfloat16_keeps_its_statistics_in_float32():
    """A mean of 40 with a deviation of 1: in bfloat16 the variance would be lost."""
    layer = BatchNorm("n", (3, 3, 4), momentum=0.0)
    x = jnp.bfloat16(40 + drawn(50, 3, 3, 4))
    y = layer(x, training=True)
    mean, var = of_batch(np.float32(x))
    assert (y.dtype, layer.mean.dtype, layer.var.dtype) == (jnp.bfloat16, jnp.float32, jnp.float32)
    np.testing.assert_allclose(layer.mean[...], mean, rtol=1e-5)
    np.testing.assert_allclose(layer.var[...], var, rtol=1e-4)
    np.testing.assert_allclose(np.float32(y), batch_norm(np.float32(x), mean, var, 1, 0, 1e-5), rtol=0.01, atol=0.01)


def test_pytorch_agrees_on_batch_norm_but_for_its_running_variance():
    torch = pytest.importorskip("torch")
    x = 2 + drawn(5, 4, 3, 6)
    layer, theirs = BatchNorm("n", (4, 3, 6)), torch.nn.BatchNorm2d(6)
    expected = theirs(torch.tensor(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1).detach().numpy()
    np.testing.assert_allclose(layer(x, training=True), expected, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(layer.mean[...], theirs.running_mean.numpy(), rtol=1e-5)
    unbiased = 0.9 + (np.asarray(layer.var[...]) - 0.9) * 60 / 59
    np.testing.assert_allclose(unbiased, theirs.running_var.numpy(), rtol=1e-5)
