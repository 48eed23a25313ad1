"""Every kind of pooling beyond max, average, min and subsampling against NumPy; what the literature says of them."""

import functools
import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
from flax import nnx

from cnn_jax import config
from cnn_jax.layers.pooling import POOLS, make_pool
from cnn_jax.layers.windows import from_images, to_images

pytestmark = pytest.mark.usefixtures("quick_compile")
LAYOUTS = ("NHWC", "CHWN")
SIZE, BATCH, CHANNELS = (7, 8), 2, 3
PADDED = {"window": 3, "stride": 2, "padding": "1"}
PLAIN = {"window": 2, "stride": 2}
# kind; settings; whether the activations are at least 0
CASES = {
    "lp": ("lp", {"p": 2.5, **PADDED}, True),
    "lp global": ("lp", {"window": 0, "learned": True}, True),
    "log_sum_exp": ("log_sum_exp", {"beta": 2.0, **PADDED}, False),
    "log_sum_exp learned": ("log_sum_exp", {"learned": True, **PADDED}, False),
    "soft": ("soft", {"beta": 1.5, **PADDED}, False),
    "lip": ("lip", PADDED, False),
    "stochastic": ("stochastic", PADDED, True),
    "max_average": ("max_average", PADDED, False),
    "max_average counted": ("max_average", {"count_padding": True, **PADDED}, False),
    "mixed": ("mixed", {"share": 0.3, **PLAIN}, False),
    "mixed learned": ("mixed", {"learned": True, **PADDED}, False),
    "gated": ("gated", PADDED, False),
    "tree": ("tree", {"depth": 3, **PLAIN, "padding": "0,1,1,0"}, False),
    "fractional": ("fractional", {"ratio": 1.5, **PLAIN}, False),
    "s3": ("s3", {**PLAIN, "padding": "1,0,1,0"}, False),
    "conv": ("conv", PADDED, False),
    "conv_max": ("conv_max", PLAIN, False),
    "strided": ("strided", {"stride": 2}, False),
    "max_blur": ("max_blur", {**PADDED, "padding": "valid"}, False),
    "average_blur": ("average_blur", {"filter": 4, "fill": "circular", **PADDED}, False),
    "conv_blur": ("conv_blur", {"filter": 5, **PLAIN}, False),
    "aps": ("aps", {"fill": "circular", **PADDED}, False),
    "aps after": ("aps", {"fill": "circular", "choose": "after_blur", **PADDED}, False),
    "aps l1": ("aps", {"filter": 1, "norm": "l1", **PLAIN}, False),
    "aps linf": ("aps", {"filter": 2, "norm": "linf", "window": 1}, False),
    "lps": ("lps", {"fill": "circular", **PADDED}, False),
    "lps convex": ("lps", {"convex": True, "temperature": 0.1, "window": 1, "filter": 1}, False),
    "pyramid": ("pyramid", {"levels": 3}, False),
    "alpha": ("alpha", {"alpha": 0.3, **PADDED}, False),
    "avg_topk": ("avg_topk", {"k": 3, **PLAIN}, False),
    "avg_topk edge": ("avg_topk", {"k": 6, **PADDED}, False),
    "avg_topk all": ("avg_topk", {"k": 100, **PADDED}, False),
    "t_max_avg": ("t_max_avg", {"k": 2, "threshold": 0.3, **PADDED}, False),
    "atp": ("atp", {"k": 3, "threshold": 0.5, **PADDED}, False),
    "ordinal": ("ordinal", PADDED, False),
}


def make(case, layout, name="pool"):
    kind, settings, _ = CASES[case]
    settings = config.Pool.of(**{"last" if kind == "pyramid" else "kind": kind, **settings})
    return make_pool(name, (*SIZE, CHANNELS), settings, layout, last=kind == "pyramid", key=jax.random.key(5))


def maps(y, layout):
    return to_images(y, layout) if y.ndim == 4 else y


