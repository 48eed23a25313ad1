"""Lp pooling on MNIST, from the average to the maximum: powers 1, 2, 3, 8 and infinity, as they are and at one scale.

A power mean is the average at power 1 and the maximum at infinity (Boureau et al. 2010), and its values grow with the
power. So every power is there twice: as it is, and times a factor that gives windows of four independent normal values
after a ReLU the root mean square of their maximum. Every arm has the learning rate that is best for it.

Command: python launch.py --experiment=power_mnist

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 60,000 train, for 4
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end, and choose nothing.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet, Log, Optimizer, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study

SCALES = {"1": 2.51, "2": 1.76, "3": 1.5, "8": 1.18}  # root mean square of the maximum over that of each power mean


def study() -> Study:
    """Returns the arms."""
    power = lambda p, *changes: ("model.pool.kind=lp", *changes, f"model.pool.p={p}")
    return Study(
        base=Config(
            seed=700,
            model=LeNet(activation="relu"),
            data=Data.of(name="mnist"),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="0.5 epochs"),
            train=Train(batch_size=128, duration="4 epochs"),
            evaluation=Evaluation(every="1 epochs"),
            log=Log(every="0.5 epochs", tensorboard=False),
        ),
        arms=(
            Arm(name="max"),
            *(Arm(name=f"power_{p}", changes=power(p)) for p in SCALES),
            *(
                Arm(name=f"power_{p}_x{scale}", changes=power(p, f"model.pool.scale={scale}"))
                for p, scale in SCALES.items()
            ),
        ),
        baseline="max",
        protocol=Protocol(
            seeds=10,
            sweep="optimizer.learning_rate=0.004,0.008,0.016,0.032",
            sweep_seeds=2,
        ),
    )
