"""Images per second of AlexNet's training step here and in PyTorch, side by side on the same device.

    python benchmarks/alexnet_step.py --model=alexnet --torch_python=PYTHON --out=FILE.json

One fixed batch of 224x224 images in device memory, 1000 classes, SGD with momentum and weight decay, dropout. Each
framework has a process of its own that stays alive; they take turns, --steps steps at a time, ours first. The first
turn of each is not counted. Figures are of the fastest turn, which other work on the machine disturbed least; the
ratio is the median over the rounds. On a CPU both compute in float32, on a GPU in bfloat16.

Ours is what launch.py runs: it starts from uint8 pixels, normalises them and watches loss and gradient.
"""

import argparse
import dataclasses
import functools
import importlib.metadata
import json
import os
import pathlib
import statistics
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnn_jax import config  # noqa: E402
from cnn_jax.devices.mesh import Parallel  # noqa: E402
from cnn_jax.models import outline  # noqa: E402
from cnn_jax.models.summary import summarise  # noqa: E402
from cnn_jax.training import state as states  # noqa: E402
from cnn_jax.training.optimizer import make_optimizer, make_schedule  # noqa: E402
from cnn_jax.training.step import make_run, make_train_step  # noqa: E402

SHAPE, CLASSES = (224, 224, 3), 1000
FLOPS = 6  # of a training example for one multiply-add: two forwards, and twice that backwards
QUIET = 0.3  # load average, processes waiting or running, above which others share the cores


def arguments():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", choices=("alexnet", "alexnet_owt"), default="alexnet_owt")
    parser.add_argument("--batch", type=int, default=128, help="default: %(default)s")
    parser.add_argument("--steps", type=int, default=3, help="of one turn; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each; default: %(default)s")
    parser.add_argument("--layout", choices=("NHWC", "CHWN"), default="NHWC", help="of ours")
    parser.add_argument("--torch_python", help="Python interpreter that has PyTorch; without it only ours is timed")
    parser.add_argument("--torch_threads", type=int, default=cores, help="default: the cores, %(default)s")
    parser.add_argument("--peak", type=float, default=0.0, help="FLOP/s that the device can do: adds the share used")
    parser.add_argument("--out", help="JSON file for all figures")
    parser.add_argument("--ours", action="store_true", help=argparse.SUPPRESS)  # this script as our process
    options = parser.parse_args()
    if min(options.batch, options.steps, options.rounds) < 1:
        parser.error("--batch, --steps and --rounds must be at least 1")
    return options


def recipe(options):
    """The config that ours trains with."""
    precision = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    model = {made().name: made for made in (config.AlexNet, config.AlexNetOWT)}[options.model]
    return config.Config(
        model=model(layout=options.layout),
        data=config.Data.of(name="fake", side=SHAPE[0], classes=CLASSES, mean=(0.5,) * 3, std=(0.25,) * 3),
        optimizer=config.Optimizer.of(name="sgd", learning_rate=0.01, momentum=0.9, weight_decay=5e-4),
        train=config.Train(batch_size=options.batch, precision=precision),
    )


def ours(options):
    """Our process: for every line on standard input, --steps steps in one dispatch, and their seconds."""
    settings = recipe(options)
    parallel = Parallel("jit", options.batch)
    network = states.make_network(settings, SHAPE, CLASSES)
    optimizer = make_optimizer(settings.optimizer)
    schedule = make_schedule(settings.schedule, settings.optimizer.learning_rate, 10**6, options.batch, options.batch)
    step = make_train_step(settings, network, schedule, optimizer)
    draw = np.random.default_rng(0).integers
    data = {
        "images": draw(0, 256, (options.batch, *SHAPE), np.uint8),
        "labels": draw(0, CLASSES, options.batch, np.int32),
        "index": np.arange(options.batch, dtype=np.int32),
    }
    run = parallel.compile_run(make_run(step, lambda data, i: data), dict.fromkeys(data, 0))
    data = {name: parallel.split(array, 0) for name, array in data.items()}
    initial = functools.partial(states.initial_state, settings, SHAPE, CLASSES, optimizer)
    state = parallel.replicate(jax.jit(initial)(0))

    def steps(state, count):
        began = time.perf_counter()
        state, report = run(state, data, jnp.int32(count))
        if not report.finite:
            sys.exit("error: loss or gradient is not finite")
        jax.block_until_ready(state)
        return state, time.perf_counter() - began

    state, seconds = steps(state, 1)
    versions = {name: importlib.metadata.version(name) for name in ("jax", "flax")}
    form = f"{settings.train.precision}, {settings.model.layout}"
    device = jax.devices()[0].device_kind
    say({"form": form, "device": device, "versions": versions, "first_step_seconds": seconds})
    for _ in sys.stdin:
        state, seconds = steps(state, options.steps)
        say({"seconds": seconds})


