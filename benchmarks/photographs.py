"""How many photographs of digits a network reads: the test digits of MNIST, drawn on paper, in bad light, on rules.

    python launch.py --experiment=lenet_mnist --set train.duration='5 epochs' --workdir=runs/photographs
    python benchmarks/photographs.py --workdir=runs/photographs

Prints the table of docs/data.md. The photographs are made by tests/photographs.py.
"""

import argparse
import functools
import sys
import tempfile
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import photographs  # noqa: E402

import cnn_jax  # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workdir", required=True, help="of a run of lenet_mnist")
    parser.add_argument("--count", type=int, default=500, help="digits of each kind; default: %(default)s")
    asked = parser.parse_args()
    run = cnn_jax.Run(workdir=asked.workdir)
    test = run.dataset("test")
    rows = np.random.default_rng(1).permutation(len(test.labels))[: asked.count]
    digits, labels = np.asarray(test.images[rows])[..., 0], test.labels[rows]
    right = lambda found: f"{100 * np.mean(found.probabilities.argmax(-1) == labels):.1f} %"
    print(f"as stored: {right(run.predict(digits[..., None]))} of {len(rows)}\n")
    print("| photograph | right | with a warning |\n|---|---|---|")
    kinds = {kind: functools.partial(photographs.photograph, kind=kind) for kind in photographs.KINDS}
    kinds |= {f"{side}x{side}, grey on grey": functools.partial(photographs.small, side=side) for side in (28, 29)}
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / f"{number}.image" for number in range(len(rows))]
        for kind, make in kinds.items():
            draw = np.random.default_rng(7)
            for path, digit in zip(paths, digits):
                path.write_bytes(make(digit, draw=draw))
            found = run.predict(paths)
            warned = sum(bool(picture.warnings) for picture in found.pictures)
            print(f"| {kind} | {right(found)} | {warned} |", flush=True)


if __name__ == "__main__":
    main()
