"""LeNet and LeNet-5: the published tables, and whole forward passes in NumPy and SciPy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.signal
from flax import nnx

from cnn_jax import config
from cnn_jax.errors import UsageError
from cnn_jax.layers.dense import digit_bitmaps
from cnn_jax.models import make_model, outline, resolve_layout, summary

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(11)
MODERN = config.LeNet5(
    activation="tanh", pool=config.Pool(), connections="dense", output="softmax", init="glorot_uniform", layout="NHWC"
)

# LeCun et al. 1998, section II-B; the notebook's model.summary(); the common reading of LeNet-5 with a dense C3.
# layer: output, parameters, multiply-adds
NOTEBOOK = {
    "conv1": ((24, 24, 6), 156, 86_400),
    "pool1": ((12, 12, 6), 0, 0),
    "conv2": ((8, 8, 16), 2_416, 153_600),
    "pool2": ((4, 4, 16), 0, 0),
    "dense1": ((120,), 30_840, 30_720),
    "dense2": ((84,), 10_164, 10_080),
    "output": ((10,), 850, 840),
}
PUBLISHED = {
    "c1": ((28, 28, 6), 156, 117_600),
    "s2": ((14, 14, 6), 12, 0),
    "c3": ((10, 10, 16), 1_516, 150_000),
    "s4": ((5, 5, 16), 32, 0),
    "c5": ((1, 1, 120), 48_120, 48_000),
    "f6": ((84,), 10_164, 10_080),
    "output": ((10,), 0, 840),
}
MODERN_TABLE = PUBLISHED | {
    "s2": ((14, 14, 6), 0, 0),
    "c3": ((10, 10, 16), 2_416, 240_000),
    "s4": ((5, 5, 16), 0, 0),
    "output": ((10,), 850, 840),
}
LENET1 = {
    "c1": ((24, 24, 4), 104, 57_600),
    "s2": ((12, 12, 4), 8, 0),
    "c3": ((8, 8, 12), 1_212, 76_800),
    "s4": ((4, 4, 12), 24, 0),
    "output": ((10,), 1_930, 1_920),
}
# settings, image side, table, parameters, multiply-adds
NETWORKS = {
    "notebook": (config.LeNet(layout="NHWC"), 28, NOTEBOOK, 44_426, 281_640),
    "lenet1": (config.LeNet1(layout="NHWC"), 28, LENET1, 3_278, 136_320),
    "1998": (config.LeNet5(layout="NHWC"), 32, PUBLISHED, 60_000, 326_520),
    "modern": (MODERN, 32, MODERN_TABLE, 61_706, 416_520),
}


@functools.cache
def images(side):
    return np.random.default_rng(side).uniform(-0.1, 1.175, (3, side, side, 1)).astype(np.float32)


@functools.cache
def network(name, **changes):
    """The network, with biases that are not all 0."""
    settings, side, *_ = NETWORKS[name]
    model = make_model(settings.__class__(**vars(settings) | changes), (side, side, 1), 10, KEY)
    draw = np.random.default_rng(0)
    for layer in model.parts():
        if hasattr(layer, "bias"):
            layer.bias[...] = draw.uniform(-0.5, 0.5, layer.bias.shape).astype(np.float32)
    return model


@functools.cache
def forward(name, **changes):
    graph, state = nnx.split(network(name, **changes))
    return jax.jit(lambda state, images: nnx.merge(graph, state)(images))(state, images(NETWORKS[name][1]))


@pytest.mark.parametrize("name", NETWORKS)
def test_shapes_parameters_and_multiply_adds_are_the_published_ones(name):
    settings, side, expected, parameters, multiply_adds = NETWORKS[name]
    rows = summary.summarise(outline(settings, (side, side, 1), 10))
    found = {row.name: (row.output, row.parameters, row.multiply_adds) for row in rows}
    assert {layer: found[layer] for layer in expected} == expected
    assert sum(row.parameters for row in rows) == parameters
    assert sum(row.multiply_adds for row in rows) == multiply_adds
    logits, maps = forward(name)
    assert logits.shape == (3, 10)
    convolutional = {layer: output for layer, (output, _, _) in expected.items() if layer in maps}
    assert {layer: map.shape[1:] for layer, map in maps.items()} == convolutional
    assert len(maps) == (4 if name in ("notebook", "lenet1") else 5)


def test_the_order_of_pooling_and_activation():
    """A maximum and a rising function may change places; an average may not."""
    after = {"order": "pool_activation", "activation": "relu"}
    before = {"activation": "relu"}
    np.testing.assert_array_equal(forward("notebook", **after)[0], forward("notebook", **before)[0])
    average = config.Pool.of(kind="average")
    found = forward("notebook", **after, pool=average)
    assert not np.allclose(found[0], forward("notebook", **before, pool=average)[0])
    conv, pool = np.asarray(found[1]["conv1"]), np.asarray(found[1]["pool1"])
    means = np.mean([quarters(image) for image in conv], 1)
    np.testing.assert_allclose(pool, np.maximum(means, 0), rtol=1e-5, atol=1e-6)


def correlate(x, kernels, bias, reads):
    """Maps [height, width, channels] to [height, width, features] with SciPy's 2-D correlation."""

    def plane(kernel, channels):
        planes = zip(np.moveaxis(kernel, 2, 0), channels, strict=True)
        return sum(scipy.signal.correlate2d(x[..., channel], part, "valid") for part, channel in planes)

    return np.stack([plane(*of) for of in zip(kernels, reads, strict=True)], axis=-1) + bias


