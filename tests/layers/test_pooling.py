"""Pooling in both layouts against NumPy loops and, for its gradient, against lax.reduce_window."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import nnx
from jax import lax

from cnn_jax import config
from cnn_jax.errors import UsageError
from cnn_jax.layers.pooling import make_pool
from cnn_jax.layers.pooling.reductions import average_pool, max_pool
from cnn_jax.layers.windows import from_images, geometry, to_images

pytestmark = pytest.mark.usefixtures("quick_compile")
LAYOUTS = ("NHWC", "CHWN")
# height, width; window; stride; padding
PLACES = {
    "LeNet": ((6, 8), 2, 2, "valid"),
    "AlexNet": ((7, 9), 3, 2, "valid"),
    "same": ((6, 7), 3, 2, "same"),
    "uneven": ((7, 6), 2, 3, "valid"),  # pixels between the windows, pixels after the last
    "dense": ((5, 6), 3, 1, "1"),
    "one side": ((5, 5), 3, 2, "0,1,2,0"),
    "global": ((4, 5), 0, 7, "same"),
}
CHANNELS, BATCH = 3, 2


@functools.cache
def pool(place, layout, **settings):
    size, window, stride, padding = PLACES[place]
    settings = config.Pool.of(**{"window": window, "stride": stride, "padding": padding} | settings)
    return make_pool("pool", (*size, CHANNELS), settings, layout)


def draw(shape, seed=0, levels=None):
    """Normal numbers; with `levels`, rounded to so few values that many are equal."""
    x = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return x if levels is None else np.round(x * levels) / levels


@functools.cache
def both_ways(place, layout, levels=None, **settings):
    """NHWC maps and their cotangent; the layer's output and gradient for them."""
    layer = pool(place, layout, **settings)
    x, cotangent = draw((BATCH, *layer.input_shape), 0, levels), draw((BATCH, *layer.output_shape), 1)

    @jax.jit
    def run(x, cotangent):
        y, pull = jax.vjp(lambda x: to_images(layer(from_images(x, layout)), layout), x)
        return y, *pull(cotangent)

    return x, cotangent, *run(x, cotangent)


def loops(x, cotangent, layer, kind, count_padding=False):
    """Output and gradient by loops over windows, images, channels."""
    placed = layer.geometry
    numbers = np.arange(x.size).reshape(x.shape)  # which pixel of x each pixel of a window is; -1: padding
    sources = reference.patches(numbers, placed.window, placed.stride, placed.pads, constant_values=-1)
    flat, gradient, y = x.ravel().astype(np.float64), np.zeros(x.size), np.zeros(cotangent.shape)
    for row, column, source in sources:
        for image, channel in np.ndindex(BATCH, CHANNELS):
            inside = [int(place) for place in source[image, :, :, channel].ravel() if place >= 0]
            values, here = flat[inside], (image, row, column, channel)
            if kind == "max":
                best = np.argmax(values)  # the first of equals
                y[here], gradient[inside[best]] = values[best], gradient[inside[best]] + cotangent[here]
            else:
                share = 1 / (np.prod(placed.window) if count_padding else len(inside))
                y[here] = share * values.sum()
                gradient[inside] += share * cotangent[here]
    return y, gradient.reshape(x.shape)


COUNTED = {"count_padding": True}
KINDS = [(place, kind, {}) for place in PLACES for kind in ("max", "average")]
KINDS += [(place, "average", COUNTED) for place in ("same", "dense", "one side")]


@pytest.mark.parametrize("place, kind, settings", KINDS)
def test_values_and_gradients_are_those_of_loops(place, kind, settings):
    """On rounded maps, where many values of a window are equal."""
    for layout in LAYOUTS:
        x, cotangent, y, gradient = both_ways(place, layout, levels=2, kind=kind, **settings)
        expected, expected_gradient = loops(x, cotangent, pool(place, layout), kind, **settings)
        np.testing.assert_allclose(y, expected, rtol=1e-6, atol=1e-6)
        np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("place, size", [("AlexNet", (3, 4)), ("uneven", (2, 2)), ("same", (3, 4)), ("global", (1, 1))])
