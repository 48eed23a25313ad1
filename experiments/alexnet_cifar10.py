"""A small AlexNet on CIFAR-10: five padded convolutions, three overlapping poolings, batch normalisation.

Random 32x32 crops of images padded to 40x40 and their mirror images, SGD with Nesterov momentum, cosine.

Source: AlexNet's plan at the size of CIFAR-10; the augmentation of He et al., 2016.

Command: python launch.py --experiment=alexnet_cifar10

Protocol: all 50,000 images train; the test images are measured after every epoch for the curve, and choose nothing.
"""

from cnn_jax.config import AlexNetSmall, Augment, Config, Data, Optimizer, Schedule, Train


def config() -> Config:
    """Returns the settings."""
    return Config(
        model=AlexNetSmall(norm="batch"),
        data=Data.of(name="cifar10", size=40, crop=32, mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616)),
        augment=Augment(flip=True),
        optimizer=Optimizer.of(name="sgd", learning_rate=0.05, momentum=0.9, nesterov=True, weight_decay=5e-4),
        schedule=Schedule.of(name="cosine", warmup="1 epochs"),
        train=Train(batch_size=128, duration="60 epochs"),
    )