def say(line):
    print(json.dumps(line), flush=True)


class Runner:
    """A process that takes steps when told to."""

    def __init__(self, command):
        # The GPU's memory is shared: ours takes what it needs and no more.
        environment = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"} | os.environ
        self.command = list(map(str, command))
        self._process = subprocess.Popen(
            self.command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts = self._answer()
        self.seconds = []

    def take_turn(self):
        self._process.stdin.write("go\n")
        self._process.stdin.flush()
        self.seconds.append(self._answer()["seconds"])

    def close(self):
        self._process.stdin.close()
        self._process.wait()

    def _answer(self):
        for line in self._process.stdout:
            if line.startswith("{"):
                return json.loads(line)
        sys.exit(f"error: exit status {self._process.wait()} of: {' '.join(self.command)}")


def measure(options):
    """Runs ours and, if asked for, PyTorch's process in turns; returns facts and seconds of each turn, by framework."""
    same = [f"--{name}={getattr(options, name)}" for name in ("model", "batch", "steps")]
    commands = {"cnn_jax": [sys.executable, __file__, "--ours", f"--layout={options.layout}", *same]}
    if options.torch_python:
        peer = ROOT / "benchmarks" / "peers" / "alexnet_torch.py"
        commands["PyTorch"] = [options.torch_python, peer, *same, f"--threads={options.torch_threads}"]
    runners = {name: Runner(command) for name, command in commands.items()}
    for _ in range(1 + options.rounds):
        for runner in runners.values():
            runner.take_turn()
    for runner in runners.values():
        runner.close()
    return {name: runner.facts | {"seconds": runner.seconds[1:]} for name, runner in runners.items()}


def summary(options, runs):
    """Images/s, FLOP/s and the share of the peak of each, and how many times as fast as PyTorch ours is."""
    settings = config.Config(model=dataclasses.replace(recipe(options).model, layout="NHWC"))
    multiply_adds = sum(row.multiply_adds for row in summarise(outline(settings.model, SHAPE, CLASSES)))
    figures = {}
    for name, run in runs.items():
        rate = options.batch * options.steps / min(run["seconds"])
        flops = rate * FLOPS * multiply_adds
        figures[name] = {"images_per_second": rate, "flops_per_second": flops}
        figures[name] |= {"utilisation": flops / options.peak} if options.peak else {}
    if "PyTorch" not in runs:
        return {"figures": figures}
    turns = zip(runs["PyTorch"]["seconds"], runs["cnn_jax"]["seconds"])
    return {"figures": figures, "ratio": statistics.median(theirs / mine for theirs, mine in turns)}


def show(options, load, result):
    print(f"{options.model}, batch {options.batch}, {options.rounds} turns of {options.steps} steps")
    if load > QUIET:
        print(f"The machine was busy, load {load:.1f} before the start: do not quote these figures")
    for name, figures in result["figures"].items():
        run = result["runs"][name]
        versions = ", ".join(f"{package} {version}" for package, version in run["versions"].items())
        rate = f"{figures['images_per_second']:10,.1f} images/s {figures['flops_per_second'] / 1e12:8.3f} TFLOP/s"
        used = f" {100 * figures['utilisation']:5.1f} % of the peak" if options.peak else ""
        print(f"{name:8}{rate}{used}  {run['device']}, {run['form']}, {versions}")
    if "ratio" in result:
        print(f"ours / PyTorch: {result['ratio']:.2f}")


def main():
    options = arguments()
    if options.ours:
        ours(options)
        return
    load = os.getloadavg()[0]
    runs = measure(options)
    result = {"model": options.model, "batch": options.batch, "load_before": load} | summary(options, runs)
    result["runs"] = runs
    show(options, load, result)
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
