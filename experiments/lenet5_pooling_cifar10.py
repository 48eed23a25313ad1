"""The first lesson's question on a harder set: max, min and average pooling, subsampling and none in LeNet-5, CIFAR-10.

The arms of lenet5_pooling_mnist, which has their reasons, on photographs of 32 pixels in colour. LeNet-5 is small for
them; the question is whether what holds for digits holds for something else.

Command: python launch.py --experiment=lenet5_pooling_cifar10

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 50,000 train, for 4
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end, and choose nothing.
"""

import dataclasses

from cnn_jax.config import Data, Study, experiments


def study() -> Study:
    """Returns the arms of lenet5_pooling_mnist, on colour photographs and with lower rates."""
    digits = experiments.load("lenet5_pooling_mnist")
    photographs = Data.of(name="cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616))
    protocol = dataclasses.replace(digits.protocol, sweep="optimizer.learning_rate=0.001,0.002,0.004,0.008")
    return dataclasses.replace(
        digits, base=dataclasses.replace(digits.base, seed=250, data=photographs), protocol=protocol
    )
