"""Overlapping pooling on MNIST: windows of 3 against windows of 2, both with a stride of 2 and maps of the same size.

AlexNet's 3x3 windows "reduced the top-1 error by 0.4 %" (2012), but there the maps changed as well. Here they do not: a
row and a column beyond the bottom and the right edge, which never win and never count, leave 12x12 and 4x4 maps.
Windows of 3 are compared with windows of 2 for max and for average pooling by themselves, each with its best learning
rate.

Command: python launch.py --experiment=overlap_mnist

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 60,000 train, for 4
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end, and choose nothing.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet, Log, Optimizer, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    crossed = lambda kind, side, *changes: Arm(
        name=f"{kind}_{side}", changes=(f"model.pool.kind={kind}", *changes), levels=(side, kind)
    )
    overlapping = ("model.pool.window=3", "model.pool.padding=0,1,0,1")
    return Study(
        base=Config(
            seed=500,
            model=LeNet(activation="relu"),
            data=Data.of(name="mnist"),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="0.5 epochs"),
            train=Train(batch_size=128, duration="4 epochs"),
            evaluation=Evaluation(every="1 epochs"),
            log=Log(every="0.5 epochs", tensorboard=False),
        ),
        arms=(
            crossed("max", "2x2"),
            crossed("max", "3x3", *overlapping),
            crossed("average", "2x2"),
            crossed("average", "3x3", *overlapping),
        ),
        baseline="max_2x2",
        factors=("window", "pool"),
        within="pool",
        protocol=Protocol(
            seeds=10,
            sweep="optimizer.learning_rate=0.004,0.008,0.016,0.032",
            sweep_seeds=2,
            measurements=("consistency", "shift_map"),
            images=2000,
        ),
    )
