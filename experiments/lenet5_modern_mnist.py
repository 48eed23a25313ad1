"""LeNet-5 as the course teaches it: average pooling, tanh, dense C3, softmax, 61,706 parameters.

Three convolutions, two average poolings, two dense layers on 32x32 images. The connection table, the trainable
subsampling and the radial basis output of 1998 are lenet5_mnist; the notebook's network is lenet_mnist.

Source: the course's first lesson on LeNet-5; LeCun et al. 1998 for the sizes. Optimiser and dropout are ours, chosen on
5,000 held-out training images.

Command: python launch.py --experiment=lenet5_modern_mnist

Protocol: all 60,000 images train; the test images are measured after every epoch for the curve, and choose nothing.
"""

from cnn_jax.config import Config, Data, LeNet5, Optimizer, Pool, Schedule, Train


def config() -> Config:
    """Returns the settings."""
    return Config(
        model=LeNet5(
            activation="tanh",
            pool=Pool.of(kind="average"),
            connections="dense",
            output="softmax",
            init="glorot_uniform",
            dropout=0.2,
        ),
        data=Data.of(name="mnist", size=32, low=-0.1, high=1.175),
        optimizer=Optimizer.of(name="adamw", learning_rate=1e-3, weight_decay=0.05, ema=0.999),
        schedule=Schedule.of(name="cosine", warmup="500 steps"),
        train=Train(batch_size=64, duration="20 epochs"),
    )
