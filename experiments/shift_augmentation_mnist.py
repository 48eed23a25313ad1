"""Shifts in training against shifts in testing, on MNIST (Azulay and Weiss 2019): 0, 2 and 4 pixels, ten seeds.

They found that one pixel changes the decisions of networks, and that shifted training images help where test images
are like them and little elsewhere. Here a LeNet trains on images that are moved by up to 0, 2 or 4 pixels in black,
with max pooling and with adaptive polyphase sampling; test images are then moved by up to 3, in black and circularly.

Command: python launch.py --experiment=shift_augmentation_mnist

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 60,000 train, for 4
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end, and choose nothing.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet, Log, Optimizer, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    crossed = lambda kind, shift: Arm(
        name=f"{kind}_shift{shift}",
        changes=(f"model.pool.kind={kind}", f"augment.shift={shift}"),
        levels=(f"shift{shift}", kind),
    )
    return Study(
        base=Config(
            seed=900,
            model=LeNet(activation="relu"),
            data=Data.of(name="mnist"),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="0.5 epochs"),
            train=Train(batch_size=128, duration="4 epochs"),
            evaluation=Evaluation(every="1 epochs"),
            log=Log(every="0.5 epochs", tensorboard=False),
        ),
        arms=tuple(crossed(kind, shift) for kind in ("max", "aps") for shift in (0, 2, 4)),
        baseline="max_shift0",
        factors=("training", "pool"),
        within="pool",
        protocol=Protocol(
            seeds=10,
            sweep="optimizer.learning_rate=0.004,0.008,0.016,0.032",
            sweep_seeds=2,
            measurements=("consistency", "circular", "shift_map"),
            images=2000,
        ),
    )
