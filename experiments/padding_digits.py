"""Paddings on 1,797 real digits: seven in a ReLU LeNet, five seeds each, in a few minutes on a laptop.

What lies beyond the edge: zeros, the image's mirror image, its last row again, its other side, or nothing; and full
padding, of four pixels, whose maps are larger. Besides accuracy: digits moved to the border, and activation at the edge
of the maps. The report shows a piece of an image under each padding, and what each makes of a plain grey image.

Command: python launch.py --experiment=padding_digits

Protocol: 1,437 images train, 360 test, which choose nothing; the last step's parameters count.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet, Log, Optimizer, Padding, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    fills = ("reflect", "replicate", "circular", "partial")
    size = "maps of another size, and with them the first dense layer"
    return Study(
        base=Config(
            model=LeNet(activation="relu", padding=Padding(mode="same")),
            data=Data.of(name="digits"),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="1 epochs"),
            train=Train(batch_size=32, duration="15 epochs"),
            evaluation=Evaluation(every="3 epochs"),
            log=Log(every="1 epochs", tensorboard=False),
        ),
        arms=(
            Arm(name="zero"),
            *(Arm(name=fill, changes=(f"model.padding.fill={fill}",)) for fill in fills),
            *(Arm(name=mode, changes=(f"model.padding.mode={mode}",), parameters=size) for mode in ("valid", "full")),
        ),
        baseline="zero",
        protocol=Protocol(seeds=5, measurements=("border", "edges")),
    )
