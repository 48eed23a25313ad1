"""Poolings on 1,797 real digits: eight kinds in a ReLU LeNet, five seeds each, in two minutes on a laptop.

What pooling does to accuracy is small here; what it does under shifts is not. Every arm has the same weights to begin
with, the same order of images and the same number of parameters; only the two poolings differ. One learning rate serves
all, and scales are not matched: how good a pooling is at its best, pooling_mnist asks.

Command: python launch.py --experiment=pooling_digits

Protocol: 1,437 images train, 360 test, which choose nothing; the last step's parameters count.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet, Log, Optimizer, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    kinds = ("average", "min", "lp", "soft", "max_average", "stochastic")
    return Study(
        base=Config(
            model=LeNet(activation="relu"),
            data=Data.of(name="digits"),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="1 epochs"),
            train=Train(batch_size=32, duration="15 epochs"),
            evaluation=Evaluation(every="3 epochs"),
            log=Log(every="1 epochs", tensorboard=False),
        ),
        arms=(
            Arm(name="max"),
            *(Arm(name=kind, changes=(f"model.pool.kind={kind}",)) for kind in kinds),
            Arm(name="max_blur", changes=("model.pool.kind=max_blur",)),
        ),
        baseline="max",
        protocol=Protocol(seeds=5, measurements=("consistency", "shift_map")),
    )