@pytest.mark.parametrize("kind", ["max", "min", "average", "subsample"])
def test_output_shapes(place, size, kind):
    layer = pool(place, "CHWN", kind=kind)
    height, width, channels = layer.input_shape
    assert layer.output_shape == (*size, channels)
    assert jax.eval_shape(layer, jnp.zeros((channels, height, width, BATCH))).shape == (channels, *size, BATCH)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", ["LeNet", "AlexNet"])
def test_subsampling_is_a_weighted_sum_plus_a_bias(place, layout):
    layer = pool(place, layout, kind="subsample")
    area = np.prod(layer.geometry.window)
    np.testing.assert_allclose(layer.coefficient[...], np.full(CHANNELS, 1 / area))
    np.testing.assert_array_equal(layer.bias[...], np.zeros(CHANNELS))
    x, cotangent = draw((BATCH, *layer.input_shape)), draw((BATCH, *layer.output_shape), 1)
    coefficient, bias = np.float32([0.5, -1, 2]), np.float32([1, 0, -3])

    @jax.jit
    def run(x, coefficient, bias):
        def forward(x, coefficient, bias):
            changed = nnx.clone(layer)
            changed.coefficient[...], changed.bias[...] = coefficient, bias
            return to_images(changed(from_images(x, layout)), layout)

        y, pull = jax.vjp(forward, x, coefficient, bias)
        return y, *pull(cotangent)

    mean, mean_gradient = loops(x, cotangent * coefficient, layer, "average")
    expected = [
        area * mean * coefficient + bias,
        area * mean_gradient,
        (area * mean * cotangent).sum((0, 1, 2)),
        cotangent.sum((0, 1, 2)),
    ]
    for ours, theirs in zip(run(x, coefficient, bias), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-4)


def reduce_window(x, placed):
    """JAX's own max pooling."""
    sizes, strides, pads = [1] * 4, [1] * 4, [(0, 0)] * 4
    for axis, window, stride, sides in zip(placed.axes, placed.window, placed.stride, placed.pads):
        sizes[axis], strides[axis], pads[axis] = window, stride, sides
    return lax.reduce_window(x, -jnp.inf, lax.max, sizes, strides, pads)


def gradient(pooling, placed):
    """(x, cotangent) to the gradient of x, compiled."""
    return jax.jit(lambda x, cotangent: jax.vjp(lambda x: pooling(x, placed), x)[1](cotangent)[0])