def quarters(x):
    """The four pixels of each 2x2 window, first axis."""
    return np.stack([x[i::2, j::2] for i in (0, 1) for j in (0, 1)])


def weights(layer):
    return np.asarray(layer.kernel[...], np.float64), np.asarray(layer.bias[...], np.float64)


def dense_convolution(x, layer):
    kernel, bias = weights(layer)
    return correlate(x, np.moveaxis(kernel, 3, 0), bias, [range(x.shape[2])] * len(bias))


def squash(a):
    return 1.7159 * np.tanh(2 / 3 * a)


def lenet5_of_1998(model, image):
    """One 32x32 image through the network as the paper describes it; logits and the maps of C1 to C5."""

    def subsample(x, layer):
        coefficient, bias = np.asarray(layer.coefficient[...]), np.asarray(layer.bias[...])
        return squash(quarters(x).sum(0) * coefficient + bias)

    # Table I: column = C3 map, row = S2 map; X where they are connected.
    table = """
        X . . . X X X . . X X X X . X X
        X X . . . X X X . . X X X X . X
        X X X . . . X X X . . X . X X X
        . X X X . . X X X X . . X . X X
        . . X X X . . X X X X . X X . X
        . . . X X X . . X X X X . X X X
    """
    connected = np.array([[cell == "X" for cell in line.split()] for line in table.strip().splitlines()])
    assert connected.sum() == 60
    reads = [np.flatnonzero(column) for column in connected.T]
    c1 = squash(dense_convolution(image, model.c1))
    s2 = subsample(c1, model.s2)
    kernel, bias = weights(model.c3)
    ends = np.cumsum([len(read) for read in reads])
    c3 = squash(correlate(s2, np.split(kernel, ends[:-1], axis=2), bias, reads))
    s4 = subsample(c3, model.s4)
    c5 = squash(dense_convolution(s4, model.c5))
    kernel, bias = weights(model.f6)
    f6 = squash(c5.ravel() @ kernel + bias)
    return -np.sum((f6 - digit_bitmaps()) ** 2, axis=1), {"c1": c1, "s2": s2, "c3": c3, "s4": s4, "c5": c5}


def notebook_lenet(model, image):
    """One 28x28 image through the notebook's network; its pooling follows the tanh."""
    conv1 = np.tanh(dense_convolution(image, model.conv1))
    pool1 = quarters(conv1).max(0)
    conv2 = np.tanh(dense_convolution(pool1, model.conv2))
    pool2 = quarters(conv2).max(0)
    x = pool2.ravel()
    for layer in (model.dense1, model.dense2):
        kernel, bias = weights(layer)
        x = np.tanh(x @ kernel + bias)
    kernel, bias = weights(model.output)
    return x @ kernel + bias, {"conv1": conv1, "pool1": pool1, "conv2": conv2, "pool2": pool2}


def modern_lenet5(model, image):
    c1 = np.tanh(dense_convolution(image, model.c1))
    s2 = quarters(c1).max(0)
    c3 = np.tanh(dense_convolution(s2, model.c3))
    s4 = quarters(c3).max(0)
    c5 = np.tanh(dense_convolution(s4, model.c5))
    kernel, bias = weights(model.f6)
    x = np.tanh(c5.ravel() @ kernel + bias)
    kernel, bias = weights(model.output)
    return x @ kernel + bias, {"c1": c1, "s2": s2, "c3": c3, "s4": s4, "c5": c5}


@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
@pytest.mark.parametrize(
    "name, by_hand", [("1998", lenet5_of_1998), ("notebook", notebook_lenet), ("modern", modern_lenet5)]
)
def test_forward_is_the_published_network(name, by_hand, layout):
    logits, maps = forward(name, layout=layout)
    for index, image in enumerate(images(NETWORKS[name][1]).astype(np.float64)):
        expected, expected_maps = by_hand(network(name), image)
        np.testing.assert_allclose(logits[index], expected, rtol=1e-4, atol=1e-4)
        assert maps.keys() == expected_maps.keys()
        for layer, map in expected_maps.items():
            np.testing.assert_allclose(maps[layer][index], map, rtol=1e-4, atol=1e-5, err_msg=layer)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_layouts_have_the_same_weights_and_gradients(name):
    answers = np.array([3, 1, 7])

    def gradients(layout):
        graph, state = nnx.split(network(name, layout=layout))

        def loss(state):
            logits, _ = nnx.merge(graph, state)(images(NETWORKS[name][1]))
            return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(3), answers])

        return nnx.to_pure_dict(state), nnx.to_pure_dict(jax.jit(jax.grad(loss))(state))

    (state, gradient), (other_state, other_gradient) = gradients("NHWC"), gradients("CHWN")
    jax.tree.map(np.testing.assert_array_equal, state, other_state)
    for path, value in jax.tree_util.tree_leaves_with_path(gradient):
        other = functools.reduce(lambda tree, key: tree[key.key], path, other_gradient)
        scale = np.abs(value).max()
        assert scale > 0, path
        np.testing.assert_allclose(value, other, rtol=0, atol=1e-4 * scale, err_msg=str(path))


