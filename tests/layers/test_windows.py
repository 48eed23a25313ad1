"""Padding and slices against loops and NumPy."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference

from cnn_jax.layers import windows
from cnn_jax.layers.windows import geometry

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


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("fill, mode", reference.FILLS.items())
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
