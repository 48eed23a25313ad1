"""Kinds of pooling that draw in training: what they draw, how often, and for whom."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn_jax import config
from cnn_jax.layers.initializers import Normal
from cnn_jax.layers.pooling import make_pool
from cnn_jax.layers.windows import from_images, to_images

pytestmark = pytest.mark.usefixtures("quick_compile")
LAYOUTS = ("NHWC", "CHWN")
KEYS = 2000


def pooled(x, keys=None, **settings):
    """NHWC maps through a layer without parameters; in training with keys."""
    layout = "CHWN"
    layer = make_pool("pool", x.shape[1:], config.Pool.of(**settings), layout)
    pooling = jax.jit(lambda x, keys: to_images(layer(from_images(x, layout), keys), layout))
    return np.asarray(pooling(x, keys))


def normal(shape=(2, 6, 6, 3), seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


@functools.cache
def many(shape, seed=0):
    return jax.random.split(jax.random.key(seed), shape)


def test_stochastic_pooling_draws_elements_by_their_size():
    x = np.zeros((1, 4, 4, 2), np.float32)
    x[0, :2, :2, 0], x[0, 2:, :2, 1] = [[1, 2], [0, 5]], [[-3, 1], [0, 1]]
    y = pooled(np.repeat(x, KEYS, 0), kind="stochastic", keys=many(KEYS))
    for value, share in ((1, 1 / 8), (2, 2 / 8), (5, 5 / 8)):
        assert np.mean(y[:, 0, 0, 0] == value) == pytest.approx(share, abs=0.04)
    assert np.all(y[:, 1, 0, 1] == 1)  # what is negative is never drawn
    assert not y[:, :, 1].any() and not y[:, 0, 0, 1].any()


def test_stochastic_gradients_go_to_the_element_drawn():
    x, layout = np.abs(normal()), "CHWN"
    layer = make_pool("p", x.shape[1:], config.Pool.of(kind="stochastic", window=3), layout)

    @jax.jit
    def run(x, keys):
        y, pull = jax.vjp(lambda x: to_images(layer(from_images(x, layout), keys), layout), x)
        return y, *pull(jnp.ones_like(y))

    y, gradient = run(x, many(2))
    expected = np.zeros_like(x)
    for image, row, column, channel in np.ndindex(y.shape):
        patch = x[image, 2 * row : 2 * row + 3, 2 * column : 2 * column + 3, channel]
        (i,), (j,) = np.nonzero(patch == y[image, row, column, channel])
        expected[image, 2 * row + i, 2 * column + j, channel] += 1
    np.testing.assert_allclose(gradient, expected)
    assert len(np.unique(y - pooled(x, kind="stochastic", window=3))) > 1


def test_mixed_pooling_draws_the_maximum_or_the_average():
    x = np.repeat(normal((1, 4, 4, 2)), KEYS, 0)
    largest, mean = pooled(x), pooled(x, kind="average")
    for per_region in (False, True):
        y = pooled(x, kind="mixed", share=0.3, per_region=per_region, keys=many(KEYS))
        chosen = np.isclose(y, largest, atol=1e-6)
        assert np.all(chosen | np.isclose(y, mean, atol=1e-6))
        assert chosen.mean() == pytest.approx(0.3, abs=0.04)
        same = chosen.reshape(KEYS, -1).all(1) | ~chosen.reshape(KEYS, -1).any(1)
        assert same.all() != per_region


def ramps(count, height, width):
    """Maps whose first channel is the row's number, the second the column's, the third normal numbers."""
    rows, columns = np.meshgrid(np.arange(height), np.arange(width), indexing="ij")
    x = np.stack([rows, columns, normal((height, width))], axis=-1).astype(np.float32)
    return np.repeat(x[None], count, 0)


@pytest.mark.parametrize("sequence", ["pseudorandom", "random"])
def test_fractional_regions(sequence):
    """Their edges are read off the ramps; the third channel is then what NumPy finds between them."""
    x = ramps(64, 10, 9)
    y = pooled(x, many(64), kind="fractional", ratio=1.5, sequence=sequence)
    assert y.shape == (64, 6, 6, 3)
    rows = np.concatenate([np.zeros((64, 1)), y[:, :, 0, 0]], 1).astype(int)
    columns = np.concatenate([np.zeros((64, 1)), y[:, 0, :, 1]], 1).astype(int)
    for edges, side in ((rows, 9), (columns, 8)):
        assert set(np.diff(edges).ravel()) == {1, 2} and np.all(edges[:, -1] == side)
        assert len(np.unique(edges, axis=0)) > (1 if sequence == "pseudorandom" else 9)
    for image, i, j in np.ndindex(64, 6, 6):
        (top, bottom), (left, right) = rows[image, i : i + 2], columns[image, j : j + 2]
        region = x[image, top : bottom + 1, left : right + 1]  # it shares its last row with the next one
        np.testing.assert_array_equal(y[image, i, j], region.max((0, 1)))


def test_s3_keeps_rows_and_columns_of_the_maximum():
    x = ramps(KEYS, 8, 7)
    dense = np.lib.stride_tricks.sliding_window_view(x[0], (2, 2), (0, 1)).max((3, 4))
    y = pooled(x, many(KEYS), kind="s3")
    rows, columns = y[:, :, 0, 0].astype(int) - 1, y[:, 0, :, 1].astype(int) - 1
    for kept, grids in ((rows, ((0, 4, 2), (4, 7, 2))), (columns, ((0, 4, 2), (4, 6, 1)))):
        assert np.all(np.diff(kept) > 0)
        for low, high, count in grids:
            assert np.all(np.sum((low <= kept) & (kept < high), 1) == count)
            for place in range(low, high):
                assert np.mean(np.any(kept == place, 1)) == pytest.approx(count / (high - low), abs=0.05)
    for image in range(0, KEYS, 100):
        np.testing.assert_array_equal(y[image], dense[np.ix_(rows[image], columns[image])])


def test_learned_polyphase_draws_components_by_their_softmax():
    """At a low temperature, one of them; at a high one, a mixture that is nearly their mean."""
    x = np.repeat(normal((1, 8, 8, 2)), KEYS, 0)
    cold, warm = (config.Pool.of(kind="lps", window=1, filter=1, temperature=t) for t in (0.01, 1000.0))
    make = lambda settings: make_pool("pool", (8, 8, 2), settings, key=jax.random.key(1), init=Normal(0.7))
    layer = make(cold)
    components = [x[:1, i::2, j::2] for i in (0, 1) for j in (0, 1)]
    shares = np.asarray(jax.nn.softmax(layer._logits(list(map(jnp.asarray, components)))[:, 0]))
    y, mixed = jax.jit(lambda x, keys: (layer(x, keys), make(warm)(x[:9], keys[:9])))(x, many(KEYS))
    for share, component in zip(shares, components, strict=True):
        drawn = np.isclose(y, component, atol=1e-3).all((1, 2, 3))
        assert drawn.mean() == pytest.approx(share, abs=0.05)
    assert np.ptp(shares) > 0.05
    np.testing.assert_allclose(mixed, np.repeat(np.mean(components, 0), 9, 0), atol=0.02)


@pytest.mark.parametrize("kind", ["stochastic", "mixed", "fractional", "s3", "lps"])
def test_draws_are_those_of_the_image(kind):
    """Not of the batch, the layout, or the seeds that train alongside; and none without keys."""
    settings = config.Pool.of(kind=kind)
    assert settings.draws
    x, keys = np.repeat(np.abs(normal((1, 8, 7, 2))), 12, 0), many(12)
    layer, turned = (make_pool("pool", x.shape[1:], settings, layout, key=jax.random.key(0)) for layout in LAYOUTS)

    @jax.jit
    def run(x, keys):
        chwn = lambda x, keys: to_images(turned(from_images(x, "CHWN"), keys), "CHWN")
        seeds = jax.vmap(chwn)(jnp.stack([x, x]), jnp.stack([keys, keys[::-1]]))
        return layer(x, keys), seeds, layer(x)

    y, seeds, evaluated = run(x, keys)
    np.testing.assert_allclose(seeds, [y, y[::-1]], rtol=1e-6, atol=1e-6)
    assert np.ptp(y, axis=0).max() > 0 and np.ptp(evaluated, axis=0).max() == 0


def test_two_layers_draw_differently():
    x = np.repeat(normal((1, 4, 4, 2)), 20, 0)
    first, second = (make_pool(name, x.shape[1:], config.Pool.of(kind="mixed")) for name in ("pool1", "pool2"))
    ours, theirs = jax.jit(lambda x, keys: (first(x, keys), second(x, keys)))(x, many(20))
    assert np.any(ours != theirs)
