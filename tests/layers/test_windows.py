"""Sizes, padding and slices against counting, NumPy and TensorFlow's published rule."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from cnn_jax.errors import UsageError
from cnn_jax.layers import windows
from cnn_jax.layers.windows import geometry, output_size, parse_padding, same_pads

pytestmark = pytest.mark.usefixtures("quick_compile")
LAYOUTS = ("NHWC", "CHWN")
# height, width, channels; window; stride; padding
PLACES = [
    ((5, 7, 2), (3, 2), (1, 1), "valid"),
    ((6, 9, 1), (3, 3), (2, 2), "same"),
    ((7, 5, 3), (2, 3), (3, 1), ((1, 0), (2, 1))),
    ((4, 4, 2), (2, 2), (2, 2), "valid"),
    ((8, 9, 1), (2, 1), (3, 4), "valid"),  # pixels between the windows, pixels after the last
    ((3, 4, 2), (3, 4), (1, 1), "full"),
    ((9, 8, 1), (4, 3), (3, 2), "2,0"),
]


def count_windows(size, window, stride, pads):
    """Places, tried one by one."""
    line = [None] * pads[0] + list(range(size)) + [None] * pads[1]
    return sum(len(line[start : start + window]) == window for start in range(0, len(line), stride))


def test_output_size_counts_windows():
    for size, window, stride in itertools.product(range(1, 13), range(1, 7), range(1, 5)):
        for pads in ((0, 0), (1, 1), (0, 2), (3, 1)):
            assert output_size(size, window, stride, pads) == count_windows(size, window, stride, pads)


def test_same_padding_is_tensorflows():
    for size, window, stride in itertools.product(range(1, 15), range(1, 8), range(1, 6)):
        # tf.nn, "Notes on padding"
        total = max(window - stride, 0) if size % stride == 0 else max(window - size % stride, 0)
        pads = same_pads(size, window, stride)
        assert pads == (total // 2, total - total // 2)
        assert output_size(size, window, stride, pads) == -(-size // stride)


@pytest.mark.parametrize(
    "mode, pads",
    [
        ("valid", ((0, 0), (0, 0))),
        ("same", ((1, 1), (0, 1))),
        ("full", ((2, 2), (1, 1))),
        ("2", ((2, 2), (2, 2))),
        ("2,1", ((2, 2), (1, 1))),
        ("0,3,1,2", ((0, 3), (1, 2))),
        (" 0, 3, 1, 2 ", ((0, 3), (1, 2))),
    ],
)
def test_parse_padding(mode, pads):
    assert parse_padding(mode, size=(5, 6), window=(3, 2), stride=(1, 1)) == pads


@pytest.mark.parametrize("mode", ["", "Same", "-1", "1,2,3", "1,,2,3", "1.5", "1 2"])
def test_parse_padding_refuses(mode):
    with pytest.raises(ValueError, match="'top,bottom,left,right'") as error:
        parse_padding(mode, (5, 5), (3, 3), (1, 1))
    assert repr(mode) in str(error.value)


@pytest.mark.parametrize(
    "arguments, parts",
    [
        ({"window": 6}, ["input 5x7x1", "window 6x6", "stride 1x1", "padding 0:", "does not fit", "0x2"]),
        ({"window": (2, 9), "stride": (1, 2), "padding": "0,0,0,1"}, ["window 2x9", "stride 1x2", "padding 0,0,0,1"]),
        ({"window": 0}, ["window 0x0", "stride 1x1", "at least 1"]),
        ({"window": 2, "stride": (1, 0)}, ["window 2x2", "stride 1x0", "at least 1"]),
        ({"window": 2, "fill": "mirror"}, ["'mirror'", "zero, reflect, replicate, circular, symmetric"]),
        ({"window": 2, "padding": "some"}, ["'some'", "'valid', 'same', 'full'"]),
        ({"window": 2, "padding": -1}, ["'-1'", "'valid', 'same', 'full'"]),
        (
            {"window": 2, "padding": 5, "fill": "reflect"},
            ["input 5x7x1", "window 2x2", "stride 1x1", "padding 5:", "'reflect'", "most 4 pixels", "side of 5"],
        ),
        ({"window": 2, "padding": "0,6"}, None),
        ({"window": 2, "padding": "0,7", "fill": "reflect"}, ["'reflect'", "at most 6 pixels", "side of 7"]),
        ({"window": 2, "padding": "6,0", "fill": "circular"}, ["'circular'", "at most 5 pixels", "side of 5"]),
        ({"window": 2, "padding": "6,0", "fill": "symmetric"}, ["'symmetric'", "at most 5 pixels", "side of 5"]),
        ({"window": 2, "padding": 9, "fill": "replicate"}, None),
        ({"window": 2, "padding": "4,6", "fill": "reflect"}, None),
        ({"window": 2, "padding": "5,7", "fill": "circular"}, None),
    ],
)
def test_geometry_refuses_and_says_why(arguments, parts):
    """`parts` of the message; None: accepted."""
    if parts is None:
        geometry("conv9", (5, 7, 1), **arguments)
        return
    with pytest.raises(UsageError) as error:
        geometry("conv9", (5, 7, 1), **arguments)
    assert str(error.value).startswith("conv9: ")
    assert [part for part in parts if part not in str(error.value)] == []


def test_one_number_stands_for_both_axes():
    assert geometry("g", (9, 9, 1), 3, 2, 1) == geometry("g", (9, 9, 1), (3, 3), (2, 2), ((1, 1), (1, 1)))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(window=3), "3x3"),
        (dict(window=(3, 2), stride=2), "3x2, stride 2"),
        (dict(window=3, stride=(1, 2), padding=1), "3x3, stride 1x2, padding 1"),
        (dict(window=2, padding="0,1,0,1"), "2x2, padding 0,1,0,1"),
        (dict(window=(2, 3), padding="full"), "2x3, padding 1,2"),
        (dict(window=2, padding="0,1"), "2x2, padding 0,1"),
    ],
)
def test_describe(arguments, words):
    assert geometry("g", (9, 9, 1), **arguments).describe() == words


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "fill, mode",
    [
        ("zero", "constant"),
        ("reflect", "reflect"),
        ("replicate", "edge"),
        ("circular", "wrap"),
        ("symmetric", "symmetric"),
    ],
)
def test_fills_are_numpys(fill, mode, layout):
    images = np.arange(2 * 5 * 7 * 3.0).reshape(2, 5, 7, 3)
    made = geometry("g", (5, 7, 3), 2, 1, ((1, 4), (3, 0)), layout, fill)
    expected = np.pad(images, ((0, 0), (1, 4), (3, 0), (0, 0)), mode=mode)
    padded = made.pad(jnp.asarray(reference.in_layout(images, layout)), fill)
    np.testing.assert_array_equal(padded, reference.in_layout(expected, layout))


def test_zero_fill_takes_another_value():
    made = geometry("g", (1, 2, 1), 1, 1, ((0, 1), (1, 0)))
    padded = made.pad(jnp.ones((1, 1, 2, 1)), value=-jnp.inf)
    np.testing.assert_array_equal(padded[0, :, :, 0], [[-np.inf, 1, 1], [-np.inf, -np.inf, -np.inf]])


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", PLACES)
def test_windows_are_the_patches_of_loops(place, layout):
    made = geometry("g", *place, layout)
    images = np.random.default_rng(0).standard_normal((2, *made.input_shape)).astype(np.float32)
    patches = list(reference.patches(images, made.window, made.stride, made.pads))
    expected = [
        reference.assemble((row, column, patch[:, i, j]) for row, column, patch in patches)
        for i, j in itertools.product(*map(range, made.window))
    ]

    @jax.jit
    def both(maps):
        padded = made.pad(maps)
        down, across = made.spans
        return made.windows(padded), [patch for row in down.windows(padded) for patch in across.windows(row)]

    for patch, same, patch_by_loops in zip(*both(reference.in_layout(images, layout)), expected, strict=True):
        np.testing.assert_array_equal(patch, reference.in_layout(patch_by_loops, layout))
        np.testing.assert_array_equal(same, patch)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("place", PLACES)
def test_scatter_is_the_transpose_of_windows(place, layout):
    """<windows(x), y> = <x, scatter(y)>, exactly in whole numbers; and it is what differentiation uses or derives."""
    made = geometry("g", *place, layout)
    draw = np.random.default_rng(1)
    for span in made.spans:
        sides = [2, made.input_shape[2]]
        shape = [span.size if axis == span.axis else sides.pop() for axis in range(3)]
        x = draw.integers(-4, 5, shape).astype(np.float32)
        slices = jax.jit(span.cut)(x)
        y = tuple(draw.integers(-4, 5, piece.shape).astype(np.float32) for piece in slices)
        gradient = lambda cut: jax.vjp(cut, x)[1](y)[0]
        back, used, derived = jax.jit(lambda: (span.scatter(y), gradient(span.windows), gradient(span.cut)))()
        assert sum(np.vdot(*pair) for pair in zip(slices, y)) == np.vdot(x, back)
        np.testing.assert_array_equal(used, back)
        np.testing.assert_array_equal(derived, back)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_convert_there_and_back(layout):
    images = np.arange(2 * 3 * 4 * 5.0).reshape(2, 3, 4, 5)
    maps = windows.from_images(jnp.asarray(images), layout)
    np.testing.assert_array_equal(maps, reference.in_layout(images, layout))
    np.testing.assert_array_equal(windows.to_images(maps, layout), images)
    np.testing.assert_array_equal(windows.flatten(maps, layout), images.reshape(2, -1))
    channels = maps + windows.per_channel(jnp.arange(5.0), layout)
    np.testing.assert_array_equal(windows.to_images(channels, layout), images + np.arange(5.0))
