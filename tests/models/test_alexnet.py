"""AlexNet and its relatives: the published tables, whole forward passes in NumPy, options, layouts, refusals.

`alexnet_owt` and `alexnet_notebook` are compared with PyTorch and Keras in tests/test_interop.py.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx
from golden import recipe

from cnn_jax import config
from cnn_jax.errors import UsageError
from cnn_jax.layers.activations import Activation
from cnn_jax.models import make_model, outline, summary

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(11)
LAYOUTS = ["NHWC", pytest.param("CHWN", marks=pytest.mark.slow)]
# Krizhevsky et al. 2012, sections 3 and 3.5, with two groups. layer: output, parameters, multiply-adds
PAPER = {
    "conv1": ((55, 55, 96), 34_944, 105_415_200),
    "norm1": ((55, 55, 96), 0, 0),
    "pool1": ((27, 27, 96), 0, 0),
    "conv2": ((27, 27, 256), 307_456, 223_948_800),
    "norm2": ((27, 27, 256), 0, 0),
    "pool2": ((13, 13, 256), 0, 0),
    "conv3": ((13, 13, 384), 885_120, 149_520_384),
    "conv4": ((13, 13, 384), 663_936, 112_140_288),
    "conv5": ((13, 13, 256), 442_624, 74_760_192),
    "pool5": ((6, 6, 256), 0, 0),
    "dense1": ((4096,), 37_752_832, 37_748_736),
    "dense2": ((4096,), 16_781_312, 16_777_216),
    "output": ((1000,), 4_097_000, 4_096_000),
}
ANTI_ALIASED = config.AlexNetOWT(blur_conv=3, pool=config.Pool.of(kind="max_blur", window=3, stride=2))  # Zhang 2019
# settings, side, classes: parameters, statistics, multiply-adds, sides of the maps of convolutions and pools
NETWORKS = [
    (config.AlexNet(), 224, 1000, 60_965_224, 0, 724_406_816, "55 27 27 13 13 13 13 6"),
    (config.AlexNet(), 227, 1000, 60_965_224, 0, 724_406_816, "55 27 27 13 13 13 13 6"),
    (config.AlexNet(groups=1, norm="none"), 224, 1000, 62_378_344, 0, 1_135_256_096, "55 27 27 13 13 13 13 6"),
    (config.AlexNetOWT(), 224, 1000, 61_100_840, 0, 714_188_480, "55 27 27 13 13 13 13 6"),
    (ANTI_ALIASED, 224, 1000, 61_100_840, 0, None, "109 27 27 13 13 13 13 6"),
    (config.AlexNetBN(), 224, 1000, 62_378_344 + 19_136, 19_136, 1_135_256_096, "55 27 27 13 13 13 13 6"),
    (config.AlexNetNotebook(), 224, 10, 24_000_586, 19_136, 1_035_504_768, "54 27 17 8 6 4 2 1"),
    (config.AlexNetNotebook(), 224, 1000, 28_056_616, 19_136, 1_039_559_808, "54 27 17 8 6 4 2 1"),
    (config.AlexNetNotebook(), 215, 10, 24_000_586, 19_136, None, "52 26 16 8 6 4 2 1"),
    (config.AlexNetSmall(), 32, 10, 5_674_826, 0, 137_984_000, "32 15 15 7 7 7 7 3"),
    (config.AlexNetSmall(norm="batch"), 64, 10, None, 2_304, None, "64 31 31 15 15 15 15 7"),
]


def rows(settings, side, classes):
    return summary.summarise(outline(dataclasses.replace(settings, layout="NHWC"), (side, side, 3), classes))


@pytest.mark.parametrize("settings, side, classes, parameters, statistics, multiply_adds, maps", NETWORKS)
def test_the_totals_are_the_published_ones(settings, side, classes, parameters, statistics, multiply_adds, maps):
    layers = rows(settings, side, classes)
    assert sum(row.statistics for row in layers) == statistics
    assert parameters is None or sum(row.parameters for row in layers) == parameters
    assert multiply_adds is None or sum(row.multiply_adds for row in layers) == multiply_adds
    sides = [row.output[:2] for row in layers if row.name.startswith(("conv", "pool"))]
    assert sides == [(int(side), int(side)) for side in maps.split()]


@pytest.mark.parametrize("side", [224, 227])
def test_the_table_of_2012(side):
    layers = rows(config.AlexNet(), side, 1000)
    found = {row.name: (row.output, row.parameters, row.multiply_adds) for row in layers}
    assert {layer: found[layer] for layer in PAPER} == PAPER
    kinds = {row.name: row.kind for row in layers if row.name not in PAPER}
    assert kinds == {
        "input": "images",
        **{f"activation{number}": "ReLU" for number in range(1, 8)},
        "flatten": "flatten 6x6x256 to 9216",
        **{f"dropout{number}": "dropout 0.5, scaled in evaluation" for number in (1, 2)},
    }
    padding = {224: ", padding 0,3,0,3", 227: ""}[side]
    assert layers[1].kind == f"convolution 11x11, stride 4{padding}"


def test_statistics_have_a_column_of_their_own():
    lines = summary.table(rows(config.AlexNetSmall(norm="batch", width=8), 24, 10)).splitlines()
    assert lines[0].split() == ["layer", "kind", "output", "parameters", "statistics", "multiply-adds"]
    assert lines[4].split() == ["norm1", "batch", "normalisation", "24x24x8", "16", "16", "0"]
    assert lines[-1].split()[2] == "288"
    assert len({len(line) for line in lines}) == 1


def activation(x):
    return np.maximum(x, 0)


def window_view(x, window, stride, pads=((0, 0), (0, 0)), fill=0.0):
    """[N, rows, columns, C, window, window] of float64 maps."""
    x = np.pad(x, ((0, 0), *pads, (0, 0)), constant_values=fill)
    return np.lib.stride_tricks.sliding_window_view(x, (window, window), (1, 2))[:, ::stride, ::stride]


def convolution(x, weights, stride=1, pads=((0, 0), (0, 0)), groups=1):
    kernel, bias = weights["kernel"].astype(np.float64), weights["bias"]
    parts = [
        np.einsum("nhwcij,ijcf->nhwf", window_view(part, len(kernel), stride, pads), filters, optimize=True)
        for part, filters in zip(np.split(x, groups, axis=3), np.split(kernel, groups, axis=3))
    ]
    return np.concatenate(parts, axis=3) + bias


def max_pool(x):
    return window_view(x, 3, 2).max((4, 5))


def local_response(x, alpha=1e-4):
    squares = np.pad(x**2, [(0, 0)] * 3 + [(2, 2)])
    return x / (2 + alpha * sum(squares[..., i : i + x.shape[3]] for i in range(5))) ** 0.75


def batch_norm(x, weights, statistics, epsilon=1e-5):
    normal = (x - statistics["mean"]) / np.sqrt(statistics["var"] + epsilon)
    return normal * weights["scale"] + weights["bias"]


def dense(x, weights):
    return x @ weights["kernel"].astype(np.float64) + weights["bias"]


def edges(pixels):
    return ((pixels, pixels), (pixels, pixels))


def alexnet_by_hand(settings, params, statistics, x):
    """Section 3.5 of the paper; with `norm_first`, the first stage in the order of the released code."""
    del statistics
    alpha = 1e-4 / 5 if settings.alpha_divided else 1e-4
    norm = functools.partial(local_response, alpha=alpha) if settings.norm == "lrn" else lambda x: x
    x = np.pad(x, ((0, 0), (0, 3), (0, 3), (0, 0)))  # 64 pixels: what the last window lacks
    x = convolution(x, params["conv1"], 4)
    x = activation(max_pool(norm(x))) if settings.norm_first else max_pool(norm(activation(x)))
    x = max_pool(norm(activation(convolution(x, params["conv2"], 1, edges(2), settings.groups))))
    x = activation(convolution(x, params["conv3"], 1, edges(1)))
    x = activation(convolution(x, params["conv4"], 1, edges(1), settings.groups))
    x = activation(convolution(x, params["conv5"], 1, edges(1), settings.groups))
    x = max_pool(x).reshape(len(x), -1)
    kept = 1 - settings.dropout if settings.dropout_scale == "evaluation" else 1
    x = kept * activation(dense(x, params["dense1"]))
    x = kept * activation(dense(x, params["dense2"]))
    return dense(x, params["output"])


def alexnet_bn_by_hand(settings, params, statistics, x):
    norm = lambda x, number: activation(batch_norm(x, params[f"norm{number}"], statistics[f"norm{number}"]))
    x = np.pad(x, ((0, 0), (0, 3), (0, 3), (0, 0)))
    x = max_pool(norm(convolution(x, params["conv1"], 4), 1))
    x = max_pool(norm(convolution(x, params["conv2"], 1, edges(2), settings.groups), 2))
    x = norm(convolution(x, params["conv3"], 1, edges(1)), 3)
    x = norm(convolution(x, params["conv4"], 1, edges(1), settings.groups), 4)
    x = max_pool(norm(convolution(x, params["conv5"], 1, edges(1), settings.groups), 5)).reshape(len(x), -1)
    x = norm(dense(x, params["dense1"]), 6)
    x = norm(dense(x, params["dense2"]), 7)
    return dense(x, params["output"])


def small_by_hand(settings, params, statistics, x):
    def stage(x, number, pads):
        name = f"norm{number}"
        x = convolution(x, params[f"conv{number}"], 1, edges(pads))
        if settings.norm == "batch":
            return activation(batch_norm(x, params[name], statistics[name]))
        return local_response(activation(x)) if settings.norm == "lrn" else activation(x)

    x = max_pool(stage(x, 1, 2))
    x = max_pool(stage(x, 2, 1))
    x = stage(stage(x, 3, 1), 4, 1)
    x = max_pool(stage(x, 5, 1)).reshape(len(x), -1)
    x = activation(dense(x, params["dense1"]))
    x = activation(dense(x, params["dense2"]))
    return dense(x, params["output"])


@functools.cache
def network(settings, side):
    """Graph, and drawn parameters and statistics: nothing is at its first value."""
    graph, *states = nnx.split(outline(settings, (side, side, 3), 7), nnx.Param, nnx.BatchStat)
    shapes = [{(i, j): leaf.shape for i, leaves in part.items() for j, leaf in leaves.items()} for part in states]
    params, statistics = {}, {}
    for (layer, name), value in recipe.weights(shapes[0], seed=3).items():
        params.setdefault(layer, {})[name] = value + (name == "scale")
    for (layer, name), value in recipe.weights(shapes[1], seed=4).items():
        statistics.setdefault(layer, {})[name] = value + (name == "var")
    return graph, params, statistics


@functools.cache
def images(side, count=2):
    """Of the order of 100, so that local response normalisation does something."""
    return (100 * np.random.default_rng(side).standard_normal((count, side, side, 3))).astype(np.float32)


@functools.partial(jax.jit, static_argnames=("graph", "training"))
def run(graph, params, statistics, images, keys=None, training=False):
    """Logits, maps, and the statistics afterwards."""
    model = nnx.merge(graph, nnx.State(params), nnx.State(statistics), copy=True)
    logits, maps = model(images, keys, training)
    return logits, maps, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))


def check_by_hand(settings, side, by_hand):
    graph, params, statistics = network(settings, side)
    logits, maps, after = run(graph, params, statistics, images(side))
    expected = by_hand(settings, params, statistics, images(side).astype(np.float64))
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
    jax.tree.map(np.testing.assert_array_equal, after, statistics)
    layers = outline(settings, (side, side, 3), 7).parts()
    of_maps = [layer for layer in layers if len(layer.output_shape) == 3 and not isinstance(layer, Activation)]
    shapes = {layer.name: layer.output_shape for layer in of_maps}
    assert {name: map.shape[1:] for name, map in maps.items()} == shapes
    return expected


@pytest.mark.parametrize(
    "changes",
    [
        {"layout": "NHWC"},
        {"layout": "CHWN", "alpha_divided": True, "norm_first": True},
        {"layout": "NHWC", "norm": "none", "groups": 1, "dropout_scale": "training"},
    ],
    ids=["paper", "released code", "one column"],
)
def test_alexnet_is_the_paper_and_its_options_are_what_they_say(changes):
    """Images of 64 pixels, whose last map has one."""
    settings = config.AlexNet(units=64, **changes)
    expected = check_by_hand(settings, 64, alexnet_by_hand)
    for name in changes.keys() - {"layout", "groups"}:  # each option alone changes what is expected
        other = dataclasses.replace(settings, **{name: getattr(config.AlexNet(), name)})
        without = alexnet_by_hand(other, *network(settings, 64)[1:], images(64).astype(np.float64))
        assert np.abs(without - expected).max() > 1e-3 * np.abs(expected).max()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_alexnet_bn_normalises_before_each_activation(layout):
    check_by_hand(config.AlexNetBN(layout=layout, groups=2), 64, alexnet_bn_by_hand)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("norm", ["none", "lrn", "batch"])
def test_alexnet_small(norm, layout):
    check_by_hand(config.AlexNetSmall(width=8, norm=norm, layout=layout), 26, small_by_hand)


@pytest.mark.slow
def test_zeros_at_the_bottom_and_right_make_a_larger_image():
    """As 224 and 227: 64 pixels give the maps of 67, of which the last three are black."""
    settings = config.AlexNet(units=64, layout="NHWC")
    larger = np.pad(images(64), ((0, 0), (0, 3), (0, 3), (0, 0)))
    _, params, statistics = network(settings, 64)
    logits, maps, _ = run(network(settings, 64)[0], params, statistics, images(64))
    same, same_maps, _ = run(nnx.split(outline(settings, (67, 67, 3), 7), nnx.Param)[0], params, statistics, larger)
    assert maps["conv1"].shape == same_maps["conv1"].shape == (2, 15, 15, 96)
    np.testing.assert_allclose(logits, same, rtol=1e-5, atol=1e-5 * np.abs(same).max())


@pytest.mark.slow
def test_layouts_have_the_same_gradients_and_statistics():
    answers = np.array([3, 1, 6, 0])

    def gradients(layout):
        graph, params, statistics = network(config.AlexNetSmall(width=8, norm="batch", layout=layout), 26)

        def loss(params):
            logits, _, after = run(graph, params, statistics, images(26, 4) / 100, training=True)
            return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(4), answers]), after

        return jax.grad(loss, has_aux=True)(params)

    (ours, after), (others, others_after) = gradients("NHWC"), gradients("CHWN")
    for name, leaf in ours.items():
        for part, value in leaf.items():
            scale = np.abs(value).max()
            # Batch normalisation takes away whatever a bias before it adds.
            assert scale > 1e-4 or (name.startswith("conv") and part == "bias")
            np.testing.assert_allclose(value, others[name][part], rtol=0, atol=1e-4 * scale + 1e-6, err_msg=name)
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5), after, others_after)


def test_training_moves_the_statistics_towards_those_of_the_batch():
    graph, params, statistics = network(config.AlexNetSmall(width=8, norm="batch", layout="CHWN"), 26)
    x = images(26)
    _, _, after = run(graph, params, statistics, x, training=True)
    conv1 = convolution(x.astype(np.float64), params["conv1"], 1, edges(2))
    expected = 0.9 * statistics["norm1"]["mean"] + 0.1 * conv1.mean((0, 1, 2))
    np.testing.assert_allclose(after["norm1"]["mean"], expected, rtol=1e-4, atol=1e-3)
    expected = 0.9 * statistics["norm1"]["var"] + 0.1 * conv1.var((0, 1, 2))
    np.testing.assert_allclose(after["norm1"]["var"], expected, rtol=1e-4)
    for name, leaves in after.items():
        for part, value in leaves.items():
            assert np.all(value != statistics[name][part])


def initial(settings, side):
    """Initial parameters but for the second dense layer's, so many that XLA had better not draw them."""

    @jax.jit
    def make(key):
        params = nnx.to_pure_dict(nnx.state(make_model(settings, (side, side, 3), 10, key), nnx.Param))
        return {name: leaves for name, leaves in params.items() if name != "dense2"}

    return jax.tree.map(np.asarray, make(KEY))


