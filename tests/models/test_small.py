"""The small networks: tables by hand, forward passes in NumPy, and what padding makes of a shift."""

import functools

import jax
import numpy as np
import pytest
from flax import nnx
from golden import recipe

from cnn_jax import config
from cnn_jax.models import make_model, outline, summary

pytestmark = pytest.mark.usefixtures("quick_compile")

# layer: output, parameters, multiply-adds
FOUR_LAYER = {
    "conv1": ((32, 32, 32), 75 * 32 + 32, 32 * 32 * 75 * 32),
    "pool1": ((16, 16, 32), 0, 0),
    "conv2": ((16, 16, 32), 800 * 32 + 32, 16 * 16 * 800 * 32),
    "pool2": ((8, 8, 32), 0, 0),
    "conv3": ((8, 8, 64), 800 * 64 + 64, 8 * 8 * 800 * 64),
    "pool3": ((4, 4, 64), 0, 0),
    "output": ((10,), 1024 * 10 + 10, 1024 * 10),
}
ZEILER_FERGUS = {  # 28x28x1
    "conv1": ((28, 28, 64), 25 * 64 + 64, 28 * 28 * 25 * 64),
    "pool1": ((14, 14, 64), 0, 0),
    "norm1": ((14, 14, 64), 0, 0),
    "conv2": ((14, 14, 64), 1600 * 64 + 64, 14 * 14 * 1600 * 64),
    "pool2": ((7, 7, 64), 0, 0),
    "norm2": ((7, 7, 64), 0, 0),
    "conv3": ((7, 7, 64), 1600 * 64 + 64, 7 * 7 * 1600 * 64),
    "pool3": ((3, 3, 64), 0, 0),
    "norm3": ((3, 3, 64), 0, 0),
    "output": ((10,), 576 * 10 + 10, 576 * 10),
}
PADDINGS = {
    "valid": config.Padding(),
    "zero": config.Padding(mode="1"),
    "circular": config.Padding(mode="1", fill="circular"),
    "full": config.Padding(mode="full"),
}
SIDES = {"valid": (30, 14, 6, 2), "zero": (32, 16, 8, 4), "circular": (32, 16, 8, 4), "full": (34, 18, 10, 6)}


def rows(settings, classes, shape=(32, 32, 3)):
    """The layers that compute something other than an activation, which have neither parameters nor multiply-adds."""
    table = summary.summarise(outline(settings, shape, classes))
    plain = [row for row in table if row.name.startswith(("input", "activation", "flatten"))]
    assert not any(row.parameters or row.multiply_adds for row in plain)
    return {row.name: (row.output, row.parameters, row.multiply_adds) for row in table if row not in plain}


def test_four_layer_by_hand():
    assert rows(config.FourLayer(layout="CHWN"), 10) == FOUR_LAYER
    assert sum(parameters for _, parameters, _ in FOUR_LAYER.values()) == 89_578
    narrow = rows(config.FourLayer(width=8), 10)
    assert [narrow[name][0] for name in ("pool1", "pool2", "pool3")] == [(16, 16, 8), (8, 8, 8), (4, 4, 16)]


def test_zeiler_fergus_by_hand():
    assert rows(config.ZeilerFergus(), 10, (28, 28, 1)) == ZEILER_FERGUS
    assert sum(parameters for _, parameters, _ in ZEILER_FERGUS.values()) == 212_362
    without = {name: row for name, row in ZEILER_FERGUS.items() if not name.startswith("norm")}
    assert rows(config.ZeilerFergus(norm="none"), 10, (28, 28, 1)) == without


@pytest.mark.parametrize("padding", PADDINGS)
def test_position_net_by_hand(padding):
    weights = {"conv1": (27, 32), "conv2": (288, 32), "conv3": (288, 64), "conv4": (576, 64)}
    expected = {
        name: ((side, side, features), read * features, side * side * read * features)
        for side, (name, (read, features)) in zip(SIDES[padding], weights.items())
    }
    expected |= {"pool": ((1, 1, 64), 0, 0), "output": ((2,), 130, 128)}
    table = rows(config.PositionNet(padding=PADDINGS[padding], layout="CHWN"), 2)
    assert table == expected
    assert sum(parameters for _, parameters, _ in table.values()) == 65_506


def test_rows_of_the_table_of_1998():
    """784-300-10 and a linear classifier, as logits and in parameters."""
    linear, hidden = config.MLP(units=0, layout="CHWN"), config.MLP(units=7, layout="CHWN")
    graph, params = network(linear, 6)
    logits, maps = run(graph, params, images(6))
    flat = np.float64(images(6)).reshape(2, -1)
    dense = lambda x, name, params: x @ np.float64(params[name]["kernel"]) + params[name]["bias"]
    np.testing.assert_allclose(logits, dense(flat, "output", params), rtol=0, atol=1e-5)
    assert not maps
    graph, params = network(hidden, 6)
    expected = dense(np.tanh(dense(flat, "hidden", params)), "output", params)
    np.testing.assert_allclose(run(graph, params, images(6))[0], expected, rtol=0, atol=1e-5)
    for units, parameters in ((300, 784 * 300 + 300 + 3010), (0, 7850)):
        table = summary.summarise(outline(config.MLP(units=units, layout="CHWN"), (28, 28, 1), 10))
        assert sum(row.parameters for row in table) == parameters


@functools.cache
def network(settings, side):
    """Graph and drawn parameters: no bias is 0."""
    graph, state = nnx.split(outline(settings, (side, side, 3), 5))
    shapes = {(i, j): leaf.shape for i, leaves in state.items() for j, leaf in leaves.items()}
    params = {}
    for (layer, name), value in recipe.weights(shapes, seed=3).items():
        params.setdefault(layer, {})[name] = value
    return graph, params