@functools.cache
def compiled(case):
    """(maps NHWC, parameters, cotangent) to the output in both layouts, and the gradients in one of them."""
    layers = {layout: nnx.split(make(case, layout)) for layout in LAYOUTS}

    def run(layout, x, params):
        return maps(nnx.merge(layers[layout][0], nnx.State(params))(from_images(x, layout)), layout)

    def both(x, params, cotangent):
        y, pull = jax.vjp(functools.partial(run, "CHWN"), x, params)
        return run("NHWC", x, params), y, pull(cotangent)

    return jax.jit(both)


@functools.cache
def drawn(case):
    """Maps, parameters and a cotangent: normal numbers, or their absolute values."""
    rng = np.random.default_rng(7)
    layer = make(case, "NHWC")
    x = rng.standard_normal((BATCH, *SIZE, CHANNELS))
    x = np.abs(x) if CASES[case][2] else x
    state = nnx.to_pure_dict(nnx.state(layer, nnx.Param))
    params = jax.tree.map(lambda leaf: np.float32(leaf + 0.3 * rng.standard_normal(leaf.shape)), state)
    return x.astype(np.float32), params, rng.standard_normal((BATCH, *layer.output_shape)).astype(np.float32)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def window(x, layer, **fill):
    """Windows of float64 maps, [N, rows, columns, C] of them with two more axes; NaN beyond the edge."""
    placed = layer.geometry
    x = np.pad(x, ((0, 0), *placed.pads, (0, 0)), **(fill or {"constant_values": np.nan}))
    view = np.lib.stride_tricks.sliding_window_view(x, placed.window, (1, 2))
    return view[:, :: placed.stride[0], :: placed.stride[1]]


def average(w, layer):
    return np.nansum(w, (4, 5)) / w[0, 0, 0, 0].size if layer.count_padding else np.nanmean(w, (4, 5))


def lp(x, params, layer):
    p = params.get("p", layer.p)
    return np.nanmean(np.maximum(window(x, layer), 1e-6) ** p, (4, 5)) ** (1 / p)


def log_sum_exp(x, params, layer):
    beta = params.get("beta", layer.beta)
    return np.log(np.nanmean(np.exp(beta * window(x, layer)), (4, 5))) / beta


def soft(x, params, layer):
    weights = np.exp(layer.beta * window(x, layer))
    return np.nansum(weights * window(x, layer), (4, 5)) / np.nansum(weights, (4, 5))


def lip(x, params, layer):
    kernels = np.moveaxis(params["kernel"], 3, 0)
    around = dict(pads=((1, 1), (1, 1)))
    logit = reference.convolution(x, kernels, np.zeros(CHANNELS), [range(CHANNELS)] * CHANNELS, **around)
    logit = (logit - logit.mean((1, 2), keepdims=True)) / np.sqrt(logit.var((1, 2), keepdims=True) + 1e-5)
    weights = np.exp(window(12 * sigmoid(logit * params["scale"] + params["bias"]), layer))
    return np.nansum(weights * window(x, layer), (4, 5)) / np.nansum(weights, (4, 5))


def stochastic(x, params, layer):
    return np.nansum(window(x, layer) ** 2, (4, 5)) / np.nansum(window(x, layer), (4, 5))


def max_average(x, params, layer):
    return np.nanmax(window(x, layer), (4, 5)) + average(window(x, layer), layer)


def mixed(x, params, layer):
    share = params.get("share", layer.share)
    return share * np.nanmax(window(x, layer), (4, 5)) + (1 - share) * average(window(x, layer), layer)


def alpha(x, params, layer):
    return 0.3 * np.nanmax(window(x, layer), (4, 5)) + 0.7 * average(window(x, layer), layer)


def ranks(x, layer):
    """The elements of each window in falling order, NaN last, and how many lie inside the map."""
    w = window(x, layer)
    w = w.reshape(*w.shape[:4], -1)
    return -np.sort(-w, axis=-1), np.isfinite(w).sum(-1)


