"""The arithmetic that the live page shows: added up again, it gives the network's own numbers."""

import numpy as np
import pytest

import cnn_jax
from cnn_jax.explore.scene import Scene
from cnn_jax.layers.activations import ACTIVATIONS
from cnn_jax.layers.convolution import Convolution
from cnn_jax.layers.dense import Dense, RadialBasis
from cnn_jax.layers.pooling import basic

NETWORKS = {
    "lenet5_mnist": [],  # a connection table, subsampling, distances to bitmaps
    "lenet_digits": ["model.padding.mode=same", "model.padding.fill=reflect", "model.pool.kind=average"],
    "alexnet_cifar10": ["model.width=8"],  # batch normalisation, overlapping pooling
    "alexnet_imagenet": ["model.padding.fill=partial", "data.crop=67"],  # groups, LRN
}
CHOSEN = np.random.default_rng(0)


SLOW = ("alexnet_cifar10", "alexnet_imagenet")


@pytest.fixture(
    scope="module", params=[pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in NETWORKS]
)
def actor(request):
    network = cnn_jax.build(cnn_jax.settings(request.param, *NETWORKS[request.param]))
    return Scene({request.param: network}).actors[0]


def places(shape):
    """Some numbers of a layer, those of its corners among them."""
    corners = [tuple(0 for _ in shape), tuple(side - 1 for side in shape)]
    return corners + [tuple(int(CHOSEN.integers(side)) for side in shape) for _ in range(3)]


def test_each_number_is_what_its_arithmetic_gives(actor):
    pixels = CHOSEN.integers(0, 256, actor.network.facts.shape, np.uint8)
    _, parts = actor.look(pixels)
    seen = set()
    for stage in actor.stages:
        layer, y = stage.layer, parts[stage.layer.name]
        seen.add(type(layer).__name__)
        for place in places(y.shape):
            unit = actor.unit(pixels, layer.name, place)
            np.testing.assert_allclose(unit.value, parts[stage.shown][place], rtol=1e-4, atol=1e-5)
            found = again(layer, unit, actor, place)
            if found is not None:
                activation = ACTIVATIONS[stage.after.kind] if stage.after else lambda x: x
                np.testing.assert_allclose(float(activation(found)), unit.value, rtol=1e-3, atol=1e-4)
            assert unit.lines and (unit.window is None) == (len(place) == 1)
    assert len(seen) >= 3


def again(layer, unit, actor, place):
    """The number before the activation, from what is said to be read; None where another rule is at work."""
    params = actor.network.variables.params.get(layer.name, {})
    bias = float(params["bias"][place[-1]]) if "bias" in params else 0.0
    if isinstance(layer, Convolution | Dense) and getattr(layer, "fill", "") != "partial":
        return sum(float(np.sum(each.values * each.weights)) for each in unit.inputs) + bias
    if isinstance(layer, basic.Subsample):
        return float(unit.inputs[0].values.sum() * params["coefficient"][place[-1]]) + bias
    if isinstance(layer, basic.MaxPool):
        return float(np.nanmax(unit.inputs[0].values))
    if isinstance(layer, basic.AveragePool):
        return float(np.nanmean(unit.inputs[0].values))
    if isinstance(layer, RadialBasis):
        return -float(np.sum((unit.inputs[0].values - unit.inputs[0].weights) ** 2))
    return None


def test_what_lies_outside_its_window_does_not_count(actor):
    """Of the first convolution, on the image that it reads: other pixels change nothing, each inside changes it."""
    stage = actor.stages[0]
    image, parts = actor.look(CHOSEN.integers(0, 256, actor.network.facts.shape, np.uint8))
    place = (3, 2, 1)
    row, column, high, wide = actor.unit(np.zeros(actor.network.facts.shape, np.uint8), stage.layer.name, place).window
    inside = np.zeros(image.shape[:2], bool)
    inside[max(0, row) : row + high, max(0, column) : column + wide] = True
    before = actor.network.trace(image[None])[1][stage.layer.name][0]
    outside = np.where(inside[..., None], image, image + 1)
    moved = actor.network.trace(outside[None])[1][stage.layer.name][0]
    if stage.layer.fill != "reflect" or (row >= 0 and column >= 0):
        np.testing.assert_allclose(moved[place], before[place], rtol=1e-5, atol=1e-5)
    changed = actor.network.trace(np.where(inside[..., None], image + 1, image)[None])[1][stage.layer.name][0]
    assert abs(changed[place] - before[place]) > 1e-6


def test_what_there_is_not_is_said():
    scene = Scene({"a": cnn_jax.load("lenet_digits")})
    pixels = np.zeros(scene.shape, np.uint8)
    with pytest.raises(cnn_jax.UserError, match="there is no layer 'conv9'"):
        scene.actors[0].unit(pixels, "conv9", (0, 0, 0))
    with pytest.raises(cnn_jax.UserError, match="conv1 has no number"):
        scene.actors[0].unit(pixels, "conv1", (0, 0, 6))
    with pytest.raises(cnn_jax.UserError, match="has 784 bytes, not 3"):
        scene.pixels(b"abc")
    with pytest.raises(cnn_jax.UserError, match="there is no test image 999"):
        scene.example(999)


def test_networks_of_other_images_are_not_put_side_by_side():
    with pytest.raises(cnn_jax.UserError, match="28x28x1 and 32x32x3"):
        Scene({"a": cnn_jax.load("lenet_digits"), "b": cnn_jax.load("alexnet_cifar10")})
    with pytest.raises(cnn_jax.UserError, match="one network or two, not 3"):
        Scene(dict.fromkeys("abc", cnn_jax.load("lenet_digits")))
