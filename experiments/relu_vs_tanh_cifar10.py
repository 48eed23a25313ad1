"""ReLU against tanh on CIFAR-10, in epochs to 25 % training error: figure 1 of the AlexNet paper, for two cores.

"A four-layer convolutional neural network with ReLUs reaches a 25 % training error rate on CIFAR-10 six times faster
than an equivalent network with tanh neurons. The learning rates for each network were chosen independently to make
training as fast as possible. No regularization of any kind was employed." Here the network has half the features, and
learns 10,000 of the 50,000 images, each activation with three rates; relu_vs_tanh_cifar10_full has it all.

Source: Krizhevsky, Sutskever and Hinton, 2012, figure 1. The paper does not give the network; see models/small.py.

Command: python launch.py --experiment=relu_vs_tanh_cifar10

Protocol: 10,000 images train, for 30 epochs; the figure is the first half of an epoch whose mean training accuracy is
75 %.
"""

import dataclasses

from cnn_jax.config import Evaluation, FourLayer, Log, Study, Train, experiments

RATES = ("0.01", "0.03", "0.1")


def study() -> Study:
    """Returns the arms of relu_vs_tanh_cifar10_full with three of their rates."""
    full = experiments.load("relu_vs_tanh_cifar10_full")
    base = dataclasses.replace(
        full.base,
        seed=1500,
        model=FourLayer(width=16, layout="CHWN"),  # faster for few features on a CPU
        data=dataclasses.replace(full.base.data, limit=10_000),
        train=Train(batch_size=128, duration="30 epochs"),
        evaluation=Evaluation(every="10 epochs"),
        log=Log(every="0.5 epochs", tensorboard=False),
    )
    return dataclasses.replace(full, base=base, arms=tuple(arm for arm in full.arms if arm.name.endswith(RATES)))