@functools.partial(jax.jit, static_argnames="graph")
def run(graph, params, images):
    return nnx.merge(graph, nnx.State(params))(images)


def images(side):
    return np.random.default_rng(side).standard_normal((2, side, side, 3)).astype(np.float32)


def window_view(x, window, stride):
    """[N, rows, columns, C, window, window] of padded maps."""
    return np.lib.stride_tricks.sliding_window_view(x, (window, window), (1, 2))[:, ::stride, ::stride]


def convolution(x, weights, stride, pads, mode="constant"):
    padded = np.pad(x, ((0, 0), (pads, pads), (pads, pads), (0, 0)), mode=mode)
    kernel = np.float64(weights["kernel"])
    y = np.einsum("nhwcij,ijcf->nhwf", window_view(padded, len(kernel), stride), kernel, optimize=True)
    return y + weights.get("bias", 0)


def pool_by_hand(x, reduce):
    """Windows of 3x3 with a stride of 2 that may look at one more row and column, where there is nothing."""
    beyond = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=np.nan)
    return reduce(window_view(beyond, 3, 2), axis=(4, 5))


def four_layer_by_hand(activation, params, x):
    for name, reduce in (("conv1", np.nanmax), ("conv2", np.nanmean), ("conv3", np.nanmean)):
        x = pool_by_hand(activation(convolution(x, params[name], 1, 2)), reduce)
    return x.reshape(len(x), -1) @ np.float64(params["output"]["kernel"]) + params["output"]["bias"]


@pytest.mark.parametrize("activation, by_hand", [("relu", lambda x: np.maximum(x, 0)), ("tanh", np.tanh)])
def test_four_layer_in_numpy(activation, by_hand):
    graph, params = network(config.FourLayer(activation=activation, layout="CHWN"), 12)
    logits, maps = run(graph, params, images(12))
    expected = four_layer_by_hand(by_hand, params, np.float64(images(12)))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    sides = {"conv1": 12, "pool1": 6, "conv2": 6, "pool2": 3, "conv3": 3, "pool3": 1}
    assert {name: map.shape[1] for name, map in maps.items()} == sides


def zeiler_fergus_by_hand(params, x):
    """ReLU, average pooling, and over the five maps around each of a place: a / (2 + 0.0001 sum of squares)^0.75."""
    for name in ("conv1", "conv2", "conv3"):
        x = pool_by_hand(np.maximum(convolution(x, params[name], 1, 2), 0), np.nanmean)
        squares = np.pad(x**2, ((0, 0), (0, 0), (0, 0), (2, 2)))
        x = x / (2 + 1e-4 * sum(squares[..., i : i + x.shape[-1]] for i in range(5))) ** 0.75
    return x.reshape(len(x), -1) @ np.float64(params["output"]["kernel"]) + params["output"]["bias"]


@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
def test_zeiler_fergus_in_numpy(layout):
    settings = config.ZeilerFergus(width=7, layout=layout, pool=config.ZeilerFergus().pool.changed(kind="average"))
    graph, params = network(settings, 12)
    logits, _ = run(graph, params, 30 * images(12))  # large values, so that normalisation counts
    expected = zeiler_fergus_by_hand(params, 30 * np.float64(images(12)))
    np.testing.assert_allclose(logits, expected, rtol=1e-5, atol=1e-5 * np.abs(expected).max())


def position_net_by_hand(padding, params, x):
    pads = {"valid": 0, "zero": 1, "circular": 1, "full": 2}[padding]
    mode = "wrap" if padding == "circular" else "constant"
    for name, stride in (("conv1", 1), ("conv2", 2), ("conv3", 2), ("conv4", 2)):
        x = np.maximum(convolution(x, params[name], stride, pads, mode), 0)
    return x.max((1, 2)) @ np.float64(params["output"]["kernel"]) + params["output"]["bias"]


@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
def test_position_net_in_numpy(padding, layout):
    graph, params = network(config.PositionNet(padding=PADDINGS[padding], layout=layout), 20)
    logits, _ = run(graph, params, images(20))
    expected = position_net_by_hand(padding, params, np.float64(images(20)))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("padding", PADDINGS)
def test_what_padding_tells_of_position(padding):
    """Something at the top edge, and 8 pixels further down: the stride of the four convolutions together."""
    scene = np.zeros((1, 24, 24, 3), np.float32)
    scene[:, :8] = images(24)[:1, :8]
    graph, params = network(config.PositionNet(padding=PADDINGS[padding], layout="CHWN"), 24)
    here, there = (run(graph, params, image)[0] for image in (scene, np.roll(scene, 8, axis=1)))
    moved = np.abs(here - there).max()
    assert moved < 1e-5 if padding in ("circular", "full") else moved > 1e-3


GLOROT = [config.FourLayer(layout="CHWN"), config.ZeilerFergus(layout="CHWN")]


@pytest.mark.parametrize("settings", GLOROT + [config.PositionNet(layout="CHWN")])
def test_initial_weights(settings):
    """Glorot's and PyTorch's bounds, reached and not passed; biases of the convolutions are 0 or not there."""
    make = lambda key: nnx.to_pure_dict(nnx.state(make_model(settings, (32, 32, 3), 2, key)))
    for name, leaves in jax.jit(make)(jax.random.key(0)).items():
        *window, channels, features = leaves["kernel"].shape
        area = np.prod(window)
        glorot = np.sqrt(6 / (area * (channels + features)))
        bound = glorot if settings in GLOROT else (area * channels) ** -0.5
        assert np.abs(leaves["kernel"]).max() == pytest.approx(bound, rel=0.02)
        if name.startswith("conv"):
            assert not np.any(leaves.get("bias", 0))