def test_initial_weights_of_2012():
    for name, leaves in initial(config.AlexNet(layout="NHWC", middle_std=0.03), 67).items():
        std = 0.03 if name in ("conv3", "conv4", "conv5") else 0.01
        assert np.std(leaves["kernel"]) == pytest.approx(std, rel=0.02)
        one = name in ("conv2", "conv4", "conv5", "dense1")
        np.testing.assert_array_equal(leaves["bias"], np.full(leaves["bias"].shape, float(one)))


@pytest.mark.parametrize(
    "settings, side, of_fan_in, of_output",
    [
        (config.AlexNetOWT(layout="NHWC"), 63, lambda fan_in: 1 / np.sqrt(3 * fan_in), 1 / np.sqrt(3 * 4096)),
        (config.AlexNetSmall(layout="NHWC", width=32), 24, lambda fan_in: np.sqrt(2 / fan_in), 0.01),
    ],
    ids=["torchvision", "small"],
)
def test_initial_weights_by_fan_in(settings, side, of_fan_in, of_output):
    for name, leaves in initial(settings, side).items():
        std = of_output if name == "output" else of_fan_in(np.prod(leaves["kernel"].shape[:-1]))
        assert np.std(leaves["kernel"]) == pytest.approx(std, rel=0.05)
        assert np.any(leaves["bias"]) == (settings.name == "alexnet_owt")


