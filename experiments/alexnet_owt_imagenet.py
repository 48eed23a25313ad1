"""Torchvision's AlexNet on ImageNet by torchvision's recipe: one column, no normalisation, 61,100,840 parameters.

Random resized crops and mirror images, SGD with momentum, the rate divided by ten every 30 of 90 epochs.

Source: PyTorch's reference script for image classification and its published weights: 56.52 % top-1 and 79.07 % top-5
accuracy with one centre crop. The network follows Krizhevsky, 2014. Not trained here in full.

Departures: crops are cut from the stored square of 256x256 pixels, the middle of the photograph (torchvision: from the
whole of it). Their area is uniform and the shape one that fits; torchvision draws both anew until they fit, which makes
large areas rarer.

Command: python launch.py --experiment=alexnet_owt_imagenet
Their weights: python launch.py --experiment=alexnet_owt_imagenet --mode=eval --init_from=alexnet.safetensors

Protocol: the 50,000 validation images are what is reported; they choose nothing.
"""

from cnn_jax.config import AlexNetOWT, Augment, Config, Data, Evaluation, Optimizer, Schedule, Train


def config() -> Config:
    """Returns the settings."""
    return Config(
        model=AlexNetOWT(),
        data=Data.of(name="imagenet2012", crop=224, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        augment=Augment(flip=True, area=0.08),
        optimizer=Optimizer.of(name="sgd", learning_rate=0.01, momentum=0.9, weight_decay=1e-4, decay_biases=True),
        schedule=Schedule.of(name="step", drops=("30 epochs", "60 epochs"), factor=0.1),
        train=Train(batch_size=256, duration="90 epochs"),
        evaluation=Evaluation(batch_size=100),
    )
