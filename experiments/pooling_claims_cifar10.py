"""Recent poolings that are claimed to be best on LeNet-5, against max, average and controls of scale; CIFAR-10.

Avg-TopK (Özdemir 2023), T-Max-Avg (Zhao and Zhang 2024), ATP (Aprilio and Wan Sen 2026) and alpha pooling (CMC 87(3),
2026) report gains of up to many points with one network each. Here every arm has the learning rate that is best for it,
ten seeds, and beside each kind that changes the scale of the maps stands an old one at that scale: for independent
values with a ReLU, the root mean square of a maximum of four is 2.5 times that of their mean and 1.4 times that of the
mean of the two largest or of half the sum of maximum and average.

The formulas of T-Max-Avg and ATP were not to be found at their sources: those arms are our reading of the abstracts.

Command: python launch.py --experiment=pooling_claims_cifar10

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 50,000 train, for 6
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end, and choose nothing.
"""

import dataclasses

from cnn_jax.config import Data, Study, experiments


def study() -> Study:
    """Returns the arms of pooling_claims_mnist, on colour photographs and for longer."""
    claims = experiments.load("pooling_claims_mnist")
    photographs = Data.of(name="cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616))
    train = dataclasses.replace(claims.base.train, duration="6 epochs")
    return dataclasses.replace(claims, base=dataclasses.replace(claims.base, seed=350, data=photographs, train=train))