@pytest.mark.slow
def test_dropout_lies_before_the_dense_layers_in_torchvision_and_after_them_in_2012():
    """With a first dense layer that reads nothing, or a second whose units see only a bias, what is dropped shows."""

    def varies(settings, side, deaf):
        graph, params, statistics = network(settings, side)
        deafened = {"kernel": np.zeros_like(params[deaf]["kernel"]), "bias": params[deaf]["bias"]}
        x = np.repeat(images(side, 1), 4, axis=0)
        logits = run(graph, params | {deaf: deafened}, statistics, x, jax.random.split(KEY, 4), training=True)[0]
        return bool(np.any(np.std(logits, axis=0) > 1e-5))

    paper, torchvision = config.AlexNet(units=64, layout="NHWC"), config.AlexNetOWT(layout="NHWC")
    assert varies(paper, 64, deaf="dense2") and not varies(torchvision, 63, deaf="dense2")
    assert varies(paper, 64, deaf="dense1") and varies(torchvision, 63, deaf="dense1")


def test_dropout_acts_only_in_training_and_per_example():
    graph, params, statistics = network(config.AlexNetSmall(width=8, layout="NHWC"), 26)
    keys = jax.random.split(KEY, 2)
    train = lambda images, keys: run(graph, params, statistics, images, keys, training=True)[0]
    plain = run(graph, params, statistics, images(26))[0]
    dropped = train(images(26), keys)
    assert np.all(np.abs(dropped - plain).max(1) > 0.01)
    np.testing.assert_allclose(run(graph, params, statistics, images(26), keys)[0], plain, rtol=1e-5, atol=1e-4)
    swapped = train(images(26)[::-1], keys[::-1])
    np.testing.assert_allclose(swapped[::-1], dropped, rtol=1e-4, atol=1e-3)


