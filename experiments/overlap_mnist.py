"""Overlapping pooling on MNIST: windows of 3 against windows of 2, both with a stride of 2 and maps of the same size.

AlexNet's 3x3 windows "reduced the top-1 error by 0.4 %" (2012), but there the maps changed as well. Here they do not: a
row and a column beyond the bottom and the right edge, which never win and never count, leave 12x12 and 4x4 maps.

Command: python launch.py --experiment=overlap_mnist

Protocol: as pooling_mnist.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet, Log, Optimizer, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """The arms."""
    overlapping = ("model.pool.window=3", "model.pool.padding=0,1,0,1")
    average = "model.pool.kind=average"
    return Study(
        base=Config(
            model=LeNet(activation="relu"),
            data=Data.of(name="mnist"),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="0.5 epochs"),
            train=Train(batch_size=128, duration="5 epochs"),
            evaluation=Evaluation(every="1 epochs"),
            log=Log(every="0.2 epochs", tensorboard=False),
        ),
        arms=(
            Arm(name="max_2x2"),
            Arm(name="max_3x3", changes=overlapping),
            Arm(name="average_2x2", changes=(average,)),
            Arm(name="average_3x3", changes=(average, *overlapping)),
        ),
        baseline="max_2x2",
        pairs=(("average_3x3", "average_2x2"),),
        protocol=Protocol(seeds=10, measurements=("consistency", "shift_map"), images=2000),
    )
