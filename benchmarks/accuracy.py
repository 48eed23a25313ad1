"""Test accuracy of an experiment over several seeds: mean, standard deviation, number of seeds.

    python benchmarks/accuracy.py --experiment=lenet5_mnist --seeds=3 --folder=runs/accuracy
    python benchmarks/accuracy.py --experiment=lenet5_mnist --folder=runs/distorted --set augment.shift=2 ...

Every seed is a run of launch.py with a workdir of its own, FOLDER/EXPERIMENT-SEED; finished ones are not run again.
"""

import argparse
import concurrent.futures
import json
import pathlib
import statistics
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0; default: %(default)s")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time; default: %(default)s")
    parser.add_argument("--folder", default="runs/accuracy", help="of the workdirs; default: %(default)s")
    parser.add_argument("--set", action="append", default=[], metavar="SETTING", help="passed on to launch.py")
    options = parser.parse_args()

    def accuracy(seed):
        workdir = pathlib.Path(options.folder).absolute() / f"{options.experiment}-{seed}"
        command = [sys.executable, ROOT / "launch.py", f"--experiment={options.experiment}", f"--workdir={workdir}"]
        command += [f"--seed={seed}", "--noreport", *(part for setting in options.set for part in ("--set", setting))]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"seed {seed}: {done.stderr.strip().splitlines()[-1]}")
        value = json.loads((workdir / "results.json").read_text())["test_accuracy"]
        print(f"seed {seed}: {100 * value:.2f} %", file=sys.stderr, flush=True)
        return value

    with concurrent.futures.ThreadPoolExecutor(options.jobs) as pool:
        values = [100 * value for value in pool.map(accuracy, range(options.seeds))]
    spread = f" +- {statistics.stdev(values):.3f}" if len(values) > 1 else ""
    print(f"{options.experiment}: test accuracy {statistics.mean(values):.3f}{spread} % (n = {len(values)} seeds)")


if __name__ == "__main__":
    main()
