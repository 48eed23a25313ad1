"""The notebook's LeNet on Fashion-MNIST: ten kinds of clothing in the format of MNIST.

The network and recipe of lenet_mnist on a harder set.

Source: Xiao, Rasul and Vollgraf 2017 for the data.

Command: python launch.py --experiment=lenet_fashion_mnist

Protocol: 55,000 images train, 5,000 held-out ones choose the checkpoint, the test images are looked at once.
"""

from cnn_jax.config import Augment, Config, Data, LeNet, Optimizer, Schedule, Train


def config() -> Config:
    """Returns the settings."""
    return Config(
        model=LeNet(),
        data=Data.of(name="fashion_mnist", validation=5000),
        augment=Augment(flip=True),
        optimizer=Optimizer.of(name="adam", learning_rate=1e-3),
        schedule=Schedule.of(name="cosine"),
        train=Train(batch_size=32, duration="10 epochs"),
    )
