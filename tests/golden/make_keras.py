"""Golden values of the Keras notebook's two networks: the losses of a few steps, then logits with running statistics.

To make them again, where Keras and TensorFlow are installed (made with Keras 3.15.1, TensorFlow 2.21.0, CPU):

    PYTHONPATH=tests python -m golden.make_keras
"""

import keras
import numpy as np
from golden import recipe
from keras import layers

LENET = {"shape": (28, 28, 1), "batch": 32, "steps": 20}  # Adam, rate 0.001
ALEXNET = {"shape": (215, 215, 3), "batch": 8, "steps": 4}  # SGD with momentum; the smallest image that fits
RATE, MOMENTUM = 0.00001, 0.9  # small steps: rounding errors do not grow


def lenet() -> keras.Model:
    """The notebook's LeNet; dense layers end in logits."""
    return keras.Sequential(
        [
            layers.Input(LENET["shape"]),
            *[layers.Conv2D(6, 5, activation="tanh", name="conv1"), layers.MaxPooling2D(2, 2)],
            *[layers.Conv2D(16, 5, activation="tanh", name="conv2"), layers.MaxPooling2D(2, 2)],
            layers.Flatten(),
            layers.Dense(120, activation="tanh", name="dense1"),
            layers.Dense(84, activation="tanh", name="dense2"),
            layers.Dense(recipe.CLASSES, name="output"),
        ]
    )


def alexnet() -> keras.Model:
    """The notebook's AlexNet, with its dropout left out."""
    relu = lambda: layers.Activation("relu")
    norm = lambda number: layers.BatchNormalization(name=f"norm{number}")
    pool = lambda: layers.MaxPooling2D(2, 2)
    return keras.Sequential(
        [
            layers.Input(ALEXNET["shape"]),
            *[layers.Conv2D(96, 11, strides=4, name="conv1"), relu(), pool(), norm(1)],
            *[layers.Conv2D(256, 11, name="conv2"), relu(), pool(), norm(2)],
            *[layers.Conv2D(384, 3, name="conv3"), relu(), norm(3)],
            *[layers.Conv2D(384, 3, name="conv4"), relu(), norm(4)],
            *[layers.Conv2D(256, 3, name="conv5"), relu(), pool(), norm(5)],
            layers.Flatten(),
            *[layers.Dense(4096, name="dense1"), relu(), norm(6)],
            *[layers.Dense(4096, name="dense2"), relu(), norm(7)],
            layers.Dense(recipe.CLASSES, name="output"),
        ]
    )


def set_weights(model: keras.Model) -> None:
    """Draws kernels and biases; batch normalisation keeps what it begins with."""
    drawn = [(layer, name) for layer in model.layers if hasattr(layer, "kernel") for name in ("kernel", "bias")]
    shapes = {(layer.name, name): tuple(getattr(layer, name).shape) for layer, name in drawn}
    for (layer, name), value in recipe.weights(shapes, seed=1).items():
        getattr(model.get_layer(layer), name).assign(value)


def results(network: str) -> dict:
    """The loss of each step, then logits of the first two images of the first batch.

    Args:
      network: "lenet" or "alexnet_notebook".
    """
    if network == "lenet":
        model, optimizer, sizes = lenet(), keras.optimizers.Adam(0.001), LENET
    else:
        model, optimizer, sizes = alexnet(), keras.optimizers.SGD(RATE, momentum=MOMENTUM), ALEXNET
    set_weights(model)
    model.compile(optimizer, keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    images, labels = recipe.batches(sizes["steps"], sizes["batch"], sizes["shape"], seed=2)
    images = recipe.centred(images)
    losses = [float(model.train_on_batch(*both)) for both in zip(images, labels)]
    return {"losses": losses, "logits": np.asarray(model(images[0, :2], training=False)).tolist()}


if __name__ == "__main__":
    recipe.save("keras", {network: results(network) for network in ("lenet", "alexnet_notebook")})
