"""Poolings in a small AlexNet on CIFAR-10: twelve arms and two controls of scale, five seeds each. For a GPU.

Every arm has the learning rate that is best for it. The controls give the average of nine values the scale of their
maximum, and the maximum that of maximum + average; the factors are ratios of root mean squares, for independent normal
values after a ReLU. Batch normalisation behind the next convolution takes out most of a scale by itself.

Command: python launch.py --experiment=pooling_cifar10_full

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 50,000 train, for 30
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end.
"""

from cnn_jax.config import (
    AlexNetSmall,
    Augment,
    Config,
    Data,
    Evaluation,
    Log,
    Optimizer,
    Pool,
    Protocol,
    Schedule,
    Train,
)
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    pool = lambda name, *changes, **rest: Arm(name=name, changes=(f"model.pool.kind={name}", *changes), **rest)
    return Study(
        base=Config(
            model=AlexNetSmall(norm="batch", pool=Pool(window=3, stride=2)),
            data=Data.of(name="cifar10", size=40, crop=32, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616)),
            augment=Augment(flip=True),
            optimizer=Optimizer.of(name="sgd", learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
            schedule=Schedule.of(name="cosine", warmup="1 epochs"),
            train=Train(batch_size=128, duration="30 epochs"),
            evaluation=Evaluation(every="2 epochs"),
            log=Log(every="0.5 epochs", tensorboard=False),
        ),
        arms=(
            Arm(name="max"),
            *map(pool, ("average", "min", "lp", "soft", "max_average", "stochastic", "max_blur", "aps")),
            pool("gated", parameters="a gate of nine weights a layer"),
            pool("strided", parameters="padded strides round sizes up: a larger last map"),
            Arm(
                name="max_2x2",
                changes=("model.pool.window=2",),
                parameters="a last map of 4x4 in place of 3x3",
            ),
            Arm(name="average_x3.6", changes=("model.pool.kind=average", "model.pool.scale=3.6")),
            Arm(name="max_x1.3", changes=("model.pool.scale=1.27",)),
        ),
        baseline="max",
        pairs=(("max_average", "max_x1.3"),),
        protocol=Protocol(
            seeds=5,
            sweep="optimizer.learning_rate=0.02,0.05,0.1",
            sweep_seeds=2,
            measurements=("consistency", "circular", "shift_map"),
            images=2000,
        ),
    )