def test_padding_makes_28_pixels_the_sibling_with_61706_parameters():
    """A first convolution that keeps 28x28, as two pixels of padding on every side do."""
    pixels = config.Padding(mode="2")
    rows = summary.summarise(outline(config.LeNet(layout="NHWC", padding=pixels), (24, 24, 1), 10))
    outputs = [row.output for row in rows if row.name.startswith(("conv", "pool"))]
    assert outputs == [(24, 24, 6), (12, 12, 6), (12, 12, 16), (6, 6, 16)]
    rows = summary.summarise(outline(config.LeNet(layout="NHWC"), (32, 32, 1), 10))
    assert sum(row.parameters for row in rows) == 61_706


@pytest.mark.parametrize("kind", ["max", "min"])
@pytest.mark.parametrize("activation", ["tanh", "scaled_tanh", "relu", "sigmoid"])
def test_pooling_first_changes_nothing(kind, activation):
    """The maps after the activation, pooled by NumPy, are the maps after pooling."""
    _, maps = forward("notebook", pool=config.Pool.of(kind=kind), activation=activation)
    for conv, pool in (("conv1", "pool1"), ("conv2", "pool2")):
        for before, after in zip(maps[conv], maps[pool]):
            np.testing.assert_allclose(after, getattr(quarters(np.asarray(before)), kind)(0), rtol=1e-6, atol=1e-6)


def test_average_pooling_follows_the_activation():
    _, maps = forward("notebook", pool=config.Pool.of(kind="average"))
    for before, after in zip(maps["conv1"], maps["pool1"]):
        np.testing.assert_allclose(after, quarters(np.asarray(before)).mean(0), rtol=1e-5, atol=1e-6)


def test_other_settings_leave_a_layers_initial_weights_alone():
    plain = make_model(config.LeNet(layout="NHWC"), (28, 28, 1), 10, KEY)
    settings = config.LeNet(layout="CHWN", pool=config.Pool.of(kind="subsample"), activation="relu", dropout=0.5)
    other = make_model(settings, (28, 28, 1), 10, KEY)
    for layer in ("conv1", "conv2", "dense1", "dense2", "output"):
        np.testing.assert_array_equal(getattr(plain, layer).kernel[...], getattr(other, layer).kernel[...])


@pytest.mark.parametrize("name", ["notebook", "1998"])
def test_dropout_acts_only_in_training_and_per_example(name):
    model, side = network(name, dropout=0.5), NETWORKS[name][1]
    graph, state = nnx.split(model)
    make = lambda training: jax.jit(lambda images, keys: nnx.merge(graph, state)(images, keys, training)[0])
    evaluate, train = make(False), make(True)
    keys = jax.random.split(KEY, 3)
    plain, dropped = evaluate(images(side), None), train(images(side), keys)
    np.testing.assert_array_equal(evaluate(images(side), keys), plain)
    np.testing.assert_allclose(plain, forward(name)[0], rtol=1e-5, atol=1e-5)
    assert np.all(np.abs(dropped - plain).max(1) > 0.01)
    np.testing.assert_allclose(train(images(side)[1:], keys[1:]), dropped[1:], rtol=1e-4, atol=1e-4)


def test_the_radial_basis_has_ten_classes():
    with pytest.raises(UsageError, match="model.output = 'rbf' .* 12 classes"):
        outline(config.LeNet5(layout="NHWC"), (32, 32, 1), 12)


def test_an_image_too_small_names_the_layer():
    with pytest.raises(UsageError, match="conv2: input 3x3x6, window 5x5.*does not fit"):
        outline(config.LeNet(layout="NHWC"), (10, 10, 1), 10)


@pytest.mark.parametrize(
    "layout, platform, spread, resolved",
    [
        ("auto", "cpu", False, "CHWN"),
        ("auto", "cpu", True, "NHWC"),
        ("auto", "gpu", False, "NHWC"),
        ("auto", "tpu", True, "NHWC"),
        ("CHWN", "gpu", True, "CHWN"),
        ("NHWC", "cpu", False, "NHWC"),
    ],
)
def test_resolve_layout(layout, platform, spread, resolved):
    assert resolve_layout(layout, platform, spread) == resolved