def avg_topk(x, params, layer):
    return np.nanmean(ranks(x, layer)[0][..., : layer.k], -1)


def t_max_avg(x, params, layer):
    top = ranks(x, layer)[0][..., : layer.k]
    return np.where(np.nanmin(top, -1) >= layer.threshold, top[..., 0], np.nanmean(top, -1))


def atp(x, params, layer):
    mean = avg_topk(x, params, layer)
    return np.where(mean >= layer.threshold, ranks(x, layer)[0][..., 0], mean)


def ordinal(x, params, layer):
    """Of each channel its own softmax over the ranks; fewer of them at the edge."""
    w, weights = ranks(x, layer)[0], np.exp(params["ranks"]).T
    weights = np.where(np.isfinite(w), weights[None, None, None], 0)
    return np.nansum(w * weights, -1) / weights.sum(-1)


def gated(x, params, layer):
    w = window(x, layer)
    gate = sigmoid(np.nansum(w * params["gate"], (4, 5)))
    return gate * np.nanmax(w, (4, 5)) + (1 - gate) * np.nanmean(w, (4, 5))


def tree(x, params, layer):
    w, (a, b, c) = window(x, layer), params["gates"]
    first, second, third, fourth = (np.nansum(w * leaf, (4, 5)) for leaf in params["leaves"])
    root, left, right = (sigmoid(np.nansum(w * gate, (4, 5))) for gate in (a, b, c))
    return root * (left * first + (1 - left) * second) + (1 - root) * (right * third + (1 - right) * fourth)


def regions(x, rows, columns):
    """The largest value of x[rows[i] : rows[i + 1] + 1, ...]: regions that share an edge."""
    cut = lambda i, j: x[:, rows[i] : rows[i + 1] + 1, columns[j] : columns[j + 1] + 1].max((1, 2))
    return np.stack([np.stack([cut(i, j) for j in range(len(columns) - 1)], 1) for i in range(len(rows) - 1)], 1)


