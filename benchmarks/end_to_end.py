"""Images per second of launch.py itself, from stored data to updated parameters, as a share of the step alone.

    python benchmarks/end_to_end.py --experiment=lenet_mnist
    python benchmarks/end_to_end.py --experiment=alexnet_cifar10 --set data.name=folder --set data.path=FOLDER

The step alone: the compiled program over one stretch of batches that lies on the device, again and again. launch.py:
a run of its own for each placement of the data, without report; the rate is that of all its stretches but the first,
which compiles, without evaluation and saving. Rounds alternate, and the median of each counts.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

PLACEMENTS = ("device", "host", "stream")


def step_alone(experiment, specs, seconds):
    """Images per second of the step, on data that are on the device."""
    import jax
    import numpy as np

    from cnn_jax import checks
    from cnn_jax.devices import choice
    from cnn_jax.training.learner import Learner, load

    settings = checks.settings(experiment, [*specs, "data.placement=device"])
    choice.prepare(settings)
    choice.enable_compilation_cache()
    learner = Learner(settings, training=load(settings, "train"))
    state, alive, steps = learner.initial(), np.ones(1, np.int32), 1
    count = min(learner.feed.most_steps, 1000)
    data = learner.begin(0, count).result()
    while True:
        began = time.perf_counter()
        state, report = learner.advance(state, data, steps * alive)
        jax.block_until_ready((state, report))
        taken = time.perf_counter() - began
        if taken > seconds or steps == count and taken > seconds / 10:
            break
        steps = min(count, max(steps + 1, int(steps * seconds / max(taken, 1e-6))))
    rates = []
    for _ in range(3):
        began = time.perf_counter()
        state, report = learner.advance(state, data, steps * alive)
        jax.block_until_ready((state, report))
        rates.append(steps * settings.train.batch_size / (time.perf_counter() - began))
    learner.close()
    return {"rate": statistics.median(rates), "device": f"{len(jax.devices())} x {jax.devices()[0].device_kind}"}


def whole(experiment, specs, placement, rate, batch, seconds):
    """Images per second of launch.py, and the share of the time that the devices waited for data."""
    steps = max(10, int(rate * seconds / batch))
    own = [f"data.placement={placement}", f"train.duration={steps} steps", "schedule.warmup=0 steps"]
    own += [f"evaluation.every={steps} steps", f"checkpoint.every={steps} steps"]
    sets = [word for spec in [*specs, *own] for word in ("--set", spec)]
    with tempfile.TemporaryDirectory() as folder:
        words = [
            sys.executable,
            ROOT / "launch.py",
            f"--experiment={experiment}",
            "--noreport",
            f"--workdir={folder}/run",
        ]
        done = subprocess.run([*words, *sets], capture_output=True, text=True)
        if done.returncode:
            sys.exit(done.stderr)
        last = json.loads((Path(folder) / "run" / "timing.jsonl").read_text().splitlines()[-1])
    return last["mean_examples_per_second"], last["waiting"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--experiment", required=True)
    parser.add_argument("--set", action="append", default=[], help="a setting; repeatable")
    parser.add_argument("--placements", default=",".join(PLACEMENTS), help="default: %(default)s")
    parser.add_argument("--seconds", type=float, default=20, help="of each run; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--alone", action="store_true", help="print the rate of the step alone, and leave")
    asked = parser.parse_args()
    if asked.alone:
        print(json.dumps(step_alone(asked.experiment, asked.set, asked.seconds / 4)))
        return
    from cnn_jax import checks

    batch = checks.settings(asked.experiment, asked.set).train.batch_size
    sets = [word for spec in asked.set for word in ("--set", spec)]
    command = [
        sys.executable,
        __file__,
        f"--experiment={asked.experiment}",
        *sets,
        f"--seconds={asked.seconds}",
        "--alone",
    ]
    alone, found = [], {name: [] for name in asked.placements.split(",")}
    for _ in range(asked.rounds):
        said = subprocess.run(command, capture_output=True, text=True)
        if said.returncode:
            sys.exit(said.stderr)
        alone.append(json.loads(said.stdout.splitlines()[-1]))
        for name, results in found.items():
            results.append(whole(asked.experiment, asked.set, name, alone[-1]["rate"], batch, asked.seconds))
    rate = statistics.median(each["rate"] for each in alone)
    print(f"{asked.experiment}, batches of {batch}, on {alone[0]['device']}; the step alone: {rate:,.0f} images/s\n")
    print("| placement | images/s | share of the step alone | waiting for data |\n|---|---|---|---|")
    for name, results in found.items():
        # Each against the step alone of its own round.
        share = statistics.median(got / each["rate"] for (got, _), each in zip(results, alone))
        waiting = statistics.median(waited for _, waited in results)
        print(f"| {name} | {statistics.median(got for got, _ in results):,.0f} | {share:.1%} | {waiting:.1%} |")


if __name__ == "__main__":
    main()
