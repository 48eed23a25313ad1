"""Time the LeNet of the Keras notebook on MNIST in this project, in Keras and in PyTorch, side by side on the CPU.

    python benchmarks/lenet_mnist.py --make_env=FOLDER --repeats=3 --out=FILE.json

One recipe (60,000 examples, batches of 32, Adam, test accuracy after each epoch), the same pixels, and for every run
a process of its own, timed from start to exit. Runs take turns, ours first; medians are reported.
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import platform
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnn_jax.config import Data  # noqa: E402
from cnn_jax.data.datasets import source  # noqa: E402
from cnn_jax.errors import UserError  # noqa: E402

EXAMPLES, BATCH = 60_000, 32
QUIET = 0.3  # load average, processes waiting or running, above which others share the cores
TITLES = {"ours": "cnn_jax", "keras": "Keras", "keras_tuned": "Keras, 25", "torch": "PyTorch"}
# Each form of a peer: its script and what it is called with. The notebook's Keras dispatches every step by itself;
# tuned, 25 steps at once (they divide an epoch's 1875).
FORMS = {
    "keras": ("keras", []),
    "keras_tuned": ("keras", ["--steps_per_execution=25"]),
    "torch": ("torch", []),
}
# What --make_env installs for a peer, and what a given interpreter must be able to import.
PACKAGES = {"keras": ("keras==3.15.1", "tensorflow-cpu==2.21.0"), "torch": ("torch==2.13.0", "numpy==2.4.6")}
MODULES = {"keras": ("keras", "tensorflow"), "torch": ("torch", "numpy")}


def arguments():
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keras_python", help="Python interpreter that has Keras and TensorFlow")
    parser.add_argument("--torch_python", help="Python interpreter that has PyTorch")
    parser.add_argument("--make_env", metavar="FOLDER", help="build the interpreters not given, with pip, in here")
    parser.add_argument("--data_dir", default="", help="prepared data; see data.data_dir in cnn_jax/config.py")
    parser.add_argument("--mnist_dir", default="", help="the four MNIST .gz files, where the data is not prepared yet")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0, help="of the first repeat; the next ones count up")
    parser.add_argument("--torch_threads", type=int, default=cores, help="default: the cores, %(default)s")
    parser.add_argument("--out", help="JSON file for all figures")
    options = parser.parse_args()
    if options.epochs < 1 or options.repeats < 1:
        parser.error("--epochs and --repeats must be at least 1")
    return options


def interpreter(name, given, folder):
    """A Python that can run a peer, or None with a line that says why it is left out."""
    if not given and not folder:
        print(f"{TITLES[name]} is left out: give --{name}_python, or --make_env", file=sys.stderr)
        return None
    if not given:
        home = pathlib.Path(folder).expanduser().absolute() / name
        given = str(home / "bin" / "python")
        subprocess.run([sys.executable, "-m", "venv", home], check=True)
        subprocess.run([given, "-m", "pip", "install", "--quiet", *PACKAGES[name]], check=True)
    python = shutil.which(given)
    search = f"import importlib.util as u, sys; sys.exit(not all(map(u.find_spec, {MODULES[name]})))"
    if not python or subprocess.run([python, "-c", search]).returncode:
        print(f"{TITLES[name]} is left out: {given} is no Python with {' and '.join(MODULES[name])}", file=sys.stderr)
        return None
    return python


def export(options, path):
    """Writes the pixels that ours trains on where the peers read them: uint8 [N, 28, 28, 1], labels int32 [N]."""
    data = Data.of(name="mnist", data_dir=options.data_dir, manual_dir=options.mnist_dir)
    print(source.prepare(data, experiment="lenet_mnist"), file=sys.stderr)
    train, test = source.load(data, "train"), source.load(data, "test")
    np.savez(path, x_train=train.images, y_train=train.labels, x_test=test.images, y_test=test.labels)


def timed(command):
    """Standard output of a command, and its seconds from start to exit. A failing one ends the benchmark."""
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nerror: exit status {done.returncode} of: {' '.join(map(str, command))}")
    return done.stdout, seconds


def run_ours(options, seed, folder):
    workdir = folder / f"ours-{seed}"
    settings = [f"data.data_dir={options.data_dir}", "data.validation=0"]
    settings += [f"train.duration={options.epochs} epochs", f"seed={seed}"]
    command = [sys.executable, ROOT / "launch.py", "--experiment=lenet_mnist", f"--workdir={workdir}", "--noreport"]
    command += ["--set", "optimizer.ema=0"]  # the notebook, and the peers, measure the last step's parameters
    _, seconds = timed(command + [part for setting in settings for part in ("--set", setting)])
    timing, metrics = (read_lines((workdir / name).read_text()) for name in ("timing.jsonl", "metrics.jsonl"))
    # Evaluation and checkpoint come after an epoch's last row and before the next one's first: from first to last
    # row is training alone.
    steps = EXAMPLES // BATCH
    epochs = [[row for row in timing if (row["step"] - 1) // steps == epoch] for epoch in range(options.epochs)]
    spans = [(rows[-1]["seconds"] - rows[0]["seconds"]) / (rows[-1]["step"] - rows[0]["step"]) for rows in epochs]
    return {
        "process_seconds": seconds,
        "epoch_seconds": steps * statistics.mean(spans[1:] or spans),
        "test_accuracy": [row["accuracy"] for row in metrics if row["split"] == "test"][-1],
        "versions": {name: importlib.metadata.version(name) for name in ("jax", "flax")},
    }


def run_peer(name, python, options, seed, data):
    peer, form = FORMS[name]
    command = [python, ROOT / "benchmarks" / "peers" / f"lenet_{peer}.py", f"--data={data}"]
    command += [f"--epochs={options.epochs}", f"--seed={seed}", *form]
    if name == "torch":
        command.append(f"--threads={options.torch_threads}")
    output, seconds = timed(command)
    *epochs, last = read_lines(output)
    return {
        "process_seconds": seconds,
        "epoch_seconds": statistics.mean(line["seconds"] for line in epochs[1:] or epochs),
        "test_accuracy": epochs[-1]["accuracy"],
        "versions": last["versions"],
    }


def read_lines(text):
    return [json.loads(line) for line in text.splitlines() if line.startswith("{")]


def hardware():
    """Returns the CPU, its number of cores, its load before the benchmark began, and the version of Python."""
    model = platform.processor() or platform.machine()
    facts = pathlib.Path("/proc/cpuinfo")  # Linux
    if facts.exists():
        named = [line for line in facts.read_text().splitlines() if line.startswith("model name")]
        model = named[0].partition(":")[2].strip() if named else model
    load = round(os.getloadavg()[0], 2)
    return {"cpu": model, "cores": os.cpu_count(), "load_before": load, "python": platform.python_version()}


def summary(runs):
    """Medians for each framework, and how many times longer than ours each peer takes."""
    keys = ("process_seconds", "epoch_seconds", "test_accuracy")
    medians = {
        name: {key: statistics.median(run[key] for run in each) for key in keys} | {"versions": each[0]["versions"]}
        for name, each in runs.items()
    }
    ratios = {
        name: {key: medians[name][key] / medians["ours"][key] for key in keys[:2]} for name in medians if name != "ours"
    }
    return {"medians": medians, "ratios_to_ours": ratios}


def show(result):
    machine = result["hardware"]
    print(f"{machine['cpu']}, {machine['cores']} cores, load {machine['load_before']} before the start")
    if machine["load_before"] > QUIET:
        print("The machine was busy: do not quote these figures")
    print(f"LeNet, MNIST, {result['epochs']} epochs, batch {BATCH}, float32; medians of {result['repeats']}")
    print(f"{'':10}{'process, s':>12}{'epoch, s':>12}{'test acc.':>12}  versions")
    for name, row in result["medians"].items():
        versions = ", ".join(f"{package} {version}" for package, version in row["versions"].items())
        figures = f"{row['process_seconds']:12.1f}{row['epoch_seconds']:12.2f}{row['test_accuracy']:12.4f}"
        print(f"{TITLES[name]:10}{figures}  {versions}")
    for name, row in result["ratios_to_ours"].items():
        print(f"{TITLES[name]} / ours: whole process {row['process_seconds']:.2f}, epoch {row['epoch_seconds']:.2f}")


def main():
    options = arguments()
    machine = hardware()
    pythons = {name: interpreter(name, getattr(options, f"{name}_python"), options.make_env) for name in PACKAGES}
    runs = {"ours": []} | {name: [] for name, (peer, _) in FORMS.items() if pythons[peer]}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        try:
            export(options, folder / "mnist.npz")
        except UserError as error:
            sys.exit(f"error: {error}")
        for seed in range(options.seed, options.seed + options.repeats):
            for name, each in runs.items():
                if name == "ours":
                    each.append(run_ours(options, seed, folder))
                else:
                    each.append(run_peer(name, pythons[FORMS[name][0]], options, seed, folder / "mnist.npz"))
                print(f"{TITLES[name]}, seed {seed}: {each[-1]['process_seconds']:.1f} s", file=sys.stderr)
    result = {"hardware": machine, "epochs": options.epochs, "repeats": options.repeats, "seed": options.seed}
    result |= {"torch_threads": options.torch_threads} | summary(runs) | {"runs": runs}
    show(result)
    if options.out:
        pathlib.Path(options.out).write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
