"""The LeNet of the Keras notebook, trained as a notebook trains it: Sequential, compile, fit. Run by ../lenet_mnist.py.

Prints one line of JSON for each epoch, {"epoch", "seconds" of training alone, "accuracy" on the test set}, and a
last one with the versions.
"""

import argparse
import json
import os
import time

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "2"  # read when TensorFlow is imported
os.environ["KERAS_BACKEND"] = "tensorflow"

import keras  # noqa: E402
import numpy as np  # noqa: E402
import tensorflow as tf  # noqa: E402
from keras import layers  # noqa: E402


class Report(keras.callbacks.Callback):
    """Prints an epoch's training time, which ends where the validation begins, and its test accuracy."""

    def on_epoch_begin(self, epoch, logs=None):
        self.began = time.perf_counter()

    def on_test_begin(self, logs=None):
        self.seconds = time.perf_counter() - self.began

    def on_epoch_end(self, epoch, logs=None):
        line = {"epoch": epoch + 1, "seconds": self.seconds, "accuracy": logs["val_accuracy"]}
        print(json.dumps(line), flush=True)


def lenet():
    """28x28x1 to 10 probabilities; 44,426 parameters. Keras's defaults: Glorot uniform kernels, zero biases."""
    return keras.Sequential(
        [
            keras.Input((28, 28, 1)),
            layers.Conv2D(6, 5, activation="tanh"),
            layers.MaxPooling2D(2),
            layers.Conv2D(16, 5, activation="tanh"),
            layers.MaxPooling2D(2),
            layers.Flatten(),
            layers.Dense(120, activation="tanh"),
            layers.Dense(84, activation="tanh"),
            layers.Dense(10, activation="softmax"),
        ]
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", required=True, help=".npz with x_train, y_train, x_test, y_test")
    parser.add_argument("--epochs", type=int, required=True)
    parser.add_argument("--seed", type=int, required=True)
    parser.add_argument("--steps_per_execution", type=int, default=1, help="steps in one dispatch; Keras's default: 1")
    options = parser.parse_args()

    keras.utils.set_random_seed(options.seed)
    with np.load(options.data) as data:
        x_train, x_test = (data[name].astype("float32") / 255 for name in ("x_train", "x_test"))
        y_train, y_test = data["y_train"], data["y_test"]
    model = lenet()
    model.compile(
        optimizer=keras.optimizers.Adam(1e-3),  # epsilon 1e-7 is Keras's default
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
        steps_per_execution=options.steps_per_execution,
    )
    model.fit(
        x_train,
        y_train,
        batch_size=32,
        epochs=options.epochs,
        validation_data=(x_test, y_test),
        verbose=0,
        callbacks=[Report()],
    )
    print(json.dumps({"versions": {"keras": keras.__version__, "tensorflow": tf.__version__}}))


if __name__ == "__main__":
    main()
