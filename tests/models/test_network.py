"""Lists of layers: what every layer of every network has, and that pooling before the activation changes nothing."""

import dataclasses
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cnn_jax import config
from cnn_jax.layers.activations import Activation
from cnn_jax.layers.dense import Dropout
from cnn_jax.layers.windows import from_images, to_images
from cnn_jax.models import make_model, outline
from cnn_jax.models.builder import Builder
from cnn_jax.models.network import Layers, Maker

KEY = jax.random.key(4)
BATCH, CLASSES = 3, 5
SAME = config.Padding(mode="same")
# settings and side: every network, small
NETWORKS = {
    "lenet": (config.LeNet(dropout=0.5), 16),
    "lenet5": (config.LeNet5(dropout=0.5, output="softmax"), 32),
    "alexnet": (config.AlexNet(units=16), 64),
    "alexnet_owt": (config.AlexNetOWT(), 63),
    "alexnet_bn": (config.AlexNetBN(), 64),
    "alexnet_notebook": (config.AlexNetNotebook(padding=SAME), 64),
    "alexnet_small": (config.AlexNetSmall(width=8, norm="batch"), 24),
    "four_layer": (config.FourLayer(), 12),
    "zeiler_fergus": (config.ZeilerFergus(width=8), 12),
    "position": (config.PositionNet(), 20),
}
KINDS = {"plain": {}, "by convolution": {"kind": "conv"}, "last": {"last": "max"}}
REFUSED = [("lenet5", "last")]  # a convolution follows each of its poolings


def shaped(shape, layout):
    """An array of NHWC shape, or of vectors, in a layout."""
    order = range(len(shape)) if len(shape) == 2 else ["NHWC".index(axis) for axis in layout]
    return jax.ShapeDtypeStruct([shape[axis] for axis in order], jnp.float32)


@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
@pytest.mark.parametrize("name, kind", [pair for pair in itertools.product(NETWORKS, KINDS) if pair not in REFUSED])
def test_every_layer_is_called_alike_and_reads_what_the_one_before_puts_out(name, kind, layout):
    settings, side = NETWORKS[name]
    changed = settings.pool.changed(**KINDS[kind])
    which = "later_pool" if name == "four_layer" else "pool"
    model = outline(dataclasses.replace(settings, layout=layout, **{which: changed}), (side, side, 3), CLASSES)
    shape, names = (side, side, 3), [layer.name for layer in model.parts()]
    assert len(set(names)) == len(names)
    keys = jax.eval_shape(lambda: jax.random.split(KEY, BATCH))
    for layer in model.parts():
        assert getattr(model, layer.name) is layer and layer.describe() and layer.multiply_adds >= 0
        assert layer.input_shape == shape
        graph, state = nnx.split(layer)
        call = lambda state, x, keys: nnx.merge(graph, state)(x, keys, True)
        shape = layer.output_shape
        found = jax.eval_shape(call, state, shaped((BATCH, *layer.input_shape), layout), keys)
        assert found.shape == shaped((BATCH, *shape), layout).shape
    assert shape == (CLASSES,)


def in_listed_order(model, images, keys, training):
    """Logits and maps, each layer after the one before it."""
    x, maps, name = from_images(images, model.layout), {}, None
    for layer in model.parts():
        x = layer(x, keys, training)
        name = name if isinstance(layer, Activation) else layer.name
        if x.ndim == 4:
            maps[name] = to_images(x, model.layout)
    return x, maps


def pool(**settings):
    return config.Pool.of(**settings)


POSTPONED = [  # settings, and the numbers of the activations that wait for a pooling
    (config.LeNet(), (1, 2)),
    (config.LeNet(pool=pool(kind="min")), (1, 2)),
    (config.LeNet(pool=pool(kind="average")), ()),
    (config.LeNet(pool=pool(kind="average", last="max")), (2,)),
    (config.LeNet5(), ()),
    (config.LeNet5(pool=pool()), (1, 2)),
    (config.AlexNet(), (5,)),
    (config.AlexNet(norm_first=True), (1, 5)),
    (config.AlexNet(norm="none"), (1, 2, 5)),
    (config.AlexNetOWT(), (1, 2, 5)),
    (config.AlexNetBN(), (1, 2, 5)),
    (config.AlexNetNotebook(padding=SAME), (1, 2, 5)),
    (config.AlexNetSmall(norm="lrn"), ()),
    (config.AlexNetSmall(pool=pool(kind="strided")), (1, 2, 5)),
    (config.AlexNetSmall(pool=pool(kind="conv")), ()),
    (config.FourLayer(), (1,)),
    (config.ZeilerFergus(), (1, 2, 3)),
    (config.PositionNet(), (4,)),
]


@pytest.mark.parametrize("settings, numbers", POSTPONED)
def test_pooling_comes_before_a_costly_activation_in_every_network_where_nothing_lies_between(settings, numbers):
    side = NETWORKS[settings.name][1] if settings.name != "lenet" else 28
    for activation, postponed in ("tanh", numbers), ("relu", ()):
        model = outline(dataclasses.replace(settings, layout="NHWC", activation=activation), (side, side, 3), 10)
        assert model.postponed == tuple(f"activation{number}" for number in postponed)


def stages(settings, norm):
    """Two convolutions with poolings, the second with normalisation before its activation."""
    net = Builder(settings, (12, 12, 2), Maker(settings, KEY))
    net.conv("conv1", 4, 3, "he_normal", padding=1).activation().pool("pool1")
    net.conv("conv2", 8, 3, "he_normal", padding=1).active("norm2", norm, True).pool("pool2").flatten()
    return net.dropout().dense("output", CLASSES, "he_normal").build()


