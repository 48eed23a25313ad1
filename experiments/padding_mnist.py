"""Paddings on MNIST: what lies beyond the edge, and what becomes of digits near the border.

Eight fills of "same" padding, with the same number of parameters; then no padding and full padding, whose maps have
other sizes. Besides accuracy: digits moved to the border, activation at the edge of the maps, and how well a linear
probe reads from the last maps where it is looking.

Command: python launch.py --experiment=padding_mnist

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 60,000 train, for 4
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end, and choose nothing.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet, Log, Optimizer, Padding, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    fills = ("reflect", "replicate", "circular", "symmetric", "partial", "mean", "random")
    size = "maps of another size, and with them the first dense layer"
    return Study(
        base=Config(
            seed=600,
            model=LeNet(activation="relu", padding=Padding(mode="same")),
            data=Data.of(name="mnist"),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="0.5 epochs"),
            train=Train(batch_size=128, duration="4 epochs"),
            evaluation=Evaluation(every="1 epochs"),
            log=Log(every="0.5 epochs", tensorboard=False),
        ),
        arms=(
            Arm(name="zero"),
            *(Arm(name=fill, changes=(f"model.padding.fill={fill}",)) for fill in fills),
            *(Arm(name=mode, changes=(f"model.padding.mode={mode}",), parameters=size) for mode in ("valid", "full")),
        ),
        baseline="zero",
        protocol=Protocol(
            seeds=10,
            sweep="optimizer.learning_rate=0.004,0.008,0.016,0.032",
            sweep_seeds=2,
            measurements=("consistency", "border", "edges", "position"),
            images=2000,
        ),
    )