@pytest.mark.slow
def test_dropout_of_2012_scales_in_evaluation_only():
    """Units that stay keep their value in training, so that the mean over draws is that of all, halved."""
    settings = config.AlexNet(units=64, layout="CHWN")
    graph, params, statistics = network(settings, 64)
    seen = jnp.repeat(images(64, 1), 64, axis=0)
    plain = run(graph, params, statistics, images(64, 1))[0][0]
    drawn = run(graph, params, statistics, seen, jax.random.split(KEY, 64), training=True)[0]
    spread = drawn.std(0) / 8
    # Not exactly: a ReLU lies between the two dropouts.
    assert np.abs(drawn.mean(0) - plain).max() < 0.2 * np.abs(plain).max() + 4 * spread.max()
    assert np.abs(drawn.mean(0) - 4 * plain).max() > np.abs(plain).max()


@pytest.mark.parametrize("kind", ["average", "subsample"])
def test_other_poolings_and_activations(kind):
    """The maps of a pool are those of its convolution, pooled by NumPy; the 1998 subsampling is squashed."""
    pool = config.Pool.of(kind=kind, window=2, stride=2)
    settings = config.AlexNetSmall(width=8, activation="tanh", pool=pool, layout="NHWC")
    graph, params, statistics = network(settings, 24)
    _, maps, _ = run(graph, params, statistics, images(24) / 100)
    for before, after in (("conv1", "pool1"), ("conv2", "pool2"), ("conv5", "pool5")):
        assert np.abs(maps[before]).max() <= 1
        means = window_view(np.float64(maps[before]), 2, 2).mean((4, 5))
        if kind == "subsample":
            means = np.tanh(4 * means * params[after]["coefficient"] + params[after]["bias"])
        np.testing.assert_allclose(maps[after], means, rtol=1e-4, atol=1e-5)