@pytest.mark.parametrize(
    "kind, norm, activation",
    [
        ("max", "none", "relu"),
        ("max", "none", "scaled_tanh"),
        ("max", "batch", "tanh"),
        ("min", "lrn", "sigmoid"),
        ("strided", "none", "tanh"),
        ("average", "none", "relu"),
        ("stochastic", "none", "relu"),
        ("conv", "batch", "relu"),
        ("subsample", "none", "tanh"),
    ],
)
def test_pooling_first_changes_neither_values_nor_gradients(kind, norm, activation, quick_compile):
    """Against the layers one after the other, as listed: logits, every map, and the gradients of them all."""
    settings = config.AlexNetSmall(layout="CHWN", activation=activation, pool=pool(kind=kind, window=3))
    model = stages(settings, norm)
    draw = np.random.default_rng(0)
    images = draw.standard_normal((BATCH, 12, 12, 2)).astype(np.float32)
    weight = draw.standard_normal((BATCH, CLASSES))
    graph, params, rest = nnx.split(model, nnx.Param, ...)
    params = jax.tree.map(lambda leaf: leaf + 0.1 * draw.standard_normal(leaf.shape).astype(np.float32), params)

    def run(call):
        def loss(params, images):
            merged = nnx.merge(graph, params, rest, copy=True)
            logits, maps = call(merged, images, jax.random.split(KEY, BATCH), True)
            return jnp.sum(logits * weight) + sum(jnp.sum(jnp.sin(map)) for map in maps.values()), (logits, maps)

        return jax.jit(jax.value_and_grad(loss, (0, 1), has_aux=True))(params, images)

    (_, ours), gradients = run(Layers.__call__)
    (_, theirs), expected = run(in_listed_order)
    assert ours[1].keys() == {"conv1", "pool1", "conv2", "pool2"} | ({"norm2"} if norm != "none" else set())
    close = lambda a, b: np.testing.assert_allclose(a, b, rtol=0, atol=2e-5 * max(np.abs(b).max(), 1))
    jax.tree.map(close, ours, theirs)
    jax.tree.map(close, gradients, expected)


def test_the_map_before_pooling_is_computed_only_if_it_is_read():
    """Counted in the compiled program: the tanh of an image."""
    model = make_model(config.LeNet(layout="CHWN"), (28, 28, 1), 10, KEY)

    def count(read):
        compiled = jax.jit(lambda images: read(*model(images))).lower(jnp.zeros((1, 28, 28, 1))).compile()
        return compiled.cost_analysis()["transcendentals"]

    hidden = 120 + 84
    assert count(lambda logits, maps: logits) == 12 * 12 * 6 + 4 * 4 * 16 + hidden
    assert count(lambda logits, maps: (logits, maps["conv1"])) == (24 * 24 + 12 * 12) * 6 + 4 * 4 * 16 + hidden


def test_parameters_are_named_after_their_layers():
    settings = config.AlexNetSmall(width=8, norm="batch", layout="NHWC", pool=config.Pool.of(kind="conv"))
    model = outline(settings, (24, 24, 3), CLASSES)

    def names(kind):
        leaves = jax.tree_util.tree_leaves_with_path(nnx.to_pure_dict(nnx.state(model, kind)))
        return {jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves}

    weighted = [f"conv{i}" for i in range(1, 6)] + [f"pool{i}.convolution" for i in (1, 2, 5)]
    weighted += ["dense1", "dense2", "output"]
    expected = {f"{layer}.{part}" for layer in weighted for part in ("kernel", "bias")}
    norms = [f"norm{i}" for i in range(1, 6)]
    assert names(nnx.Param) == expected | {f"{norm}.{part}" for norm in norms for part in ("scale", "bias")}
    assert names(nnx.BatchStat) == {f"{norm}.{part}" for norm in norms for part in ("mean", "var")}


@pytest.mark.parametrize("name", ["lenet", "lenet5", "alexnet", "alexnet_owt"])
def test_dropouts_are_numbered_in_order_and_absent_at_a_rate_of_0(name):
    settings, side = NETWORKS[name]
    dropouts = lambda settings: [
        (layer.name, layer.purpose, layer.rate, layer.scale_in)
        for layer in outline(dataclasses.replace(settings, layout="NHWC"), (side, side, 3), CLASSES).parts()
        if isinstance(layer, Dropout)
    ]
    where = "evaluation" if name == "alexnet" else "training"
    assert dropouts(settings) == [("dropout1", 1, 0.5, where), ("dropout2", 2, 0.5, where)]
    assert dropouts(dataclasses.replace(settings, dropout=0.0)) == []


def test_a_layer_of_any_kind_can_be_added():
    settings = config.AlexNetSmall(layout="NHWC", activation="tanh")
    net = Builder(settings, (6, 6, 1), Maker(settings, KEY))
    net.conv("first", 4, 3, "he_normal").add(lambda shape: Activation("squash", shape, "sigmoid"))
    model = net.flatten().dense("output", 2, "he_normal").build()
    images = np.random.default_rng(0).standard_normal((1, 6, 6, 1)).astype(np.float32)
    kernel = np.asarray(model.first.kernel[...], np.float64)[..., 0, :]
    patches = np.lib.stride_tricks.sliding_window_view(images[0, ..., 0], (3, 3))
    expected = 1 / (1 + np.exp(-np.einsum("hwij,ijf->hwf", patches, kernel)))
    logits, maps = model(images)
    np.testing.assert_allclose(maps["first"][0], expected, rtol=1e-5)
    np.testing.assert_allclose(logits[0], expected.ravel() @ np.float64(model.output.kernel[...]), rtol=1e-4, atol=1e-5)
