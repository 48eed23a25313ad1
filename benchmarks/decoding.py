"""Images per second that reach this process from JPEGs that are decoded in threads or in processes, by number of cores.

    python benchmarks/decoding.py --images=FOLDER [--cores=2,8,16,64]

A machine with few cores stands for one with many: what decoding does without Python's lock is replaced by a sleep of
its length, measured before, so that any number of threads or processes can do it at the same time; what holds the lock
is done. Batches of 128 images of 256x256, for which this process does nothing but wait. `own` is the time of a core
that this process itself spends for an image: its inverse is how many it can take in, however many cores decode.

With `--grain`, the same from Grain's worker processes (`pip install grain`).
"""

import argparse
import importlib.util
import pathlib
import sys
import time
from unittest import mock

import numpy as np
from PIL import Image, ImageFile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from cnn_jax.data.images import decode, reader  # noqa: E402

SIDE, BATCH = 256, 128


def arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", required=True, help="folder of JPEG files")
    parser.add_argument("--cores", default="2,8,16,64", help="numbers of cores to stand for; default: %(default)s")
    parser.add_argument("--seconds", type=float, default=10, help="of each measurement; default: %(default)s")
    parser.add_argument("--grain", action="store_true", help="measure Grain's processes too")
    return parser.parse_args()


def contents(folder):
    found = sorted(path for path in pathlib.Path(folder).rglob("*") if path.suffix.lower() in (".jpg", ".jpeg"))
    if not found:
        sys.exit(f"error: --images={folder} holds no .jpg or .jpeg file")
    return [path.read_bytes() for path in found]


def parts(encoded):
    """The seconds that decoding an image takes, and those of them with Python's lock."""
    free = 0.0

    def timed(call):  # of Pillow: these two let the lock go
        def do(*args, **kwargs):
            nonlocal free
            began = time.perf_counter()
            try:
                return call(*args, **kwargs)
            finally:
                free += time.perf_counter() - began

        return do

    with mock.patch.object(Image.Image, "resize", timed(Image.Image.resize)):
        with mock.patch.object(ImageFile.ImageFile, "load", timed(ImageFile.ImageFile.load)):
            for one in encoded[:20]:
                decode.square(one, SIDE, "warm")
            free, began = 0.0, time.perf_counter()
            for one in encoded:
                decode.square(one, SIDE, "")
    whole = (time.perf_counter() - began) / len(encoded)
    return whole, max(whole - free / len(encoded), 0.0)


def reading(free, held):
    """A function that stands for decoding an image: a sleep without the lock, and work with it."""
    picture = np.zeros((SIDE, SIDE, 3), np.uint8)

    def read(row):
        time.sleep(free)
        until = time.perf_counter() + held
        while time.perf_counter() < until:
            pass
        picture[0, 0] = row % 251
        return picture.copy()

    return read


def measured(cores, processes, read, seconds):
    """Images per second, and seconds of this process for an image."""
    source = reader.ImageSource("sleeping", (SIDE, SIDE, 3), np.zeros(2**20, np.int32), read, {})
    images = reader.LazyImages(source, np.arange(2**20), cores, processes=processes)
    begin = lambda k: images.begin(np.arange(k * BATCH, (k + 1) * BATCH), ahead=True)
    under_way = [begin(k) for k in range(images.ahead // BATCH)]
    for _ in range(2 * images.ahead // BATCH):  # the processes start
        under_way.append(begin(len(under_way)))
        under_way.pop(0).result()
    count, began, own = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        under_way.append(begin(count))
        under_way.pop(0).result()
        count += 1
    rate = count * BATCH / (time.perf_counter() - began)
    own = (time.process_time() - own) / (count * BATCH)
    for each in under_way:
        each.cancel()
    return rate, own


def measured_with_grain(cores, read, seconds):
    import grain
    from absl import flags

    if not flags.FLAGS.is_parsed():
        flags.FLAGS(sys.argv[:1])  # Grain asks for its own
    data = grain.MapDataset.range(2**20).map(read).batch(BATCH).to_iter_dataset(grain.ReadOptions(num_threads=1))
    batches = iter(data.mp_prefetch(grain.MultiprocessingOptions(num_workers=cores, per_worker_buffer_size=2)))
    for _ in range(2 * cores):
        next(batches)
    count, began, own = 0, time.perf_counter(), time.process_time()
    while time.perf_counter() - began < seconds:
        next(batches)
        count += 1
    seen = time.perf_counter() - began
    return count * BATCH / seen, (time.process_time() - own) / (count * BATCH)


def main():
    args = arguments()
    if args.grain and not importlib.util.find_spec("grain"):
        sys.exit("error: --grain: pip install grain")
    whole, held = parts(contents(args.images))
    print(f"decoding an image: {1e3 * whole:.2f} ms, of which {1e3 * held:.2f} with Python's lock", flush=True)
    read = reading(whole - held, held)
    print("cores  kind        images/s   of cores x 1 core   own ms an image   this process could take")
    for cores in map(int, args.cores.split(",")):
        kinds = {"threads": lambda: measured(cores, False, read, args.seconds)}
        kinds["processes"] = lambda: measured(cores, True, reading(whole, 0.0), args.seconds)
        if args.grain:
            kinds["grain"] = lambda: measured_with_grain(cores, reading(whole, 0.0), args.seconds)
        for name, measure in kinds.items():
            rate, own = measure()
            share = 100 * rate * whole / cores
            print(f"{cores:5d}  {name:<10} {rate:9,.0f} {share:15.0f} % {1e3 * own:17.4f} {1 / own:23,.0f}", flush=True)


if __name__ == "__main__":
    main()
