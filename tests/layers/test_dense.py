"""Dense layers, dropout and the radial basis output against NumPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax.layers.activations import ACTIVATIONS, Activation, scaled_tanh
from cnn_jax.layers.dense import Dense, Dropout, Flatten, RadialBasis, digit_bitmaps

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(5)


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_dense_is_a_matrix_product_and_so_is_its_gradient():
    layer, x, cotangent = Dense("d", 7, 4, key=KEY, init="lecun_1998"), drawn(3, 7), drawn(3, 4, seed=1)
    y, pull = jax.vjp(lambda layer, x: layer(x), layer, x)
    kernel, bias = np.asarray(layer.kernel[...]), np.asarray(layer.bias[...])
    expected = [[sum(x[n, i] * kernel[i, u] for i in range(7)) + bias[u] for u in range(4)] for n in range(3)]
    np.testing.assert_allclose(y, expected, rtol=1e-5, atol=1e-6)
    of_layer, of_x = pull(cotangent)
    np.testing.assert_allclose(of_layer.kernel[...], x.T @ cotangent, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_layer.bias[...], cotangent.sum(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(of_x, cotangent @ kernel.T, rtol=1e-5, atol=1e-6)
    assert layer.multiply_adds == 7 * 4


def test_dense_glorot_bound():
    kernel = np.abs(Dense("d", 60, 90, key=KEY, init="glorot_uniform").kernel[...])
    assert 0.99 < kernel.max() / np.sqrt(6 / 150) <= 1


def drop(x, keys, rate=0.3, purpose=1, training=True, **scale_in):
    return Dropout("d", x.shape[1:], rate, purpose, **scale_in)(x, keys, training)


@functools.cache
def dropped(**settings):
    keys = jax.random.split(KEY, 64)
    return np.asarray(drop(jnp.full((64, 500), 2.0), keys, **settings))


def test_dropout_zeroes_its_share_and_scales_the_rest():
    """32,000 units: the share is within five standard deviations, 0.013."""
    assert set(np.unique(dropped())) == {np.float32(0), np.float32(2 / 0.7)}
    assert abs(np.mean(dropped() == 0) - 0.3) < 0.013
    assert abs(dropped().mean() - 2) < 0.04
    share_of_example = np.mean(dropped() == 0, axis=1)
    assert share_of_example.min() > 0.18 and share_of_example.max() < 0.42


def test_dropout_of_an_example_depends_on_its_own_key_alone():
    keys = jax.random.split(KEY, 64)
    some = drop(jnp.full((3, 500), 2.0), keys[jnp.array([5, 9, 5])])
    np.testing.assert_array_equal(some, dropped()[[5, 9, 5]])
    assert np.any(dropped()[0] != dropped()[1])


def test_dropout_of_another_layer_is_another_draw():
    both = np.mean((dropped(purpose=1) == 0) & (dropped(purpose=2) == 0))
    assert abs(both - 0.09) < 0.013  # 0.3 x 0.3: independent


def test_dropout_gradient_is_its_mask():
    keys = jax.random.split(KEY, 64)
    gradient = jax.grad(lambda x: drop(x, keys).sum())(jnp.full((64, 500), 2.0))
    np.testing.assert_allclose(gradient, dropped() / 2, rtol=1e-6)


OFF = {
    "without keys": {"keys": None},
    "in evaluation": {"training": False},
    "at a rate of 0": {"rate": 0.0},
}


@pytest.mark.parametrize("how", OFF)
def test_dropout_switched_off(how):
    settings = {"keys": jax.random.split(KEY, 2)} | OFF[how]
    np.testing.assert_array_equal(drop(jnp.asarray(drawn(2, 9)), **settings), drawn(2, 9))


def test_dropout_of_2012_drops_the_same_and_scales_in_evaluation():
    np.testing.assert_array_equal(dropped(scale_in="evaluation"), np.where(dropped() == 0, 0, 2))
    for settings in ({"keys": None}, {"keys": jax.random.split(KEY, 2), "training": False}):
        y = drop(jnp.asarray(drawn(2, 9)), scale_in="evaluation", **settings)
        np.testing.assert_allclose(y, 0.7 * drawn(2, 9), rtol=1e-6)


@pytest.mark.parametrize("scale_in, mean, spread", [("training", 2, 0.026), ("evaluation", 1.4, 0.018)])
def test_the_mean_over_draws_is_what_evaluation_gives(scale_in, mean, spread):
    """64,000 units of 2, of which 0.7 stay: their mean is within five standard deviations."""
    keys, x = jax.random.split(KEY, 128), jnp.full((128, 500), 2.0)
    assert abs(np.mean(drop(x, keys, scale_in=scale_in)) - mean) < spread
    np.testing.assert_allclose(drop(x, keys, training=False, scale_in=scale_in), mean, rtol=1e-6)


def test_flattened_maps_are_in_the_order_of_their_pixels_in_every_layout():
    images = drawn(2, 3, 4, 5)
    np.testing.assert_array_equal(Flatten("f", (3, 4, 5))(images), images.reshape(2, 60))
    layer = Flatten("f", (3, 4, 5), "CHWN")
    np.testing.assert_array_equal(layer(images.transpose(3, 1, 2, 0)), images.reshape(2, 60))
    assert (layer.input_shape, layer.output_shape) == ((3, 4, 5), (60,))
    assert layer.describe() == "flatten 3x4x5 to 60"
    vectors = Flatten("f", (60,), "CHWN")
    np.testing.assert_array_equal(vectors(images.reshape(2, 60)), images.reshape(2, 60))
    assert vectors.output_shape == (60,)


def test_bitmaps_are_ten_different_digits_of_ink_and_paper():
    bitmaps = digit_bitmaps()
    assert bitmaps.shape == (10, 84) and set(np.unique(bitmaps)) == {-1, 1}
    apart = np.sum(bitmaps[:, None] != bitmaps, axis=-1)  # pixels
    assert apart[~np.eye(10, dtype=bool)].min() >= 5
    one = bitmaps[1].reshape(12, 7)
    assert np.all(one[:, 3] == 1)  # a vertical stroke in the middle
    with pytest.raises(ValueError, match="read-only"):
        bitmaps[0, 0] = 0


def test_radial_basis_is_the_negated_squared_distance():
    layer, x = RadialBasis("output", 10), drawn(4, 84)
    expected = [[-sum((x[n, j] - digit_bitmaps()[i, j]) ** 2 for j in range(84)) for i in range(10)] for n in range(4)]
    np.testing.assert_allclose(layer(jnp.asarray(x)), expected, rtol=1e-5)
    assert layer.output_shape == (10,) and layer.multiply_adds == 840


def test_radial_basis_answers_with_the_nearest_bitmap():
    near = digit_bitmaps() + 0.3 * drawn(10, 84)
    logits = RadialBasis("output", 10)(jnp.asarray(near))
    np.testing.assert_array_equal(logits.argmax(1), np.arange(10))
    np.testing.assert_array_equal(RadialBasis("output", 10)(jnp.asarray(digit_bitmaps())).max(1), np.zeros(10))


def test_scaled_tanh_maps_one_to_one_where_its_curvature_is_largest():
    np.testing.assert_allclose(scaled_tanh(jnp.array([-1.0, 0.0, 1.0])), [-1, 0, 1], atol=1e-5)
    at = np.linspace(0, 3, 3001)
    curvature = np.abs(np.diff(1.7159 * np.tanh(at * 2 / 3), 2))
    np.testing.assert_allclose(at[1:-1][curvature.argmax()], 1, atol=0.02)
    np.testing.assert_allclose(scaled_tanh(jnp.float32(at)), 1.7159 * np.tanh(at * 2 / 3), rtol=1e-5)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_rise_everywhere(name):
    """As pooling before the activation requires."""
    layer = Activation("a", (100,), name)
    y = layer(jnp.linspace(-4, 4, 100))
    assert np.all(np.diff(y) >= 0) and y[-1] > y[0]
    assert layer.output_shape == (100,)


@pytest.mark.parametrize(
    "name, title, by_hand",
    [
        ("tanh", "tanh", np.tanh),
        ("scaled_tanh", "1.7159 tanh(2x/3)", lambda x: 1.7159 * np.tanh(2 / 3 * x)),
        ("relu", "ReLU", lambda x: np.maximum(x, 0)),
        ("sigmoid", "sigmoid", lambda x: 1 / (1 + np.exp(-x))),
    ],
)
def test_activations_are_called_what_they_are(name, title, by_hand):
    layer, x = Activation("a", (4, 3, 2), name), drawn(5, 4, 3, 2)
    assert layer.describe() == title
    np.testing.assert_allclose(layer(x), by_hand(np.float64(x)), rtol=1e-5, atol=1e-6)