MAPS = {
    "normal": lambda shape: draw(shape),
    "rounded": lambda shape: draw(shape, levels=1),
    "rectified": lambda shape: np.maximum(draw(shape), 0),
    "constant": lambda shape: np.full(shape, -2, np.float32),
    "signed zeros": lambda shape: np.where(draw(shape) > 0, np.float32(0), np.float32(-0.0)),
    "all -inf": lambda shape: np.full(shape, -np.inf, np.float32),
    "some inf": lambda shape: np.select([draw(shape) > 1, draw(shape) < 0], [np.inf, -np.inf], draw(shape, levels=1)),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", ["LeNet", "AlexNet", "same", "dense"])
def test_max_pool_and_its_gradient_are_reduce_windows_ties_included(place, layout):
    """Whole cotangents: sums of overlapping windows are then exact in any order."""
    placed = pool(place, layout).geometry
    ours, theirs = gradient(max_pool, placed), gradient(reduce_window, placed)
    forward = jax.jit(lambda x: (max_pool(x, placed), reduce_window(x, placed)))
    for name, make in MAPS.items():
        x = from_images(make((BATCH, *placed.input_shape)).astype(np.float32), layout)
        y, expected = forward(x)
        np.testing.assert_array_equal(y, expected, err_msg=name)
        cotangent = np.round(9 * draw(y.shape, 1))
        np.testing.assert_array_equal(ours(x, cotangent), theirs(x, cotangent), err_msg=name)


@pytest.mark.parametrize("window, stride, padding", [((3, 2), (2, 1), "1,0"), ((1, 4), (2, 2), "valid")])
def test_windows_need_not_be_square(window, stride, padding):
    placed = geometry("p", (6, 9, 2), window, stride, padding)
    x = draw((2, 6, 9, 2), levels=1)
    cotangent = np.round(9 * draw(reduce_window(x, placed).shape, 1))
    ours, theirs = (gradient(pooling, placed)(x, cotangent) for pooling in (max_pool, reduce_window))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("place", ["LeNet", "AlexNet", "same"])
def test_nan_reaches_every_window_that_holds_it(place):
    placed = pool(place, "NHWC").geometry
    pooled = jax.jit(lambda x: max_pool(x, placed))
    for row, column in np.ndindex(4, 4):
        x = draw((1, *placed.input_shape))
        x[0, row, column, 1] = np.nan
        patches = reference.patches(x, placed.window, placed.stride, placed.pads)
        expected = reference.assemble((r, c, np.isnan(patch).any((1, 2))) for r, c, patch in patches)
        np.testing.assert_array_equal(np.isnan(pooled(x)), expected)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_gradient_is_the_same_to_the_bit_every_time(layout):
    placed = geometry("p", (31, 31, 32), 3, 2, layout=layout)
    x = from_images(draw((8, 31, 31, 32), levels=1), layout)
    cotangent = from_images(draw((8, *placed.output_size, 32), 1), layout)
    run = gradient(max_pool, placed)
    first = run(x, cotangent)
    for _ in range(5):
        np.testing.assert_array_equal(run(x, cotangent), first)


@pytest.mark.parametrize("place", ["LeNet", "AlexNet"])
def test_gradients_hold_under_vmap_scan_and_while_loop(place):
    placed = pool(place, "CHWN").geometry
    one = gradient(max_pool, placed)
    xs = np.stack([from_images(draw((BATCH, *placed.input_shape), seed), "CHWN") for seed in range(3)])
    cotangents = draw((3, CHANNELS, *placed.output_size, BATCH), 9)
    expected = [one(*pair) for pair in zip(xs, cotangents)]
    np.testing.assert_array_equal(jax.jit(jax.vmap(one))(xs, cotangents), expected)
    np.testing.assert_array_equal(jax.jit(lambda *of: lax.map(lambda pair: one(*pair), of))(xs, cotangents), expected)

    def step(state):
        i, found = state
        return i + 1, found.at[i].set(one(xs[i], cotangents[i]))

    xs, cotangents = jnp.asarray(xs), jnp.asarray(cotangents)
    _, found = jax.jit(lambda: lax.while_loop(lambda state: state[0] < 3, step, (0, jnp.zeros(xs.shape))))()
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("kind", ["max", "min", "average", "subsample"])
def test_bfloat16_in_bfloat16_out(kind):
    layer = pool("same", "NHWC", kind=kind)
    x = jnp.asarray(draw((BATCH, *layer.input_shape)), jnp.bfloat16)
    if kind == "subsample":  # as a step in bfloat16 does: all parameters are cast
        layer = nnx.merge(*jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), nnx.split(layer)))
    y, gradient = jax.jit(lambda x: (layer(x), jax.grad(lambda x: layer(x).sum())(x)))(x)
    exact = jax.jit(pool("same", "NHWC", kind=kind))(x.astype(jnp.float32))
    assert y.dtype == gradient.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), exact, rtol=0.02, atol=0.02)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_max_pooling_commutes_with_relu(layout):
    placed = pool("same", layout).geometry
    x = from_images(draw((BATCH, *placed.input_shape)), layout)
    first, last = jax.jit(lambda x: (max_pool(jax.nn.relu(x), placed), jax.nn.relu(max_pool(x, placed))))(x)
    np.testing.assert_array_equal(first, last)