def test_bfloat16():
    settings = config.AlexNetSmall(width=8, norm="batch", layout="NHWC")
    graph, params, statistics = network(settings, 26)
    exact = run(graph, params, statistics, images(26))[0]
    half = jax.tree.map(jnp.bfloat16, (params, images(26)))
    logits, maps, _ = run(graph, half[0], statistics, half[1])
    assert {logits.dtype, *(map.dtype for map in maps.values())} == {np.dtype(jnp.bfloat16)}
    np.testing.assert_allclose(np.float32(logits), exact, rtol=0, atol=0.1 * np.abs(exact).max())


def test_an_image_too_small_for_the_notebook_says_why():
    words = "pool5: input 1x1x256.*without padding.*at least 215x215.*data.size.*model.padding.mode=same"
    with pytest.raises(UsageError, match=words):
        outline(config.AlexNetNotebook(layout="NHWC"), (214, 214, 3), 10)


def test_torchvisions_smallest_image():
    with pytest.raises(UsageError, match="pool5: input 2x2x256.*does not fit"):
        outline(config.AlexNetOWT(layout="NHWC"), (62, 62, 3), 10)
    assert outline(config.AlexNetOWT(layout="NHWC"), (63, 63, 3), 10).pool5.output_shape == (1, 1, 256)


@pytest.mark.slow
def test_the_blur_of_the_first_convolution_follows_its_activation():
    """Zhang 2019's surgery: stride 2, ReLU, a binomial filter with stride 2; here against NumPy."""
    net = make_model(dataclasses.replace(ANTI_ALIASED, layout="NHWC"), (127, 127, 3), 10, KEY)
    _, maps = net(np.random.default_rng(0).random((1, 127, 127, 3), np.float32))
    names = list(maps)
    assert names[names.index("conv1") + 1] == "blur1" and np.asarray(maps["conv1"]).min() == 0
    before = np.pad(np.asarray(maps["conv1"], np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)), mode="reflect")
    windows = np.lib.stride_tricks.sliding_window_view(before, (3, 3), (1, 2))[:, ::2, ::2]
    expected = np.sum(windows * np.outer([1, 2, 1], [1, 2, 1]) / 16, (4, 5))
    np.testing.assert_allclose(maps["blur1"], expected, rtol=1e-5, atol=1e-6)
