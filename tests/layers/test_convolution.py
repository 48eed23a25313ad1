"""Convolution in both layouts against NumPy loops: values, gradients, connections, initial weights."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import nnx

from cnn_jax.errors import UsageError
from cnn_jax.layers.convolution import Convolution, convolve
from cnn_jax.layers.dense import Dense
from cnn_jax.layers.windows import FILLS, from_images, to_images

pytestmark = pytest.mark.usefixtures("quick_compile")
KEY = jax.random.key(3)
TABLE = ((0,), (2, 0), (1, 2, 3), (3, 1))  # of 4 channels; not sorted, on purpose
# height, width, channels; features; window; the rest
CASES = {
    "plain": ((7, 6, 3), 4, 3, {"padding": "0,2,1,0"}),
    "stride": ((9, 8, 2), 3, (3, 2), {"stride": (2, 3)}),
    "two taps": ((5, 5, 16), 2, 2, {}),
    "four taps of deep stride": ((9, 8, 4), 3, (4, 7), {"stride": 2}),
    "same": ((6, 7, 2), 3, 4, {"stride": 2, "padding": "same"}),
    "full": ((4, 3, 2), 3, (2, 3), {"padding": "full"}),
    "reflect": ((5, 6, 2), 2, 3, {"padding": 2, "fill": "reflect"}),
    "circular": ((5, 6, 2), 2, 3, {"padding": "1,2", "fill": "circular", "stride": 2}),
    "partial": ((5, 6, 2), 2, 3, {"padding": "2,1,0,2", "fill": "partial", "stride": (1, 2)}),
    "partial groups": ((4, 4, 2), 2, 3, {"padding": "full", "fill": "partial", "groups": 2}),
    "mean": ((5, 7, 2), 2, (3, 2), {"padding": "2,1,0,2", "fill": "mean"}),
    "mean of a map smaller than the window": ((2, 3, 1), 2, 4, {"padding": 2, "fill": "mean"}),
    "groups": ((6, 6, 4), 6, 3, {"groups": 2, "padding": 1}),
    "thick groups": ((4, 3, 64), 4, 3, {"groups": 2, "padding": 1}),
    "depthwise": ((6, 5, 3), 6, (2, 3), {"groups": 3, "stride": 2}),
    "squares": ((9, 12, 2), 3, 5, {"padding": "2,1,0,2"}),
    "squares of even windows": ((10, 9, 1), 4, (5, 6), {}),
    "squares of seven": ((8, 8, 2), 2, (7, 5), {"padding": "1,0", "fill": "reflect"}),
    "squares of a table": ((8, 8, 4), 4, 5, {"connections": TABLE}),
    "table": ((6, 5, 4), 4, 3, {"connections": TABLE, "padding": 1, "fill": "reflect"}),
}


@functools.cache
def layer(case, layout):
    """The case's layer, with shapes in place of weights; `run` fills them in."""
    shape, features, window, rest = CASES[case]
    return nnx.eval_shape(lambda: Convolution("conv", shape, features, window, key=KEY, layout=layout, **rest))