@pytest.mark.parametrize("place", ["same", "AlexNet"])
def test_min_is_max_of_the_opposite(place):
    """min(x) = -max(-x), and so are their gradients: the smallest element has it, the first of equals."""
    x, cotangent, y, gradient = both_ways(place, "NHWC", levels=2, kind="min")
    expected, expected_gradient = loops(-x, cotangent, pool(place, "NHWC"), "max")
    np.testing.assert_allclose(y, -expected, rtol=1e-6, atol=1e-6)
    np.testing.assert_allclose(gradient, expected_gradient, rtol=1e-5, atol=1e-5)


def test_average_of_a_constant_map_at_the_edge():
    """Constant if only pixels inside count; with a 3x3 window and one pixel of padding 4/9 at the corners if all do."""
    placed = geometry("p", (5, 5, 1), 3, 1, 1)
    ones = np.ones((1, 5, 5, 1), np.float32)
    inside, counted = jax.jit(lambda x: [average_pool(x, placed, count) for count in (False, True)])(ones)
    np.testing.assert_allclose(inside, ones, rtol=1e-6)
    np.testing.assert_allclose(counted[0, :2, :2, 0], [[4 / 9, 6 / 9], [6 / 9, 1]], rtol=1e-6)


def test_global_pooling_is_a_reduction_of_the_whole_map():
    x = draw((BATCH, 20, 15, 1))
    largest, mean = (make_pool("p", (20, 15, 1), config.Pool.of(kind=kind, window=0)) for kind in ("max", "average"))
    np.testing.assert_array_equal(jax.jit(largest)(x), x.max((1, 2), keepdims=True))
    np.testing.assert_allclose(jax.jit(mean)(x), x.mean((1, 2), keepdims=True), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"window": 9}, ["pool3", "input 6x7x3", "window 9x9", "stride 2x2", "does not fit"]),
        ({"padding": "2"}, ["pool3", "2x2, stride 2, padding 2", "smaller than the window"]),
        ({"padding": "0,0,0,2"}, ["pool3", "padding 0,0,0,2"]),
        ({"padding": "lots"}, ["pool3", "'lots'"]),
    ],
)
def test_wrong_settings_are_named(settings, words):
    with pytest.raises(UsageError) as error:
        make_pool("pool3", (6, 7, 3), config.Pool.of(**settings))
    assert [word for word in words if word not in str(error.value)] == []


def test_pytorch_agrees():
    torch = pytest.importorskip("torch")
    functional = torch.nn.functional
    peers = {
        "max": functional.max_pool2d,
        "average": functools.partial(functional.avg_pool2d, count_include_pad=False),
    }
    for place, pads in (("LeNet", 0), ("AlexNet", 0), ("dense", 1)):
        _, window, stride, _ = PLACES[place]
        for kind, peer in peers.items():
            x, cotangent, y, gradient = both_ways(place, "CHWN", levels=2, kind=kind)
            tensor = torch.tensor(x, requires_grad=True)
            theirs = peer(tensor.permute(0, 3, 1, 2), window, stride, pads).permute(0, 2, 3, 1)
            theirs.backward(torch.tensor(cotangent))
            np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=1e-5, atol=1e-6)
            np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
@pytest.mark.parametrize("kind", ["average", "average_blur", "max_blur", "subsample", "max_average"])
def test_sums_of_bfloat16_are_made_in_float32(kind, layout):
    """A mean of 55x55 numbers about 1, and of 3x3: what is rounded is the result, once."""
    for side, window in ((55, 55), (9, 3)):
        if kind.endswith("blur") and side == 55:
            continue
        rng = np.random.default_rng(side)
        x = jnp.bfloat16(rng.uniform(0.5, 1.5, (BATCH, side, side, CHANNELS)))
        settings = config.Pool.of(kind=kind, window=window, stride=window)
        layer = make_pool("pool", (side, side, CHANNELS), settings, layout)
        pooled = layer(from_images(x, layout))
        assert pooled.dtype == jnp.bfloat16
        exact = layer(from_images(jnp.float32(x), layout))
        rounds = 2 if kind in ("average_blur", "max_average") else 1
        np.testing.assert_allclose(np.float32(pooled), exact, rtol=rounds * 2**-8)
