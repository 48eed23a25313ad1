"""How long a checkpoint takes to save and to restore, and what share of that its checksums are.

python benchmarks/checkpoints.py --experiment=alexnet_owt_imagenet --set data.name=fake
"""

import argparse
import pathlib
import statistics
import sys
import tempfile
import time

import jax
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnn_jax import checks, files  # noqa: E402
from cnn_jax.training.checkpoints import Checkpoints  # noqa: E402
from cnn_jax.training.learner import Learner  # noqa: E402
from cnn_jax.training.state import named_leaves  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", default="lenet_digits", help="default: %(default)s")
    parser.add_argument("--turns", type=int, default=7, help="default: %(default)s")
    parser.add_argument("--set", action="append", default=[], help="as of launch.py; repeatable")
    asked = parser.parse_args()
    settings = checks.settings(asked.experiment, asked.set)
    learner = Learner(settings)
    # Zeros, as momentum is at first, would be compressed to nothing.
    keys = iter(jax.random.split(jax.random.key(0), 10_000))
    drawn = lambda leaf: jax.random.normal(next(keys), leaf.shape, leaf.dtype) if leaf.dtype == np.float32 else leaf
    state = jax.block_until_ready(jax.tree.map(drawn, learner.initial()))
    arrays = named_leaves(jax.device_get(state)).values()
    times = {"save": [], "restore": [], "checksums": []}

    def note(name, act):
        began = time.perf_counter()
        act()
        times[name].append(time.perf_counter() - began)

    for step in range(1, asked.turns + 1):
        with tempfile.TemporaryDirectory() as folder:
            checkpoints = Checkpoints(pathlib.Path(folder))
            note("save", lambda: (checkpoints.save(step, state, settings, None), checkpoints.wait()))
            note("restore", lambda: jax.block_until_ready(checkpoints.restore_latest(learner.state_like())))
            checkpoints.close()
        note("checksums", lambda: [files.checksum(array) for array in arrays])
    print(f"{asked.experiment}: {sum(array.nbytes for array in arrays) / 1e6:,.1f} MB, medians of {asked.turns} turns")
    save = statistics.median(times["save"])
    for name, seconds in times.items():
        print(
            f"{name:<9} {statistics.median(seconds):.4f} s  {100 * statistics.median(seconds) / save:.1f} % of a save"
        )


if __name__ == "__main__":
    main()
