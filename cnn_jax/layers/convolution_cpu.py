"""Convolution of NHWC maps as matrix products over a few images at a time: how a CPU computes it fastest.

XLA's own convolution on CPU is slow with groups and a stride, and its gradients are slower by an order of magnitude
inside a loop, where training steps run (jax issue 12868). Here a loop takes as many images as keep all that is made of
them in the cache, and each part is a list of matrix products, one beside the other:

  forward   collect(left_i(x) @ right_i(kernel))     left, right and collect are linear
  kernel    the transpose of right, of left_i(x)^T @ transposed collect(dy)_i
  input     the convolution of dy with the kernel turned around

Kernels of 3 and 5 pixels a side are computed in the minimal filtering form of Winograd (1980), as Lavin and Gray (2015,
arXiv 1509.09308) use it: tiles of 2x2 results, 16 products in place of 36, and 49 in place of 100. All others have one
product, of the windows laid out in rows. A stride is turned into channels first.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from cnn_jax.config.sizes import Pads, output_size

# Rows of a matrix product. Measured on 2 cores with 1 MiB of second-level cache each: 200 to 800 are within a tenth.
ROWS = 400
MIN_DEPTH = 16  # channels, below which products of tiles are too thin to gain
THICK = 128  # channels, from which


# F(2, 3) of Lavin and Gray: two neighbouring results of a filter g of three taps over four data d are
# RESULT @ ((KERNEL @ g) * (DATA @ d)), four products in place of six.
DATA = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
KERNEL = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
RESULT = ((1, 1, 1, 0), (0, 1, -1, -1))


def convolve_tiled(x, kernel, stride: tuple[int, int], pads: Pads, groups: int = 1):
    """Returns the convolution, equal to lax.conv_general_dilated to float32 rounding; reverse-mode gradients only.

    Args:
      x: [N, height, width, channels].
      kernel: [height, width, channels / groups, features].
      stride: vertical and horizontal.
      pads: (top, bottom), (left, right) zeros around x.
      groups: channels and features are cut into this many groups that do not see each other.
    """
    if groups > 1:
        return each_group(functools.partial(convolve_tiled, stride=stride, pads=pads), x, kernel, groups)
    if stride != (1, 1):
        x, kernel = stride_to_channels(x, kernel, stride, pads)
        pads = (0, 0), (0, 0)
    return _convolve(x, kernel, pads)


def each_group(convolve, x, kernel, groups):
    """Returns `convolve(x, kernel)` of each group of channels and features, one beside the other."""
    pairs = zip(jnp.split(x, groups, axis=3), jnp.split(kernel, groups, axis=3))
    return jnp.concatenate([convolve(*pair) for pair in pairs], axis=3)


def stride_to_channels(x, kernel, stride, pads):
    """Returns x and a kernel whose convolution with stride 1 is theirs: stride x stride pixels become channels."""
    blocks = [-(-window // step) for window, step in zip(kernel.shape, stride)]
    count, *size, channels = x.shape
    places = map(output_size, size, kernel.shape, stride, pads)
    sides = [(place - 1 + block) * step for place, block, step in zip(places, blocks, stride)]
    high = [side - low - length for side, length, (low, _) in zip(sides, size, pads)]  # negative where none is read
    x = _pad(x, [(low, end) for (low, _), end in zip(pads, high)])
    down, across = stride
    x = x.reshape(count, sides[0] // down, down, sides[1] // across, across, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5).reshape(count, sides[0] // down, sides[1] // across, -1)
    rest = [(0, block * step - window, 0) for block, step, window in zip(blocks, stride, kernel.shape)]
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), [*rest, (0, 0, 0), (0, 0, 0)])
    kernel = kernel.reshape(blocks[0], down, blocks[1], across, *kernel.shape[2:])
    return x, kernel.transpose(0, 2, 1, 3, 4, 5).reshape(*blocks, -1, kernel.shape[-1])


@functools.partial(jax.custom_vjp, nondiff_argnums=(2,))
def _convolve(x, kernel, pads):
    form = _form(x.shape, kernel.shape, pads)
    right = form.right(_wide(kernel))
    parts = _parts(x, form)

    def write(i, y):
        products = [_sum(map(jnp.matmul, *pair)) for pair in zip(form.left(_part(parts, i)), right)]
        return lax.dynamic_update_index_in_dim(y, form.collect(products).astype(y.dtype), i, 1)

    y = jnp.zeros((*parts.shape[:2], *form.size, kernel.shape[-1]), x.dtype)
    return lax.fori_loop(0, parts.shape[1], write, y).reshape(-1, *y.shape[2:])


def _forward(x, kernel, pads):
    return _convolve(x, kernel, pads), (x, kernel)


def _backward(pads, saved, gradient):
    x, kernel = saved
    around = tuple((side - 1 - low, side - 1 - high) for side, (low, high) in zip(kernel.shape, pads))
    of_input = _convolve(gradient, _turned(kernel), around)
    return of_input, _kernel_gradient(x, kernel, gradient, pads)


_convolve.defvjp(_forward, _backward)


def _kernel_gradient(x, kernel, gradient, pads):
    form = _form(x.shape, kernel.shape, pads)
    right, pull = jax.vjp(form.right, _wide(kernel))
    parts, gradients = _parts(x, form), _parts(gradient, form)
    rows = form.rows * parts.shape[0]
    products = [jax.ShapeDtypeStruct((rows, kernel.shape[-1]), factors[0].dtype) for factors in right]
    spread = jax.linear_transpose(form.collect, products)

    def add(i, totals):
        left, (products,) = form.left(_part(parts, i)), spread(_part(gradients, i))
        new = [[matrix.T @ product for matrix in matrices] for matrices, product in zip(left, products)]
        return jax.tree.map(jnp.add, totals, new)

    totals = lax.fori_loop(0, parts.shape[1], add, jax.tree.map(jnp.zeros_like, right))
    return pull(totals)[0].astype(kernel.dtype)


def _form(x_shape, kernel_shape, pads):
    """Chooses how to compute this convolution as matrix products: from whole windows or from tiles."""
    window, depth = kernel_shape[:2], kernel_shape[2]
    size = tuple(map(output_size, x_shape[1:3], window, (1, 1), pads))
    if depth < MIN_DEPTH or {1, 2, 4} & set(window):  # no piece of three taps in those
        return _Windows(size, pads, window)
    return _Tiles(size, pads, window, depth)


class _Windows(NamedTuple):
    """One product: each row is a whole window."""

    size: tuple[int, int]  # height and width of the output
    pads: Pads
    window: tuple[int, int]

    @property
    def rows(self):
        """Number of matrix rows of one image."""
        return self.size[0] * self.size[1]

    def left(self, x):
        x = _pad(x, self.pads)
        places = itertools.product(*map(range, self.window))
        slices = [x[:, i : i + self.size[0], j : j + self.size[1]] for i, j in places]
        windows = jnp.concatenate(slices, axis=-1)
        return [[windows.reshape(-1, windows.shape[-1])]]

    def right(self, kernel):
        return [[kernel.reshape(-1, kernel.shape[-1])]]

    def collect(self, products):
        return products[0].reshape(-1, *self.size, products[0].shape[-1])


class _Tiles(NamedTuple):
    """4x4 products: each row is a tile of 2x2 results.

    A longer filter is cut into pieces of three and two taps. Their products of the same kind are added, so they are
    one: the data of the pieces lie side by side in its rows.
    """

    size: tuple[int, int]
    pads: Pads
    window: tuple[int, int]
    depth: int

    @property
    def tiles(self):
        return tuple(-(-side // 2) for side in self.size)

    @property
    def rows(self):
        """Number of matrix rows of one image."""
        return self.tiles[0] * self.tiles[1]

    def left(self, x):
        """Returns the four by four matrices [tiles, pieces * channels] of the maps."""
        reach = [2 * tiles + side - 1 for tiles, side in zip(self.tiles, self.window)]
        x = _pad(x, [(low, to - side - low) for (low, _), to, side in zip(self.pads, reach, x.shape[1:3])])

        def pixels(i, j):  # (i, j) of every tile
            stop = (x.shape[0], i + 2 * self.tiles[0] - 1, j + 2 * self.tiles[1] - 1, x.shape[3])
            return lax.slice(x, (0, i, j, 0), stop, (1, 2, 2, 1)).reshape(-1, x.shape[3])

        grid = [[pixels(i, j) for j in range(self.window[1] + 1)] for i in range(self.window[0] + 1)]
        return self._by_kind(grid, DATA, axis=1)

    def right(self, kernel):
        """Returns the four by four matrices [pieces * channels, features] of the kernel."""
        return self._by_kind([list(row) for row in kernel], KERNEL, axis=0)

    def collect(self, products):
        """Returns the maps that the products make."""
        grid = _transform((RESULT, RESULT), [products[i : i + 4] for i in range(0, 16, 4)])
        grid = [[y.reshape(-1, *self.tiles, y.shape[-1]) for y in row] for row in grid]
        y = jnp.stack([jnp.stack(row, axis=3) for row in grid], axis=2)  # [N, tile, row, tile, column, features]
        y = y.reshape(len(y), 2 * self.tiles[0], 2 * self.tiles[1], -1)
        return y[:, : self.size[0], : self.size[1]]

    def _by_kind(self, grid, matrix, axis):
        matrices = [_pieces(matrix, side) for side in self.window]
        grid = _transform([[row for kind in matrix for row in kind] for matrix in matrices], grid)
        kinds = [_runs(map(len, matrix)) for matrix in matrices]
        terms = [[grid[i][j] for i in down for j in across] for down, across in itertools.product(*kinds)]
        return [[jnp.concatenate(each, axis)] for each in terms] if self.depth < THICK else terms


def _pieces(matrix, taps):
    """Returns, by the four kinds of product, the rows of DATA or KERNEL for all pieces of a filter, side by side."""
    twos = -taps % 3
    starts = [*range(0, taps - 2 * twos, 3), *range(taps - 2 * twos, taps, 2)]
    length = taps + len(matrix[0]) - 3
    place = lambda row, start: ((0,) * start + row + (0,) * taps)[:length]
    whole = lambda start: start < taps - 2 * twos
    # A piece of two taps is one of three whose last tap is 0: it has no product of the last kind.
    return [[place(row, start) for start in starts if kind < 3 or whole(start)] for kind, row in enumerate(matrix)]


def _runs(lengths):
    """range(0, a), range(a, a + b), ... for lengths a, b, ..."""
    ends = list(itertools.accumulate(lengths, initial=0))
    return [range(*pair) for pair in itertools.pairwise(ends)]


def _transform(matrices, grid):
    """matrices[0] @ grid @ matrices[1]^T, for a grid of arrays."""
    down, across = matrices
    rows = [_combine(across, row) for row in grid]
    columns = [_combine(down, column) for column in zip(*rows)]
    return [list(row) for row in zip(*columns)]


def _combine(matrix, arrays):
    """The matrix times a vector of arrays. Entries are few and mostly 0, 1 and -1: written out as sums."""
    terms = ([_scaled(entry, array) for entry, array in zip(row, arrays) if entry] for row in matrix)
    return list(map(_sum, terms))


def _sum(arrays):
    return functools.reduce(jnp.add, arrays)


def _scaled(entry, array):
    return array if entry == 1 else -array if entry == -1 else entry * array


def _parts(x, form):
    """[N, ...] as [images of a part, parts, ...]: part i is images i, i + parts, ...

    So a batch spread over devices stays where it is: each device has its share of every part.
    """
    most = max(ROWS // form.rows, 1)
    images = next(count for count in range(min(most, len(x)), 0, -1) if len(x) % count == 0)
    return x.reshape(images, -1, *x.shape[1:])


def _part(parts, i):
    return _wide(lax.dynamic_index_in_dim(parts, i, 1, keepdims=False))


def _wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _pad(x, pads):
    """Zeros around NHWC maps; a negative number cuts off."""
    return lax.pad(x, jnp.zeros((), x.dtype), [(0, 0, 0), *((low, high, 0) for low, high in pads), (0, 0, 0)])


def _turned(kernel):
    """The kernel of the gradient's convolution: turned by 180 degrees, its channels and features exchanged."""
    return kernel[::-1, ::-1].swapaxes(2, 3)
