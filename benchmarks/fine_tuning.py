"""What a network gains from another task: four classes of CIFAR-10, from the six others and from random numbers.

    python benchmarks/fine_tuning.py --data=FOLDER --workdir=runs/fine_tuning

Prints the table of docs/train.md. FOLDER holds CIFAR-10 as images: train/CLASS/*, test/CLASS/*. A small AlexNet learns
the six animals once. Then 200 images of each of the four vehicles are learnt in the same steps and with the same
settings by three arms: from random numbers, from the animals' weights with all layers but the output, and from these
with the convolutions frozen.
"""

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import cnn_jax  # noqa: E402

ANIMALS = "bird", "cat", "deer", "dog", "frog", "horse"
VEHICLES = "airplane", "automobile", "ship", "truck"
FROZEN = ",".join(f"conv{number}:0" for number in range(1, 6))
NETWORK = "model.width=16", "data.name=folder"
FEW = "data.limit=800", "train.batch_size=32", "optimizer.learning_rate=0.01"  # 200 images of each class


def part(data: Path, classes: tuple[str, ...], folder: Path) -> str:
    """Make a folder of some of the classes, and name it as a setting."""
    for split in "train", "test":
        for name in classes:
            link = folder / split / name
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.is_symlink():
                link.symlink_to((data / split / name).resolve())
    return f"data.path={folder}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="CIFAR-10 as images")
    parser.add_argument("--workdir", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=5, help="runs of each arm; default: %(default)s")
    parser.add_argument("--animals", default="6 epochs", help="of the first task; default: %(default)s")
    parser.add_argument("--vehicles", default="30 epochs", help="of the second; default: %(default)s")
    asked = parser.parse_args()
    workdir = asked.workdir.resolve()

    def accuracy(name, *changes, **start):
        run = cnn_jax.Run(cnn_jax.settings("alexnet_cifar10", *NETWORK, *changes), workdir=workdir / name)
        run.train(progress=False, **start)
        return 100 * run.evaluate()["accuracy"]

    animals = part(asked.data, ANIMALS, workdir / "animals_images")
    vehicles = part(asked.data, VEHICLES, workdir / "vehicles_images")
    first = accuracy("animals", animals, f"train.duration={asked.animals}")
    print(f"animals: {first:.1f} % of six classes\n")
    print("| vehicles | test accuracy | less random numbers |\n|---|---|---|", flush=True)
    start = {"init_from": str(workdir / "animals"), "fresh": ("output",)}
    arms = {
        "from random numbers": ((), {}),
        "from the animals": ((), start),
        "from the animals, convolutions frozen": ((f"optimizer.layers={FROZEN}",), start),
    }
    baseline = None
    for arm, (changes, how) in arms.items():
        few = (vehicles, *FEW, f"train.duration={asked.vehicles}", *changes)
        name = arm.replace(" ", "_").replace(",", "")
        found = np.array([accuracy(f"{name}_{s}", *few, f"seed={s}", **how) for s in range(asked.seeds)])
        baseline = found if baseline is None else baseline
        spread = lambda values: f"{values.mean():+.1f} ± {values.std(ddof=1):.1f}"
        gain = spread(found - baseline) if found is not baseline else ""
        print(f"| {arm} | {spread(found)[1:]} % | {gain} |", flush=True)


if __name__ == "__main__":
    main()
