"""Max pooling, forward and backward: ours beside JAX's own (the gradient of lax.reduce_window), float32.

    python benchmarks/max_pool_gradient.py

One line per shape and layout: the fastest round of each in ms, and the median over rounds of the ratio of two turns
that followed each other. Stops with an error if the two outputs or gradients differ.

Both get memory that is in use already, as in training, where many steps run in one program and its memory. Left to
itself, the C library hands the maps back to the system after each call and the next one waits for zeroed pages, for
about as long as ours takes to compute.

Measured with jax 0.10.2 on 2 idle cores of an AMD EPYC, five runs: at 32x55x55x64 a ratio of 10.6 to 11.7 for NHWC,
10.5 to 12.2 for CHWN (44 to 49 ms against 3.6 to 4.2).
"""

import argparse
import ctypes
import statistics
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cnn_jax.layers.pooling.reductions import max_pool  # noqa: E402
from cnn_jax.layers.windows import from_images, geometry  # noqa: E402

BATCH = 32
POOLS = [  # name; height, width, channels; window; stride
    ("AlexNet pool1", (55, 55, 64), 3, 2),
    ("AlexNet pool2", (27, 27, 192), 3, 2),
    ("AlexNet pool5", (13, 13, 256), 3, 2),
    ("LeNet pool1", (24, 24, 6), 2, 2),
    ("LeNet pool2", (8, 8, 16), 2, 2),
]


def keep_memory() -> bool:
    """Has the C library keep what is freed, for the next call; False where it is not glibc."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt is None:
        return False
    trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # malloc.h
    return all(mallopt(*option) for option in ((trim_threshold, 2**30), (mmap_threshold, 2**30), (arena_max, 1)))


def reduce_window(x, placed):
    """The same pooling by JAX's own operation; no padding."""
    sizes, strides = [1] * 4, [1] * 4
    for axis, window, stride in zip(placed.axes, placed.window, placed.stride):
        sizes[axis], strides[axis] = window, stride
    return lax.reduce_window(x, -jnp.inf, lax.max, sizes, strides, "VALID")


def compiled(pool, placed, x, cotangent):
    """(x, cotangent) to the pooled maps and the gradient of x."""

    def both(x, cotangent):
        y, pull = jax.vjp(lambda x: pool(x, placed), x)
        return y, *pull(cotangent)

    return jax.jit(both).lower(x, cotangent).compile()


def milliseconds(function, *arguments):
    """Returns the milliseconds of one run: the mean over a fifth of a second, after a warm-up run."""
    jax.block_until_ready(function(*arguments))
    start, runs = time.perf_counter(), 0
    while time.perf_counter() - start < 0.2:
        jax.block_until_ready(function(*arguments))
        runs += 1
    return 1e3 * (time.perf_counter() - start) / runs


def compare(name, shape, window, stride, layout, rounds):
    """Checks and times one shape; returns its line of the table."""
    placed = geometry(name, shape, window, stride, layout=layout)
    draw = np.random.default_rng(0).standard_normal
    x = from_images(jnp.asarray(draw((BATCH, *shape)), jnp.float32), layout)
    cotangent = from_images(jnp.asarray(draw((BATCH, *placed.output_size, shape[2])), jnp.float32), layout)
    ours, theirs = (compiled(pool, placed, x, cotangent) for pool in (max_pool, reduce_window))
    for mine, reference in zip(ours(x, cotangent), theirs(x, cotangent)):
        np.testing.assert_allclose(mine, reference, rtol=0, atol=1e-5)  # overlapping windows add in another order
    times = [(milliseconds(theirs, x, cotangent), milliseconds(ours, x, cotangent)) for _ in range(rounds)]
    theirs_ms, ours_ms = map(min, zip(*times))
    ratio = statistics.median(slow / fast for slow, fast in times)
    shape = "x".join(map(str, (BATCH, *shape)))
    return f"{name:14} {shape:>14} {window}x{window}/{stride}  {layout}  {theirs_ms:13.2f} {ours_ms:8.2f} {ratio:8.1f}x"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=15, help="runs of each, alternating")
    rounds = parser.parse_args().rounds
    if rounds < 1:
        parser.error(f"--rounds = {rounds} must be at least 1")
    kept = "kept" if keep_memory() else "not kept"
    print(f"jax {jax.__version__} on {jax.devices()[0].device_kind}, {rounds} rounds, ms; memory {kept}")
    print(f"{'pool':14} {'shape':>14} window  layout  reduce_window     ours    ratio")
    for pool in POOLS:
        for layout in ("NHWC", "CHWN"):
            print(compare(*pool, layout, rounds), flush=True)


if __name__ == "__main__":
    main()