def fractional(x, params, layer):
    """6 and 7 places of a 2x2 window become ceil(6 / 1.5) = 4 and ceil(7 / 1.5) = 5, at floor(alpha (i + 1/2))."""

    def edges(places, count):
        alpha, u = Fraction(places, count), Fraction(places // 2, places)
        return [math.floor(alpha * (i + u)) - math.floor(alpha * u) for i in range(count + 1)]

    assert edges(7, 5) == [0, 2, 3, 4, 6, 7]
    return regions(x, edges(6, 4), edges(7, 5))


def s3(x, params, layer):
    """7x8 padded at the top and on the left has 7x8 places; averaged over 2x2, the last row alone."""
    dense = np.nanmax(window(x, layer), (4, 5))
    dense = np.pad(dense, ((0, 0), (0, 1), (0, 0), (0, 0)), constant_values=np.nan)
    return np.nanmean(np.lib.stride_tricks.sliding_window_view(dense, (2, 2), (1, 2))[:, ::2, ::2], (4, 5))


def convolution(x, params, stride, pads):
    kernels = np.moveaxis(params["convolution"]["kernel"], 3, 0)
    reads = [range(CHANNELS)] * CHANNELS
    return reference.convolution(x, kernels, params["convolution"]["bias"], reads, (stride, stride), pads)


def conv(x, params, layer):
    return convolution(x, params, 2, ((1, 1), (1, 1)))


def conv_max(x, params, layer):
    return np.nanmax(window(convolution(x, params, 1, ((0, 1), (0, 1))), layer), (4, 5))


def strided(x, params, layer):
    return x


BINOMIAL = {1: [1], 2: [1, 1], 3: [1, 2, 1], 4: [1, 3, 3, 1], 5: [1, 4, 6, 4, 1]}


def blurred(x, size, mode, stride):
    """Zhang's BlurPool: padded by (size - 1) / 2, rounded down before and up after, and a depthwise convolution."""
    pads = (int((size - 1) / 2), math.ceil((size - 1) / 2))
    x = np.pad(x, ((0, 0), pads, pads, (0, 0)), mode=mode)
    weights = np.outer(BINOMIAL[size], BINOMIAL[size]) / np.sum(BINOMIAL[size]) ** 2
    view = np.lib.stride_tricks.sliding_window_view(x, (size, size), (1, 2))[:, ::stride, ::stride]
    return np.sum(view * weights, (4, 5))


def max_blur(x, params, layer):
    return blurred(window(x, layer).max((4, 5)), 3, "reflect", 2)


def average_blur(x, params, layer):
    return blurred(window(x, layer, mode="wrap").mean((4, 5)), 4, "wrap", 2)


def conv_blur(x, params, layer):
    return blurred(np.maximum(convolution(x, params, 1, ((0, 0), (0, 0))), 0), 5, "reflect", 2)


def polyphase(x, compared, norm, mode):
    """Of each image the component x[i::2, j::2] for which that of `compared` has the largest norm."""
    even = lambda maps: np.pad(maps, ((0, 0), (0, maps.shape[1] % 2), (0, maps.shape[2] % 2), (0, 0)), mode=mode)
    places = [(i, j) for i in (0, 1) for j in (0, 1)]
    best = lambda image: max(places, key=lambda place: norm(image[place[0] :: 2, place[1] :: 2]))
    pairs = zip(even(x), map(best, even(compared)))
    return np.stack([image[i::2, j::2] for image, (i, j) in pairs])


def aps(x, params, layer):
    dense = window(x, layer, mode="wrap").max((4, 5))
    return polyphase(blurred(dense, 3, "wrap", 1), dense, lambda a: np.sum(a**2), "wrap")


def aps_after(x, params, layer):
    maps = blurred(window(x, layer, mode="wrap").max((4, 5)), 3, "wrap", 1)
    return polyphase(maps, maps, lambda a: np.sum(a**2), "wrap")


def aps_l1(x, params, layer):
    maps = window(x, layer).max((4, 5))
    return polyphase(maps, maps, lambda a: np.sum(np.abs(a)), "reflect")


def aps_linf(x, params, layer):
    return polyphase(blurred(x, 2, "reflect", 1), x, lambda a: np.max(np.abs(a)), "reflect")


def learned(components, params, mode):
    """Their logits [N, components]: two convolutions with a ReLU between them, and the mean."""

    def logit(x):
        for part in ("first", "second"):
            x = np.pad(np.maximum(x, 0) if part == "second" else x, ((0, 0), (1, 1), (1, 1), (0, 0)), mode=mode)
            kernels = np.moveaxis(params[part]["kernel"], 3, 0)
            x = reference.convolution(x, kernels, params[part]["bias"], [range(CHANNELS)] * CHANNELS)
        return x.mean((1, 2, 3))

    return np.stack([logit(component) for component in components], 1)


def cut(x, mode):
    """The polyphase components x[i::2, j::2]."""
    x = np.pad(x, ((0, 0), (0, x.shape[1] % 2), (0, x.shape[2] % 2), (0, 0)), mode=mode)
    return [x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)]


def lps(x, params, layer):
    components = cut(blurred(window(x, layer, mode="wrap").max((4, 5)), 3, "wrap", 1), "wrap")
    best = learned(components, params, "wrap").argmax(1)
    return np.stack([components[best[n]][n] for n in range(len(x))])


def lps_convex(x, params, layer):
    components = cut(x, "reflect")
    weights = np.exp(learned(components, params, "reflect") / 0.1)
    weights /= weights.sum(1, keepdims=True)
    return np.einsum("nk,knhwc->nhwc", weights, components)


def pyramid(x, params, layer):
    """Cells of 7 and 8 pixels: halves share the middle row, thirds two rows and two columns."""
    rows = {1: [(0, 7)], 2: [(0, 4), (3, 7)], 3: [(0, 3), (2, 5), (4, 7)]}
    columns = {1: [(0, 8)], 2: [(0, 4), (4, 8)], 3: [(0, 3), (2, 6), (5, 8)]}
    cells = [x[:, a:b, c:d].max((1, 2)) for side in (1, 2, 3) for a, b in rows[side] for c, d in columns[side]]
    return np.concatenate(cells, axis=1)


