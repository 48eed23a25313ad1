"""What an answer rests on, against loops and differences; and the images that excite a filter most."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnn_jax
from cnn_jax import attribution, config
from cnn_jax.errors import UserError
from cnn_jax.training.step import prepare_images

pytestmark = pytest.mark.usefixtures("quick_compile")
LABEL = 3


@pytest.fixture(scope="module")
def network():
    return cnn_jax.load("lenet_digits")


@pytest.fixture(scope="module")
def images(network):
    return cnn_jax.dataset(network.settings, "test").images[:20]


@pytest.fixture(scope="module")
def seen(network, images):
    return np.asarray(prepare_images(network.settings, images[:1]))[0]


@pytest.fixture(scope="module")
def found(network, images):
    return network.evidence(images[0], LABEL)


def test_occlusion_is_the_mean_fall_of_the_log_odds(network, seen, found):
    """Patches of 4x4 in the mean colour, 2 pixels apart: of 28 pixels, 13 by 13 of them."""
    copies, places = [seen], []
    for row in range(0, 25, 2):
        for column in range(0, 25, 2):
            copy = seen.copy()
            copy[row : row + 4, column : column + 4] = seen.mean()
            copies.append(copy)
            places.append((row, column))
    logits = network(np.stack(copies))[0].astype(np.float64)
    probability = np.exp(logits - logits.max(-1, keepdims=True))
    probability /= probability.sum(-1, keepdims=True)
    others = np.delete(probability, LABEL, axis=1).sum(-1)
    odds = np.log(probability[:, LABEL] / others)
    total, count = np.zeros((28, 28)), np.zeros((28, 28))
    for (row, column), after in zip(places, odds[1:]):
        total[row : row + 4, column : column + 4] += odds[0] - after
        count[row : row + 4, column : column + 4] += 1
    np.testing.assert_allclose(found.occlusion, total / count, atol=2e-3)


def test_gradient_times_input_is_that_of_differences(network, seen, found):
    assert found.gradient_input.shape == (28, 28)
    inked = np.argwhere(seen[:, :, 0] > 0.5)[::12]
    step = 0.01
    for row, column in inked:
        both = np.stack([seen, seen])
        both[0, row, column] += step
        both[1, row, column] -= step
        logits = network(both)[0][:, LABEL].astype(np.float64)
        slope = (logits[0] - logits[1]) / (2 * step)
        assert found.gradient_input[row, column] == pytest.approx(slope * seen[row, column, 0], abs=0.02)
    assert (found.gradient_input[seen[:, :, 0] == 0] == 0).all()


def test_class_activation_is_weighted_by_the_mean_slope(network, images, found):
    """From the last convolution's maps on, the network is written out anew."""
    maps = network(images[:1])[1]["conv2"][0]
    params = jax.tree.map(np.asarray, network.variables.params)

    def logit(maps):
        pooled = maps.reshape(4, 2, 4, 2, 16).max((1, 3)).reshape(-1)
        for name in ("dense1", "dense2"):
            pooled = jnp.tanh(pooled @ params[name]["kernel"] + params[name]["bias"])
        return (pooled @ params["output"]["kernel"] + params["output"]["bias"])[LABEL]

    weights = np.asarray(jax.grad(logit)(jnp.asarray(maps))).mean((0, 1))
    np.testing.assert_allclose(found.class_activation, np.maximum((maps * weights).sum(-1), 0), atol=1e-5)


def test_a_convolution_of_one_pixel_is_passed_over():
    """LeNet-5's C5: the maps of C3 are the last that tell a place."""
    network = cnn_jax.load("lenet5_mnist")
    image = np.random.default_rng(0).integers(0, 256, network.about.identity.shape, dtype=np.uint8)
    found = network.evidence(image)
    assert found.class_activation.shape == (10, 10) and found.occlusion.shape == (32, 32)
    flat = cnn_jax.build(dataclasses.replace(cnn_jax.settings("lenet_digits"), model=config.MLP()))
    assert (flat.evidence(np.zeros((28, 28, 1), np.uint8)).class_activation == 0).all()


def test_layouts_agree(network, images, found):
    other = "CHWN" if network.settings.model.layout == "NHWC" else "NHWC"
    same = cnn_jax.Network(cnn_jax.settings("lenet_digits", f"model.layout={other}"), network.variables)
    for ours, theirs in zip(found, same.evidence(images[0], LABEL)):
        np.testing.assert_allclose(ours, theirs, atol=2e-3)


@pytest.mark.parametrize("layer", ["conv1", "conv2"])
def test_the_most_exciting_images(network, images, layer):
    maps = network(images)[1][layer]
    found = network.exciting(images, layer, count=4)
    assert found.images.shape == (maps.shape[-1], 4)
    for k in range(maps.shape[-1]):
        peaks = maps[..., k].max((1, 2))
        np.testing.assert_allclose(found.values[k], np.sort(peaks)[::-1][:4], rtol=1e-5)
        for image, row, column, value in zip(found.images[k], found.rows[k], found.columns[k], found.values[k]):
            assert maps[image, row, column, k] == pytest.approx(value, rel=1e-5)


@pytest.mark.parametrize(
    "experiment, words, layer",
    [
        ("lenet_digits", (), "conv2"),
        ("lenet_digits", ("model.padding.mode=2",), "conv2"),
        ("lenet5_mnist", (), "s4"),
        pytest.param("alexnet_cifar10", ("model.width=8",), "conv3", marks=pytest.mark.slow),
    ],
)
def test_the_window_is_all_that_a_number_depends_on(experiment, words, layer):
    """The gradient of a number in the middle of a map is zero outside of its window, and not on the window's border."""
    network = cnn_jax.build(cnn_jax.settings(experiment, *words, "model.pool.kind=average"))
    model = network._network.model(network.variables)
    side, apart, start = attribution.window_of(model, layer)
    height, width, features = getattr(model, layer).output_shape
    row, column = height // 2, width // 2

    def number(image):
        maps = model.through(model.from_images(image[None]), None, layer)
        return jnp.sum(model.to_images(maps)[0, row, column] * jnp.arange(1.0, 1 + features))

    slope = np.abs(np.asarray(jax.jit(jax.grad(number))(jnp.full(network.image_shape, 0.3)))).sum(-1)
    rows, columns = (np.flatnonzero(slope.any(axis)) for axis in (1, 0))
    for found, place, size in ((rows, row, network.image_shape[0]), (columns, column, network.image_shape[1])):
        first = start + apart * place
        assert (found.min(), found.max()) == (max(first, 0), min(first + side, size) - 1)


def test_what_is_not_there_is_told(network, images):
    with pytest.raises(UserError, match="label = 10 must be from 0 to 9"):
        network.evidence(images[0], 10)
    with pytest.raises(UserError, match="layer = 'dense1' must be one that has maps: conv1, pool1"):
        network.exciting(images, "dense1")
    with pytest.raises(UserError, match="images have the shape"):
        network.evidence(images[0][:20])