def by_loops(conv, x, kernel, bias):
    """The same convolution, fed channel by channel as the definition of groups and tables says."""
    if conv.connections is not None:
        reads = conv.connections
        kernels = np.split(kernel, np.cumsum([len(read) for read in reads])[:-1], axis=2)
    else:
        inputs, features = conv.input_shape[2] // conv.groups, len(bias)
        group = [feature // (features // conv.groups) for feature in range(features)]
        reads = [range(inputs * g, inputs * (g + 1)) for g in group]
        kernels = np.moveaxis(kernel, 3, 0)
    placed = conv.geometry
    if conv.fill == "partial":  # the sum over the pixels there are, times window / pixels
        counts = reference.patches(np.ones_like(x), placed.window, placed.stride, placed.pads)
        scale = np.prod(placed.window) / reference.assemble((i, j, patch.sum((1, 2))[:, :1]) for i, j, patch in counts)
        return scale * reference.convolution(x, kernels, 0 * bias, reads, placed.stride, placed.pads) + bias
    if conv.fill == "mean":
        return reference.convolution(mean_padded(x, placed.window, placed.pads), kernels, bias, reads, placed.stride)
    return reference.convolution(x, kernels, bias, reads, placed.stride, placed.pads, mode=FILLS[conv.fill])


def mean_padded(x, window, pads):
    """Maps with the means of border patches around them, pixel by pixel."""
    for axis in (1, 2):
        x = np.moveaxis(np.asarray(x, np.float64), axis, 1)  # pads rows; the last call turns the map back
        (deep, wide), (low, high) = (window[axis - 1], window[2 - axis]), pads[axis - 1]

        def beyond(rows):
            patches = [rows[:, :, left : left + wide] for left in range(0, rows.shape[2], wide)]
            centres = [left + (patch.shape[2] - 1) / 2 for left, patch in zip(range(0, 99, wide), patches)]
            means = [patch.mean((1, 2)) for patch in patches]
            line = []
            for place in range(rows.shape[2]):
                after = next((k for k, centre in enumerate(centres) if centre >= place), len(centres) - 1)
                before = max(after - 1, 0) if place <= centres[-1] else after
                gap = centres[after] - centres[before]
                share = (place - centres[before]) / gap if gap and place > centres[0] else float(gap == 0)
                share = 0.0 if place <= centres[0] else share
                line.append((1 - share) * means[before] + share * means[after])
            return np.stack(line, 1)[:, None]

        x = np.concatenate([np.repeat(beyond(x[:, :deep]), low, 1), x, np.repeat(beyond(x[:, -deep:]), high, 1)], 1)
        x = np.moveaxis(x, 1, axis)
    return x


def run(conv, x, kernel, bias):
    """The layer's own computation on NHWC images, with these weights."""
    conv = nnx.clone(conv)
    conv.kernel, conv.bias = nnx.Param(kernel), nnx.Param(bias)
    return to_images(conv(from_images(x, conv.geometry.layout)), conv.geometry.layout)


@functools.cache
def drawn(case):
    conv, draw = layer(case, "NHWC"), np.random.default_rng(0).standard_normal
    shapes = [(2, *conv.input_shape), conv.kernel.shape, conv.bias.shape, (2, *conv.output_shape)]
    return [draw(shape).astype(np.float32) for shape in shapes]


@functools.cache
def values_and_gradients(case, layout):
    """Maps, and the gradients of x, kernel and bias, for drawn maps, weights and cotangent."""

    @jax.jit
    def both(x, kernel, bias, cotangent):
        y, pull = jax.vjp(functools.partial(run, layer(case, layout)), x, kernel, bias)
        return y, pull(cotangent)

    return both(*drawn(case))


@pytest.mark.parametrize("case", CASES)
def test_values_are_those_of_loops_in_both_layouts(case):
    expected = by_loops(layer(case, "NHWC"), *drawn(case)[:3])
    assert expected.shape[1:] == layer(case, "NHWC").output_shape == layer(case, "CHWN").output_shape
    for layout in ("NHWC", "CHWN"):
        np.testing.assert_allclose(values_and_gradients(case, layout)[0], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_loops_in_both_layouts(case):
    """The loops are linear in x, in the kernel and in the bias: <gradient, d> = <cotangent, loops(d)> for every d."""
    conv, (x, kernel, bias, cotangent) = layer(case, "NHWC"), drawn(case)
    no_bias = np.zeros_like(bias)
    draw = np.random.default_rng(1).standard_normal
    changes = {
        "x": lambda d: by_loops(conv, d, kernel, no_bias),
        "kernel": lambda d: by_loops(conv, x, d, no_bias),
        "bias": lambda d: by_loops(conv, x, np.zeros_like(kernel), d),
    }
    nhwc, chwn = (values_and_gradients(case, layout)[1] for layout in ("NHWC", "CHWN"))
    for (name, change), ours, other in zip(changes.items(), nhwc, chwn, strict=True):
        np.testing.assert_allclose(ours, other, rtol=1e-4, atol=1e-4, err_msg=name)
        for _ in range(3):
            d = draw(ours.shape)
            expected = np.vdot(cotangent, change(d))
            np.testing.assert_allclose(np.vdot(ours, d), expected, rtol=1e-4, atol=1e-3, err_msg=name)


@pytest.mark.parametrize("case", CASES)
def test_the_form_for_gpus_is_the_same_convolution(case, as_on_a_gpu):
    values, gradients = values_and_gradients.__wrapped__(case, "NHWC")
    np.testing.assert_allclose(values, by_loops(layer(case, "NHWC"), *drawn(case)[:3]), rtol=1e-5, atol=1e-5)
    for ours, expected in zip(gradients, values_and_gradients(case, "CHWN")[1], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-4)


def test_random_padding_places_each_image_by_its_own_draw():
    """In training every image lies somewhere in a field of zeros; without keys, and in evaluation, in the middle."""
    shape, count = (4, 5, 2), 400
    make = functools.partial(Convolution, "c", shape, 3, 3, key=KEY, fill="random")
    x = np.random.default_rng(0).standard_normal((count, *shape)).astype(np.float32)
    keys = jax.random.split(jax.random.key(1), count)
    values = {}
    for layout in ("NHWC", "CHWN"):
        conv = make(padding="2,1,1,0", layout=layout)
        apply = jax.jit(lambda x, keys, training, conv=conv: conv(x, keys, training), static_argnums=2)
        turned = from_images(x, layout)
        values[layout] = to_images(apply(turned, keys, True), layout)
        centred = to_images(apply(turned, None, True), layout)
        np.testing.assert_array_equal(to_images(apply(turned, keys, False), layout), centred)
    np.testing.assert_allclose(values["NHWC"], values["CHWN"], rtol=1e-5, atol=1e-5)
    kernels, bias = np.moveaxis(np.asarray(conv.kernel[...]), 3, 0), np.zeros(3)
    everywhere = {
        (top, left): reference.convolution(x, kernels, bias, [range(2)] * 3, pads=((top, 3 - top), (left, 1 - left)))
        for top in range(4)
        for left in range(2)
    }
    same = {place: np.isclose(values["NHWC"], there, atol=1e-4).all((1, 2, 3)) for place, there in everywhere.items()}
    found = np.array([np.count_nonzero(match) for match in same.values()])
    assert found.sum() == count  # each image lies in one place
    expected = np.repeat([1, 3, 3, 1], 2) / 16  # of three rows, each goes above with probability 1/2; and one column
    spread = np.sqrt(count * expected * (1 - expected))
    assert np.all(np.abs(found - count * expected) < 4 * spread)


@pytest.mark.parametrize("case", CASES)
def test_multiply_adds_are_counted(case):
    """Kernel entries that touch each output, added up output by output."""
    conv = layer(case, "NHWC")
    height, width = conv.geometry.window
    rows, columns, features = conv.output_shape
    inputs = [conv.input_shape[2] // conv.groups] * features
    if conv.connections is not None:
        inputs = [len(read) for read in conv.connections]
    assert conv.multiply_adds == sum(height * width * count for count in inputs for _ in range(rows * columns))


@pytest.mark.parametrize("init", ["glorot_uniform", "lecun_1998"])
@pytest.mark.parametrize("case", ["plain", "groups", "table"])
def test_parameters_do_not_depend_on_the_layout(case, init):
    shape, features, window, rest = CASES[case]
    make = functools.partial(Convolution, "c", shape, features, window, key=KEY, init=init, **rest)
    first, second = make(layout="NHWC"), make(layout="CHWN")
    np.testing.assert_array_equal(first.kernel[...], second.kernel[...])
    np.testing.assert_array_equal(first.bias[...], second.bias[...])


def test_kernel_shapes():
    assert layer("plain", "CHWN").kernel.shape == (3, 3, 3, 4)
    assert layer("groups", "CHWN").kernel.shape == (3, 3, 2, 6)
    assert layer("table", "CHWN").kernel.shape == (3, 3, 8)


@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
def test_a_feature_sees_the_channels_of_its_row_and_no_other(layout):
    conv, (x, kernel, bias, _) = layer("table", layout), drawn("table")
    forward = jax.jit(functools.partial(run, conv))
    before = forward(x, kernel, bias)
    for channel in range(4):
        changed = x.copy()
        changed[..., channel] += 1
        moved = np.any(forward(changed, kernel, bias) != before, axis=(0, 1, 2))
        assert moved.tolist() == [channel in read for read in TABLE]


def test_a_full_table_is_the_dense_convolution():
    shape, features, window = (5, 5, 3), 2, 3
    dense = Convolution("c", shape, features, window, key=KEY)
    table = Convolution("c", shape, features, window, key=KEY, connections=((0, 1, 2),) * features)
    x = np.random.default_rng(0).standard_normal((1, *shape)).astype(np.float32)
    kernel = np.moveaxis(dense.kernel[...], 3, 2).reshape(3, 3, -1)
    np.testing.assert_allclose(run(table, x, kernel, dense.bias[...]), dense(x), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(
    "arguments, words",
    [
        ({"groups": 2}, ["conv7", "groups = 2", "5 input channels", "4 features"]),
        ({"groups": 5}, ["conv7", "groups = 5", "5 input channels", "4 features"]),
        ({"connections": TABLE[:3]}, ["conv7", "3 rows", "4 features"]),
        ({"connections": ((0,), (1, 1), (2,), (3,))}, ["conv7", "feature 1", "(1, 1)", "distinct channels below 5"]),
        ({"connections": ((0,), (1,), (5,), (3,))}, ["conv7", "feature 2", "(5,)", "distinct channels below 5"]),
        ({"connections": ((0,), (1,), (2,), ())}, ["conv7", "feature 3", "()"]),
        ({"padding": "most"}, ["conv7", "'most'"]),
        ({"stride": 0}, ["conv7", "stride 0x0"]),
    ],
)
def test_wrong_arguments_are_named(arguments, words):
    with pytest.raises(UsageError) as error:
        Convolution("conv7", (6, 6, 5), 4, 3, key=KEY, **arguments)
    assert [word for word in words if word not in str(error.value)] == []


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(UsageError, match="conv7: input 4x6x5, window 5x5, stride 1x1, .*does not fit"):
        Convolution("conv7", (4, 6, 5), 4, 5, key=KEY)


def test_groups_and_a_table_exclude_each_other():
    with pytest.raises(UsageError, match="conv7: a connection table and groups = 2"):
        Convolution("conv7", (6, 6, 4), 4, 3, key=KEY, groups=2, connections=TABLE)


def assert_uniform(values, bound):
    """Within [-bound, bound], reaching nearly to both ends, with the mean and variance of a uniform."""
    values = np.asarray(values) / bound
    assert 0.97 < values.max() <= 1 and -1 <= values.min() < -0.97
    assert abs(values.mean()) < 0.05 and abs(values.var() - 1 / 3) < 0.05


def test_glorot_uniform_has_its_bound_and_no_bias():
    conv = Convolution("c", (9, 9, 20), 30, 5, key=KEY, init="glorot_uniform")
    assert_uniform(conv.kernel[...], np.sqrt(6 / (25 * 20 + 25 * 30)))
    assert not conv.bias[...].any()


def test_glorot_uniform_with_a_table_has_the_bound_of_each_unit():
    counts = (1, 20)
    conv = Convolution("c", (9, 9, 20), 2, 9, key=KEY, connections=((0,), tuple(range(20))), init="glorot_uniform")
    for kernel, count in zip(np.split(conv.kernel[...], [1], axis=2), counts):
        assert 0.95 < np.abs(kernel).max() / np.sqrt(6 / (81 * count + 81 * 2)) <= 1


def test_lecun_1998_divides_by_the_inputs_of_the_unit():
    conv = Convolution("c", (9, 9, 20), 30, 5, key=KEY, init="lecun_1998")
    assert_uniform(conv.kernel[...], 2.4 / (25 * 20))
    dense = Dense("d", 50, 400, key=KEY, init="lecun_1998")
    assert_uniform(dense.kernel[...], 2.4 / 50)
    assert_uniform(dense.bias[...], 2.4 / 50)


def test_lecun_1998_with_a_table_divides_by_the_inputs_of_each_unit():
    """Half of 600 units read one channel, half read four; weights and biases of both reach their own bound."""
    connections = ((0,), (0, 1, 2, 3)) * 300
    conv = Convolution("c", (5, 5, 4), 600, 5, key=KEY, connections=connections, init="lecun_1998")
    reads = np.repeat([1, 4] * 300, [1, 4] * 300)
    for first, count in enumerate((1, 4)):
        assert_uniform(conv.kernel[...][:, :, reads == count], 2.4 / (25 * count))
        assert_uniform(conv.bias[...][first::2], 2.4 / (25 * count))


def test_initial_weights_depend_on_the_name_and_the_key_alone():
    make = lambda name, key: np.asarray(Convolution(name, (5, 5, 2), 3, 3, key=key).kernel[...])
    np.testing.assert_array_equal(make("a", KEY), make("a", KEY))
    assert not np.any(make("a", KEY) == make("b", KEY))
    assert not np.any(make("a", KEY) == make("a", jax.random.key(4)))


@pytest.mark.parametrize("layout", ["NHWC", "CHWN"])
def test_bfloat16(layout):
    x, kernel, _, _ = drawn("same")
    placed = layer("same", layout).geometry
    exact = convolve(from_images(x, layout), kernel, placed)
    rough = jax.jit(lambda x, kernel: convolve(x, kernel, placed))(
        from_images(jnp.bfloat16(x), layout), jnp.bfloat16(kernel)
    )
    assert rough.dtype == jnp.bfloat16
    np.testing.assert_allclose(rough.astype(jnp.float32), exact, rtol=0, atol=0.15)


def test_pytorch_agrees():
    torch = pytest.importorskip("torch")
    for case in ("stride", "full", "groups", "depthwise"):
        conv, (x, kernel, bias, cotangent) = layer(case, "CHWN"), drawn(case)
        tensors = [torch.tensor(value, requires_grad=True) for value in (x, kernel, bias)]
        y = torch.nn.functional.conv2d(
            tensors[0].permute(0, 3, 1, 2),
            tensors[1].permute(3, 2, 0, 1),
            tensors[2],
            conv.geometry.stride,
            [pads[0] for pads in conv.geometry.pads],
            groups=conv.groups,
        ).permute(0, 2, 3, 1)
        y.backward(torch.tensor(cotangent))
        ours, gradients = values_and_gradients(case, "CHWN")
        np.testing.assert_allclose(ours, y.detach().numpy(), rtol=1e-5, atol=1e-5)
        for gradient, tensor in zip(gradients, tensors):
            np.testing.assert_allclose(gradient, tensor.grad.numpy(), rtol=1e-4, atol=1e-4)