def by_numpy(case, x, params):
    layer = make(case, "NHWC")
    name = case if case in ("aps after", "aps l1", "aps linf", "lps convex") else CASES[case][0]
    return globals()[name.replace(" ", "_")](np.asarray(x, np.float64), params, layer)


def test_every_kind_is_tried():
    tried = {kind for kind, *_ in CASES.values()} | {"max", "average", "min", "subsample"}
    assert tried == {kind.name for kind in POOLS}


@pytest.mark.parametrize("case", CASES)
def test_values_and_gradients_are_those_of_numpy(case):
    """Gradients along drawn directions: the slope of the NumPy function there."""
    x, params, cotangent = drawn(case)
    nhwc, chwn, (x_gradient, gradients) = compiled(case)(x, params, cotangent)
    expected = by_numpy(case, x, params)
    assert expected.shape == (BATCH, *make(case, "NHWC").output_shape)
    for y in (nhwc, chwn):
        np.testing.assert_allclose(y, expected, rtol=2e-5, atol=2e-5)
    rng, step = np.random.default_rng(1), 1e-5
    for _ in range(3):
        ways = jax.tree.map(lambda leaf: rng.standard_normal(np.shape(leaf)), (np.float64(x), params))
        moved = lambda t: jax.tree.map(lambda leaf, way: np.float64(leaf) + t * way, (np.float64(x), params), ways)
        ahead, behind = (by_numpy(case, *moved(t)) for t in (step, -step))
        slope = np.vdot(cotangent, (ahead - behind) / (2 * step))
        ours = sum(map(np.vdot, jax.tree.leaves((x_gradient, gradients)), jax.tree.leaves(ways)))
        np.testing.assert_allclose(ours, slope, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("kind", ["max", "stochastic", "strided"])
def test_scale_multiplies_what_a_kind_puts_out(kind, layout):
    x = np.abs(drawn("soft")[0])
    once, twice = (
        make_pool("pool", (*SIZE, CHANNELS), config.Pool.of(kind=kind, scale=scale, **PLAIN), layout)
        for scale in (1.0, 2.5)
    )
    assert twice.describe() == f"{once.describe()}, times 2.5"
    keys = jax.random.split(jax.random.key(1), BATCH)
    x = from_images(x, layout)
    np.testing.assert_allclose(twice(x, keys), 2.5 * once(x, keys), rtol=1e-6)
    assert twice(x.astype(jnp.bfloat16)).dtype == jnp.bfloat16


def test_alpha_at_one_half_is_half_of_max_and_average():
    x = drawn("soft")[0]
    pool = lambda **settings: make_pool("pool", (*SIZE, CHANNELS), config.Pool.of(**settings, **PLAIN))(x)
    half = pool(kind="max_average", scale=0.5)
    np.testing.assert_allclose(pool(kind="alpha", alpha=0.5), half, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_finite_where_all_is_equal(case):
    """On blank maps, and on maps of one large number."""
    x, params, cotangent = drawn(case)
    for value in (0.0, 1e4):
        *outputs, gradients = compiled(case)(np.full_like(x, value), params, cotangent)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves((outputs, gradients)))


@pytest.mark.parametrize("case", CASES)
def test_bfloat16_in_bfloat16_out(case):
    x, params, cotangent = drawn(case)
    half = lambda tree: jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.bfloat16), tree)
    layer = make(case, "NHWC")
    graph, _ = nnx.split(layer)
    y = jax.eval_shape(lambda x, params: nnx.merge(graph, nnx.State(params))(x), half(x), half(params))
    assert y.dtype == jnp.bfloat16
    assert y.shape == (BATCH, *layer.output_shape)
