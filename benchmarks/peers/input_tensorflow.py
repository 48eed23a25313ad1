"""The decoding of benchmarks/input_pipeline.py by tf.data; called by that script."""

import argparse
import json
import pathlib
import time

import tensorflow as tf


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--list", required=True, help="text file of image paths, one a line")
    for name in ("side", "batch", "workers"):
        parser.add_argument(f"--{name}", type=int, required=True)
    parser.add_argument("--antialias", type=int, required=True, help="1: widen the filter when scaling down, as Pillow")
    options = parser.parse_args()
    paths = pathlib.Path(options.list).read_text().splitlines()
    side = options.side

    def read(path):
        image = tf.io.decode_jpeg(tf.io.read_file(path), channels=3)
        height, width = tf.shape(image)[0], tf.shape(image)[1]
        short = tf.minimum(height, width)
        square = tf.image.crop_to_bounding_box(image, (height - short) // 2, (width - short) // 2, short, short)
        scaled = tf.image.resize(square, (side, side), antialias=bool(options.antialias))
        return tf.cast(tf.round(scaled), tf.uint8)

    dataset = tf.data.Dataset.from_tensor_slices(paths).map(read, num_parallel_calls=tf.data.AUTOTUNE)
    dataset = dataset.batch(options.batch).prefetch(tf.data.AUTOTUNE)
    threads = tf.data.Options()
    threads.threading.private_threadpool_size = options.workers
    batches = iter(dataset.with_options(threads))
    next(batches)
    began, count = time.perf_counter(), 0
    for images in batches:
        count += images.shape[0]
    rate = count / (time.perf_counter() - began)
    print(json.dumps({"rate": rate, "versions": {"tensorflow": tf.__version__}}))


if __name__ == "__main__":
    main()
