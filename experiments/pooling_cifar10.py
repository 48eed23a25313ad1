"""Poolings in a small, narrow AlexNet on CIFAR-10: five kinds and two controls of scale, five seeds. For two cores.

An eighth of the features of alexnet_cifar10, without dropout, and three epochs; pooling_cifar10_full has the whole
network, thirty epochs and twice the arms. Every arm has the learning rate that is best for it. The controls give the
average of nine values the scale of their maximum, and the maximum that of maximum + average.

Command: python launch.py --experiment=pooling_cifar10

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 50,000 train, for 3
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end.
"""

import dataclasses

from cnn_jax.config import Evaluation, Schedule, Study, Train, experiments

ARMS = ("max", "average", "stochastic", "max_average", "max_blur", "average_x3.6", "max_x1.3")


def study() -> Study:
    """Returns seven arms of pooling_cifar10_full."""
    full = experiments.load("pooling_cifar10_full")
    base = dataclasses.replace(
        full.base,
        seed=1400,
        model=dataclasses.replace(full.base.model, width=8, dropout=0.0, layout="CHWN"),  # few features, CPU
        schedule=Schedule.of(name="cosine", warmup="0.5 epochs"),
        train=Train(batch_size=128, duration="3 epochs"),
        evaluation=Evaluation(every="1 epochs"),
    )
    return dataclasses.replace(full, base=base, arms=tuple(arm for arm in full.arms if arm.name in ARMS))
