"""Every kind of pooling inside the networks: layouts, seeds under vmap, random draws, shift invariance."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from cnn_jax import config
from cnn_jax.config import overrides, poolings
from cnn_jax.errors import UsageError
from cnn_jax.layers.convolution import Convolution
from cnn_jax.layers.pooling import make_pool
from cnn_jax.layers.pooling.base import Pooling
from cnn_jax.models import make_model, needs_keys, outline, summary
from cnn_jax.models.builder import Builder
from cnn_jax.models.network import Maker

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(2)
SIDE = 12
KINDS = [kind.name for kind in poolings.POOLINGS]


def images(count=2, side=SIDE):
    return np.random.default_rng(0).uniform(0, 1, (count, side, side, 1)).astype(np.float32)


def lenet(layout="NHWC", edge="zero", activation="relu", **pool):
    padding = config.Padding(mode="same", fill=edge)
    settings = config.LeNet(layout=layout, padding=padding, activation=activation, pool=config.Pool.of(**pool))
    return make_model(settings, (SIDE, SIDE, 1), 10, KEY)


def run(model, x, keys=None, training=False):
    graph, state = nnx.split(model)
    return jax.jit(lambda state, x, keys: nnx.merge(graph, state)(x, keys, training))(state, x, keys)


def test_the_layouts_are_one_network():
    """In training, with the same draws; the layers of every kind are compared in tests/layers/test_pooling_kinds.py."""
    keys = jax.random.split(KEY, 2)
    both = (run(lenet(layout, kind="stochastic"), images(), keys, True) for layout in ("NHWC", "CHWN"))
    (nhwc, maps), (chwn, others) = both
    np.testing.assert_allclose(nhwc, chwn, rtol=1e-4, atol=1e-5)
    assert maps.keys() == others.keys() == {"conv1", "pool1", "conv2", "pool2"}
    for name in maps:
        np.testing.assert_allclose(maps[name], others[name], rtol=1e-4, atol=1e-5, err_msg=name)
    windows = np.stack([maps["conv1"][:, i::2, j::2] for i in (0, 1) for j in (0, 1)])
    assert np.all((windows == maps["pool1"]).any(0))  # an element of each window, and not always the largest
    assert np.any(maps["pool1"] < windows.max(0))


MODELS = {  # sides that they take with a window of 3
    "lenet": 32, "lenet5": 36, "alexnet": 224, "alexnet_owt": 224, "alexnet_bn": 224, "alexnet_notebook": 224,
    "alexnet_small": 32, "four_layer": 32, "zeiler_fergus": 32, "position": 32,
}  # fmt: skip
SINGLE = ("four_layer", "position")  # with one pooling by that name


@pytest.mark.parametrize("name", MODELS)
def test_every_network_takes_a_kind_and_a_fill_by_override(name):
    """As `--set model.pool.kind=soft --set model.padding.fill=reflect` does; where nothing is padded, with a mode."""
    side = MODELS[name]
    plain = {kind.name: kind for kind in config.MODELS}[name](layout="NHWC")
    specs = ["model.pool.kind=soft", "model.pool.window=3", "model.padding.fill=reflect"]
    specs += ["model.padding.mode=1"] if hasattr(plain.padding, "mode") else []
    settings = overrides.apply(config.Config(model=plain), specs).model
    rows = summary.summarise(outline(settings, (side, side, 3), 10))
    assert sum(row.kind.startswith("soft pooling 3x3, stride 2") for row in rows) >= (name not in SINGLE) + 1
    convolutions = [row.kind for row in rows if row.kind.startswith("convolution")]
    assert len(convolutions) >= 2 and all("reflect fill" in kind for kind in convolutions)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_fits_alexnet(kind):
    """With the maps of plain pooling, but where regions are drawn and where there is no window."""
    plain = config.AlexNetSmall(width=8, layout="NHWC")
    rows = lambda pool: summary.summarise(outline(dataclasses.replace(plain, pool=pool), (32, 32, 3), 10))
    kinds, plain = rows(plain.pool.changed(kind=kind)), rows(plain.pool)
    if kind not in ("fractional", "strided"):
        outputs = {row.name: row.output for row in kinds if row.name.startswith(("conv", "pool", "dense"))}
        assert outputs == {row.name: row.output for row in plain if row.name in outputs} and len(outputs) == 10
    if kind in ("conv", "conv_max", "conv_blur", "lip"):
        assert sum(row.multiply_adds for row in kinds) > sum(row.multiply_adds for row in plain)


def test_the_stride_of_a_pooling_left_out_is_the_convolutions():
    def sizes(model):
        of_maps = [layer for layer in model.parts() if isinstance(layer, Convolution | Pooling)]
        return [layer.output_shape[0] for layer in of_maps]

    pool = config.Pool.of(kind="strided")
    assert sizes(outline(config.LeNet(layout="NHWC", pool=pool), (28, 28, 1), 10)) == [12, 12, 4, 4]
    assert sizes(outline(config.LeNet5(layout="NHWC", pool=pool), (32, 32, 1), 10)) == [14, 14, 5, 5, 1]
    alexnet = config.AlexNetSmall(layout="NHWC", pool=pool)
    assert sizes(outline(alexnet, (32, 32, 3), 10)) == [16, 16, 8, 8, 8, 8, 4, 4]
    normalised = dataclasses.replace(alexnet, norm="batch")  # between the convolution and the pooling
    assert sizes(outline(normalised, (32, 32, 3), 10)) == [16, 16, 8, 8, 8, 8, 4, 4]
    later = config.FourLayer(later_pool=config.Pool.of(kind="strided", stride=4))
    assert sizes(outline(later, (32, 32, 3), 10)) == [32, 16, 4, 4, 1, 1]
    last = config.FourLayer(later_pool=config.Pool.of(kind="strided", stride=4, last="max"))  # which needs no stride
    assert sizes(outline(last, (32, 32, 3), 10)) == [32, 16, 4, 4, 4, 1]
    position = config.PositionNet(layout="NHWC", padding=config.Padding(mode="1"), pool=pool)
    assert sizes(outline(position, (32, 32, 3), 2)) == [32, 16, 8, 2, 2]


@pytest.mark.parametrize("last, features", [("average", 16), ("lp", 16), ("pyramid", 16 * 14)])
def test_the_last_pooling_before_a_dense_layer(last, features):
    settings = config.LeNet(layout="NHWC", padding=config.Padding(mode="same"), pool=config.Pool.of(last=last))
    graph, state = nnx.split(model := outline(settings, (SIDE, SIDE, 1), 10))
    assert model.dense1.input_shape == (features,) and model.pool1.output_shape == (6, 6, 6)
    logits, maps = jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x), state, images())
    assert logits.shape == (2, 10) and ("pool2" in maps) == (last != "pyramid")
    settings = config.AlexNetSmall(width=8, layout="NHWC", pool=config.Pool.of(window=3, last=last))
    graph, state = nnx.split(model := outline(settings, (32, 32, 3), 10))
    assert model.dense1.input_shape == (2 * features,)
    logits, _ = jax.eval_shape(lambda state, x: nnx.merge(graph, state)(x), state, jnp.zeros((2, 32, 32, 3)))
    assert logits.shape == (2, 10)


def test_where_a_convolution_follows_every_pooling_none_is_last():
    pool = config.Pool.of(last="pyramid")
    with pytest.raises(UsageError, match="model.pool.last = 'pyramid' .*in lenet5 s2 comes before a convolution"):
        outline(config.LeNet5(layout="NHWC", pool=pool), (32, 32, 1), 10)
    with pytest.raises(UsageError, match="model.pool.last = 'pyramid' .*pool1 comes before a convolution"):
        outline(config.FourLayer(pool=pool), (32, 32, 3), 10)
    later = outline(config.FourLayer(later_pool=pool), (32, 32, 3), 10)
    assert later.output.input_shape == (14 * 64,)


def test_logits_do_not_change_with_a_circular_shift():
    """Adaptive polyphase sampling, circular padding, global average pooling; unlike max pooling."""
    (image,) = images(1)
    shifted = np.stack([np.roll(image, shift, (0, 1)) for shift in np.ndindex(SIDE, SIDE)])

    def spread(**pool):
        logits, _ = run(lenet(edge="circular", padding="same", last="average", **pool), shifted)
        return np.abs(logits - logits[0]).max() / np.abs(logits).max()

    assert spread(kind="aps", fill="circular") < 1e-5 < 1e-3 < spread(kind="max")


def test_min_and_max_pooling_are_one_network_with_tanh():
    """tanh is odd: with the signs of weights and biases before a pooling turned, min becomes -max."""
    smallest, largest = lenet(activation="tanh", kind="min"), lenet(activation="tanh")
    draw = np.random.default_rng(0)
    for name in ("conv1", "conv2"):
        bias = jnp.asarray(draw.standard_normal(getattr(smallest, name).bias.shape), jnp.float32)
        getattr(smallest, name).bias[...], getattr(largest, name).bias[...] = bias, -bias
    largest.conv1.kernel[...] = -largest.conv1.kernel[...]  # conv2's is turned twice, dense1's once
    largest.dense1.kernel[...] = -largest.dense1.kernel[...]
    (ours, _), (theirs, _) = run(smallest, images()), run(largest, images())
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["tree", "conv"])
def test_seeds_side_by_side_are_seeds_alone(kind):
    """Initial weights under an outer vmap, and what the layers make of them."""
    pool = config.Pool.of(kind=kind)

    def one(key):
        layer = make_pool("pool", (6, 6, 3), pool, "CHWN", key=key)
        return layer(np.ones((3, 6, 6, 2), np.float32)), nnx.to_pure_dict(nnx.state(layer, nnx.Param))

    keys = jax.random.split(KEY, 2)
    both, alone = jax.jit(lambda keys: (jax.vmap(one)(keys), one(keys[1])))(keys)
    jax.tree.map(lambda ours, theirs: np.testing.assert_allclose(ours[1], theirs, rtol=1e-5, atol=1e-6), both, alone)
    assert np.any(both[0][0] != both[0][1])


def tiny(settings, image_shape, classes):
    """What makes up the networks, with one convolution."""
    net = Builder(settings, image_shape, Maker(settings, KEY))
    net.conv("conv1", 2, 3, "he_normal", padding=1).activation().pool("pool1")
    return net.flatten().dropout().dense("output", classes, "he_normal").build()


def test_random_pooling_needs_keys_and_dropout_training_as_well():
    stochastic = config.Pool.of(kind="stochastic")
    assert needs_keys(config.LeNet(pool=stochastic)) and needs_keys(config.LeNet(dropout=0.1))
    assert needs_keys(config.FourLayer(later_pool=stochastic))
    assert not needs_keys(config.LeNet()) and not needs_keys(config.PositionNet())
    assert not needs_keys(config.LeNet(pool=config.Pool.of(kind="mixed", learned=True)))
    for settings in (config.AlexNetSmall(pool=stochastic), config.AlexNetSmall(pool=config.Pool.of(kind="average"))):
        model = tiny(settings, (SIDE, SIDE, 1), 5)
        hows = lambda keys: ((keys, True), (keys[::-1], True), (keys,), (None, True), ())
        ways = lambda x, keys: [model(x, *how)[0] for how in hows(keys)]
        trained, other, drawn, *without = jax.jit(ways)(images(), jax.random.split(KEY, 2))
        assert np.any(trained != other) and np.any(trained != drawn)
        assert np.any(drawn != without[0]) == settings.pool.draws
        np.testing.assert_array_equal(without[0], without[1])
