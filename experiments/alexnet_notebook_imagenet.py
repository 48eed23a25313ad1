"""The Keras notebook's AlexNet variant on ImageNet: 11x11 second convolution, 2x2 pools, batch normalisation.

28,075,752 parameters with 1000 classes. What sets it apart from the paper: no LRN, no groups, pools that do not
overlap, no padding (so that the last map is a single pixel), batch normalisation after pooling, dropout 0.4.

Source: the notebook's network; Adam at Keras's defaults, pixels / 255, centre crops. It gives no ImageNet result.

Command: python launch.py --experiment=alexnet_notebook_imagenet

Protocol: the 50,000 validation images are what is reported; they choose nothing.
"""

from cnn_jax.config import AlexNetNotebook, Augment, Config, Data, Evaluation, Optimizer, Train


def config() -> Config:
    """Returns the settings."""
    return Config(
        model=AlexNetNotebook(),
        data=Data.of(name="imagenet2012", crop=224),
        augment=Augment(flip=True),
        optimizer=Optimizer.of(name="adam", learning_rate=1e-3),
        train=Train(batch_size=128, duration="90 epochs"),
        evaluation=Evaluation(batch_size=100),
    )
