"""Images per second from JPEG files to batches of 256x256: ours beside PyTorch's DataLoader and tf.data.

    python benchmarks/input_pipeline.py --images=FOLDER --torch_python=PYTHON --tensorflow_python=PYTHON

FOLDER holds JPEGs, in subfolders or not; they are read again and again, so they come from memory, not from the disk.
All decode the same files in the same order with as many threads or processes as there are cores, short side to 256,
centre cut out, batches of 100. Every measurement is a process of its own; they take turns, and medians are reported.

  stream          ours, decoding at every use (data.placement=stream)
  host            ours, from the decoded cache on disk (data.placement=host)
  torch           DataLoader, the same Pillow calls in worker processes; needs torch, numpy and pillow
  tf.data         with the same filter as Pillow (antialias)
  tf.data plain   with plain bilinear sampling, which is less work and another image
"""

import argparse
import importlib.metadata
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnn_jax.data.batches.feed import make_feed  # noqa: E402
from cnn_jax.data.batches.order import BatchOrder  # noqa: E402
from cnn_jax.data.images import cache, decode, reader  # noqa: E402
from cnn_jax.data.images.dataset import Dataset  # noqa: E402

SIDE, BATCH = 256, 100
OURS = ("stream", "host")
HOST_TIMES = 10  # more images for `host`, which would be over too soon
QUIET = 0.3  # load average, processes waiting or running, above which others share the cores


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of JPEG files")
    parser.add_argument("--torch_python", help="Python interpreter that has PyTorch, NumPy and Pillow")
    parser.add_argument("--tensorflow_python", help="Python interpreter that has TensorFlow")
    parser.add_argument("--count", type=int, default=4000, help="images for each measurement; default: %(default)s")
    parser.add_argument("--rounds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--workers", type=int, default=reader.cores(), help="default: the cores, %(default)s")
    parser.add_argument("--ours", choices=OURS, help=argparse.SUPPRESS)  # how this script measures in a new process
    parser.add_argument("--cache", help=argparse.SUPPRESS)
    return parser.parse_args()


def images_in(folder):
    found = sorted(path for path in pathlib.Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        sys.exit(f"error: --images={folder} holds no .jpg or .jpeg file")
    return found


class OnHost:
    """A stand-in for devices: batches stay in host memory, as those of the peers do."""

    @staticmethod
    def part(size):
        return slice(size)

    @staticmethod
    def split(arrays, axis):
        return arrays


class InOrder(BatchOrder):
    """The files in the order in which the peers read them."""

    def batches(self, start, stop):
        flat = np.arange(start * self.batch_size, stop * self.batch_size, dtype=np.int32) % self.examples
        return flat.reshape(-1, self.batch_size)


def measure_ours(options):
    """Prints the rate of one of our placements."""
    paths = images_in(options.images)
    read = lambda row: decode.square(paths[row].read_bytes(), SIDE, str(paths[row]))
    source = reader.ImageSource(
        "benchmark", (SIDE, SIDE, 3), np.zeros(len(paths), np.int32), read, {"files": len(paths)}
    )
    if options.ours == "host":
        kept = cache.Cache(source, pathlib.Path(options.cache), "images")
        kept.build(options.workers)
        source = kept.source()
    images = reader.LazyImages(source, np.arange(len(paths)), options.workers)
    where = {"stream": "stream", "host": "cache"}[options.ours]
    dataset = Dataset(images, source.labels, ("all",), "benchmark", "train", where)
    feed, _ = make_feed(options.ours, dataset, [InOrder(len(paths), BATCH, 0)], OnHost())
    steps = options.count // BATCH * (HOST_TIMES if options.ours == "host" else 1)
    feed.stretch(0, 1)
    began = time.perf_counter()
    for step in range(1, steps):
        feed.stretch(step, step + 1)
    seconds = time.perf_counter() - began
    feed.close()
    versions = {name: importlib.metadata.version(name) for name in ("numpy", "pillow")}
    print(json.dumps({"rate": (steps - 1) * BATCH / seconds, "versions": versions}))


def run(command):
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "TF_CPP_MIN_LOG_LEVEL": "2"}
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{done.stdout}{done.stderr}\nerror: exit status {done.returncode} of {' '.join(map(str, command))}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def commands(options, folder):
    """Writes the list of files for the peers; returns the command that measures each form, by the form's name."""
    paths = [str(path.absolute()) for path in images_in(options.images)]
    listing = folder / "list.txt"
    listing.write_text("\n".join((paths * -(-options.count // len(paths)))[: options.count]))
    own = [sys.executable, __file__, f"--images={options.images}", f"--count={options.count}", f"--cache={folder}"]
    found = {name: [*own, f"--workers={options.workers}", f"--ours={name}"] for name in OURS}
    shared = [f"--list={listing}", f"--side={SIDE}", f"--batch={BATCH}", f"--workers={options.workers}"]
    peers = ROOT / "benchmarks" / "peers"
    if options.torch_python:
        found["torch"] = [options.torch_python, peers / "input_torch.py", *shared]
    if options.tensorflow_python:
        tensorflow = [options.tensorflow_python, peers / "input_tensorflow.py", *shared]
        found |= {"tf.data": [*tensorflow, "--antialias=1"], "tf.data plain": [*tensorflow, "--antialias=0"]}
    return found


def main():
    options = arguments()
    if options.ours:
        measure_ours(options)
        return
    load = os.getloadavg()[0]
    rates, versions = {}, {}
    with tempfile.TemporaryDirectory() as temporary:
        forms = commands(options, pathlib.Path(temporary))
        for number in range(options.rounds):
            for name, command in forms.items():
                result = run(command)
                rates.setdefault(name, []).append(result["rate"])
                versions[name] = result["versions"]
                print(f"round {number}: {name} {result['rate']:,.0f} images/s", file=sys.stderr)
    medians = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{options.workers} cores, load {load:.2f} before the start, medians of {options.rounds}")
    if load > QUIET:
        print("The machine was busy: do not quote these figures")
    for name, rate in medians.items():
        packages = ", ".join(f"{package} {version}" for package, version in versions[name].items())
        print(f"{name:14}{rate:12,.0f} images/s   {rate / medians['stream']:6.2f} x stream   {packages}")


if __name__ == "__main__":
    main()
