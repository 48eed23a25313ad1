"""Mixup and CutMix against the papers' definitions in NumPy, and the distributions they promise."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from cnn_jax import config
from cnn_jax.data.augment.mixing import mix

pytestmark = pytest.mark.usefixtures("quick_compile")

HEIGHT, WIDTH, CLASSES = 14, 20, 5
BOTH = config.Augment(mixup=0.4, cutmix=1.0)


def keys(count, seed=0):
    """Keys from NumPy: jax.random.split would be compiled anew for every count."""
    return jax.random.wrap_key_data(np.random.default_rng(seed).integers(0, 2**32, (count, 2), dtype=np.uint32))


@functools.partial(jax.jit, static_argnames="settings")
def jitted(images, targets, keys, settings):
    return mix(images, targets, keys, settings)


def batch(count):
    rng = np.random.default_rng(0)
    images = rng.normal(size=(count, HEIGHT, WIDTH, 3)).astype(np.float32)
    return images, rng.dirichlet(np.ones(CLASSES), count).astype(np.float32)


def kept(count, settings, seed=0):
    """Which part each example keeps of its pixels [N, H, W] and of its target [N]."""
    own = np.arange(count, dtype=np.float32) % 2  # 0 beside a partner of 1, and the other way round
    images = np.tile(own[:, None, None, None], (1, HEIGHT, WIDTH, 1))
    pixels, targets = jitted(images, own[:, None], keys(count, seed), settings)
    turn = lambda values, own: np.where(own == 1, values, 1 - values)
    return turn(np.asarray(pixels)[..., 0], own[:, None, None]), turn(np.asarray(targets)[:, 0], own)


def partners(values):
    return values[np.arange(len(values)) ^ 1]


def test_all_off_is_no_operation():
    images, targets = batch(3)
    mixed = mix(images, targets, keys(3), config.Augment())
    assert mixed[0] is images and mixed[1] is targets


@pytest.mark.parametrize("settings", [config.Augment(mixup=0.2), config.Augment(cutmix=1.0), BOTH])
def test_images_and_targets_are_mixed_with_the_neighbours(settings):
    images, targets = batch(40)
    pixels, mixed = jitted(images, targets, keys(40), settings)
    weights, shares = kept(40, settings)
    weights, shares = weights[..., None], shares[:, None]
    np.testing.assert_allclose(pixels, weights * images + (1 - weights) * partners(images), atol=1e-5)
    np.testing.assert_allclose(mixed, shares * targets + (1 - shares) * partners(targets), atol=1e-5)
    np.testing.assert_allclose(np.sum(mixed, axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(weights.mean(axis=(1, 2)), shares, atol=1e-5)


@pytest.mark.parametrize("a", [0.2, 3.0])
def test_mixup_blends_whole_images_by_shares_from_the_beta_distribution(a):
    weights, shares = kept(1000, config.Augment(mixup=a))
    np.testing.assert_allclose(weights, np.broadcast_to(shares[:, None, None], weights.shape), atol=1e-6)
    assert scipy.stats.kstest(shares, "beta", (a, a)).pvalue > 0.01
    assert abs(np.corrcoef(shares[::2], shares[1::2])[0, 1]) < 0.15  # each example its own


def papers_box(rng, a):
    """Yun 2019, algorithm A1, as in the released code: the share of the image that is kept, and the box."""
    cut = np.sqrt(1 - rng.beta(a, a))
    height, width = int(HEIGHT * cut), int(WIDTH * cut)
    y, x = rng.integers(HEIGHT), rng.integers(WIDTH)
    top, bottom = np.clip([y - height // 2, y + height // 2], 0, HEIGHT)
    left, right = np.clip([x - width // 2, x + width // 2], 0, WIDTH)
    return 1 - (bottom - top) * (right - left) / (HEIGHT * WIDTH), top, left, bottom, right


def test_cutmix_boxes_are_distributed_as_the_papers():
    a, count = 0.7, 2000
    weights, shares = kept(count, config.Augment(cutmix=a))
    assert set(np.unique(weights)) == {0.0, 1.0}
    found = []
    for weight, share in zip(weights, shares, strict=True):
        rows, columns = np.flatnonzero(np.any(weight == 0, axis=1)), np.flatnonzero(np.any(weight == 0, axis=0))
        if not len(rows):
            found.append((1, 0, 0, 0, 0))
            continue
        top, left, bottom, right = rows[0], columns[0], rows[-1] + 1, columns[-1] + 1
        assert np.all(weight[top:bottom, left:right] == 0)
        np.testing.assert_allclose(share, 1 - np.sum(weight == 0) / weight.size, atol=1e-6)
        found.append((share, top, left, bottom, right))
    rng = np.random.default_rng(1)
    theirs = [papers_box(rng, a) for _ in range(count)]
    theirs = [box if box[0] < 1 else (1, 0, 0, 0, 0) for box in theirs]
    for ours, expected in zip(np.round(np.transpose(found), 6), np.round(np.transpose(theirs), 6), strict=True):
        assert scipy.stats.ks_2samp(ours, expected).pvalue > 0.01


def test_cutmix_moves_pixels_and_changes_none():
    images, targets = batch(20)
    pixels = np.asarray(jitted(images, targets, keys(20), config.Augment(cutmix=1.0))[0])
    assert np.all((pixels == images) | (pixels == partners(images)))


def test_with_both_each_example_takes_one_of_the_two():
    weights, shares = kept(600, BOTH)
    blended = np.ptp(weights, axis=(1, 2)) == 0
    assert scipy.stats.binomtest(int(np.sum(blended & (shares < 1))), 600).pvalue > 0.01
    alone = kept(600, config.Augment(mixup=BOTH.mixup))[1], kept(600, config.Augment(cutmix=BOTH.cutmix))[1]
    assert np.all(np.isclose(shares, alone[0], atol=1e-6) | np.isclose(shares, alone[1], atol=1e-6))


def test_a_pair_depends_on_its_own_two_keys_only():
    images, targets = batch(12)
    whole = jitted(images, targets, keys(12), BOTH)
    pair = slice(6, 8)
    part = jitted(images[pair], targets[pair], keys(12)[pair], BOTH)
    for ours, expected in zip(part, whole):
        np.testing.assert_allclose(ours, expected[pair], atol=1e-6)
    over_seeds = jax.vmap(lambda i, t, k: jitted(i, t, k, BOTH))
    stacked = over_seeds(images.reshape(2, 6, *images.shape[1:]), targets.reshape(2, 6, -1), keys(12).reshape(2, 6))
    np.testing.assert_allclose(stacked[0].reshape(images.shape), whole[0], atol=1e-6)
    assert not np.array_equal(jitted(images, targets, keys(12, seed=1), BOTH)[0], whole[0])


@pytest.mark.parametrize("a", [1e-3, 1e3])
def test_extreme_shares_are_finite(a):
    images, targets = batch(200)
    for mixed in jitted(images, targets, keys(200), config.Augment(mixup=a, cutmix=a)):
        assert np.all(np.isfinite(mixed))


def test_an_odd_batch_is_refused():
    images, targets = batch(3)
    with pytest.raises(ValueError, match="3 examples is odd"):
        mix(jnp.asarray(images), jnp.asarray(targets), keys(3), config.Augment(mixup=0.2))
