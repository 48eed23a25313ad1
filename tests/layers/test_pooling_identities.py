"""What the literature says of kinds of pooling: limits, invariances, sizes, first weights; and refusals."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx

from cnn_jax import config
from cnn_jax.errors import UsageError
from cnn_jax.layers.pooling import make_pool
from cnn_jax.layers.windows import from_images, to_images

pytestmark = pytest.mark.usefixtures("quick_compile")
BATCH, CHANNELS = 2, 3


def pooled(x, **settings):
    """NHWC maps through a layer as it begins."""
    layer = make_pool("pool", x.shape[1:], config.Pool.of(**settings), "CHWN", key=jax.random.key(0))
    return to_images(jax.jit(layer)(from_images(x, "CHWN")), "CHWN")


def normal(shape=(BATCH, 6, 6, CHANNELS), seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_limits_and_identities():
    x = normal()
    positive = np.abs(x)
    close = functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-4)
    largest, mean = pooled(x), pooled(x, kind="average")
    close(pooled(positive, kind="lp", p=1.0), pooled(positive, kind="average"))
    close(pooled(positive, kind="lp", p=1.0, window=0), positive.mean((1, 2), keepdims=True))  # GeM(1) = GAP
    np.testing.assert_allclose(pooled(positive, kind="lp", p=2000.0), pooled(positive), rtol=1e-3)
    close(pooled(x, kind="log_sum_exp", beta=1e-3), mean, atol=2e-3)
    close(pooled(x, kind="log_sum_exp", beta=2000.0), largest, atol=1e-3)
    close(pooled(x, kind="soft", beta=2000.0), largest)
    soft = pooled(x, kind="soft")
    assert np.all(mean - 1e-6 <= soft) and np.all(soft <= largest + 1e-6) and np.all(soft != mean)
    close(pooled(x, kind="mixed", share=1.0), largest)
    close(pooled(x, kind="mixed", share=0.0), mean)
    close(pooled(x, kind="average_blur", window=1, filter=2), mean)  # Rect-2
    close(pooled(x, kind="max_blur", filter=1), largest)
    close(pooled(np.full_like(x, 0.7), kind="stochastic"), 0.7)
    close(pooled(x, kind="gated"), (largest + mean) / 2)  # as it begins


def test_what_commutes():
    """min o relu = relu o min (max: test_pooling.py), but not of averages; circular convolution and shifts."""
    x, relu = normal(), jax.nn.relu
    np.testing.assert_array_equal(pooled(relu(x), kind="min"), relu(pooled(x, kind="min")))
    for kind in ("average", "max_average", "soft"):
        assert np.abs(pooled(relu(x), kind=kind) - relu(pooled(x, kind=kind))).max() > 0.01
    rest = dict(window=3, stride=1, padding="same", fill="circular", filter=1)
    convolved = pooled(x, kind="conv_blur", **rest)
    for shift in ((1, 2), (3, -1)):
        moved = pooled(np.roll(x, shift, (1, 2)), kind="conv_blur", **rest)
        np.testing.assert_allclose(moved, np.roll(convolved, shift, (1, 2)), rtol=1e-5, atol=1e-6)


def test_learned_kinds_begin_as_published():
    x = normal()
    make_kind = lambda **settings: make_pool("p", x.shape[1:], config.Pool.of(**settings), key=jax.random.key(0))
    np.testing.assert_allclose(jax.jit(make_kind(kind="lip"))(x), pooled(x, kind="average"), rtol=1e-4, atol=1e-5)
    assert make_kind(kind="lp", learned=True).p[...] == 3
    assert make_kind(kind="mixed", learned=True, share=0.25).share[...] == 0.25
    leaves = make_kind(kind="tree", depth=3, window=3).leaves[...]
    assert leaves.shape == (4, 3, 3) and 0.02 < np.std(9 * leaves) < 0.2 and abs(np.mean(9 * leaves) - 1) < 0.1


def test_multiply_adds_and_parameters():
    def counts(**settings):
        layer = make_pool("p", (8, 6, 5), config.Pool.of(**settings), key=jax.random.key(0))
        return layer.multiply_adds, sum(leaf.size for leaf in jax.tree.leaves(nnx.state(layer, nnx.Param)))

    assert counts(kind="conv", window=3) == (3 * 2 * 9 * 25, 9 * 25 + 5)
    assert counts(kind="conv_max", window=3) == (8 * 6 * 9 * 25, 9 * 25 + 5)
    assert counts(kind="conv_blur", window=3) == (6 * 4 * 9 * 25, 9 * 25 + 5)
    assert counts(kind="lps") == (2 * 8 * 6 * 9 * 25, 2 * (9 * 25 + 5))
    assert counts(kind="lip") == (8 * 6 * 9 * 25, 9 * 25 + 10)
    assert counts(kind="gated", window=3) == (0, 9)
    assert counts(kind="tree", window=3, depth=3) == (0, 7 * 9)
    assert counts(kind="mixed", learned=True) == (0, 1)
    assert counts(kind="strided") == counts(kind="soft") == (0, 0)


@pytest.mark.parametrize("kind", ["max_blur", "average_blur", "conv_blur", "aps", "lps", "s3"])
@pytest.mark.parametrize("window, stride, padding", [(2, 2, "valid"), (3, 2, "valid"), (3, 2, "same"), (3, 3, "1")])
def test_sampling_afterwards_keeps_the_size_of_plain_pooling(kind, window, stride, padding):
    for size in ((24, 23), (13, 12)):
        grid = {"grid": 2 * stride} if kind == "s3" else {}
        settings = dict(window=window, stride=stride, padding=padding)
        make_kind = lambda **more: make_pool("p", (*size, 2), config.Pool.of(**settings, **more), key=jax.random.key(0))
        assert make_kind(kind=kind, **grid).output_shape == make_kind().output_shape


def test_adaptive_polyphase_sampling_follows_any_shift():
    """Twice, with circular padding: sums over the map stay the same; those of max pooling do not.

    Mixed components do not move together: their sum stays the same, but not what a second pooling makes of them.
    """
    x = np.abs(normal((1, 16, 12, 2)))
    shifted = np.concatenate([np.roll(x, shift, (1, 2)) for shift in np.ndindex(4, 4)])

    def spread(kind, times=2, **settings):
        y = shifted
        for _ in range(times):
            y = np.asarray(pooled(y, **{"kind": kind, "window": 3, "padding": "same", **settings}))
        sums = y.sum((1, 2))
        return np.abs(sums / sums[0] - 1).max()

    for size in (1, 4):
        assert spread("aps", fill="circular", filter=size) < 1e-6
        assert spread("lps", 1, fill="circular", filter=size, convex=True) < 1e-6
    assert spread("lps", fill="circular", filter=1) < 1e-6
    assert spread("max") > 1e-3 and spread("max_blur", fill="circular") > 1e-5


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"kind": "s3", "grid": 3}, ["pool3", "pool.grid = 3", "multiple of pool.stride = 2"]),
        ({"kind": "max_blur", "filter": 7, "window": 4}, ["pool3", "'reflect'", "at most"]),
        ({"last": "pyramid", "levels": 6, "kind": "max"}, None),
        ({"last": "lp", "p": 2.0, "kind": "max"}, None),
    ],
)
def test_wrong_settings_are_named(settings, words):
    if words is None:
        make_pool("pool3", (6, 7, 3), config.Pool.of(**settings))
        return
    with pytest.raises(UsageError) as error:
        make_pool("pool3", (6, 7, 3), config.Pool.of(**settings))
    assert [word for word in words if word not in str(error.value)] == []


def test_a_pyramid_finer_than_the_map_is_refused():
    with pytest.raises(UsageError, match="pool.levels = 4 is too fine a grid for maps of 3x5"):
        make_pool("p", (3, 5, 1), config.Pool.of(last="pyramid", levels=4), last=True)


def test_the_last_pooling_is_global():
    x = normal()
    settings = config.Pool.of(kind="average", last="max")
    last = make_pool("p", x.shape[1:], settings, last=True)
    np.testing.assert_array_equal(last(x), x.max((1, 2), keepdims=True))
    assert make_pool("p", x.shape[1:], settings).output_shape == (3, 3, CHANNELS)
    assert make_pool("p", x.shape[1:], config.Pool.of(last="max")).output_shape == (3, 3, CHANNELS)
