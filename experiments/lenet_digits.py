"""LeNet on scikit-learn's 1,797 real handwritten digits: seconds on a laptop, no download.

The notebook's LeNet (tanh, max pooling, three dense layers) on 8x8 digits enlarged to 28x28.

Source: the Keras notebook's network; data: UCI optical recognition of handwritten digits, as in scikit-learn.

Command: python launch.py --experiment=lenet_digits

Protocol: 1,437 training and 360 test images by a fixed stratified split; 144 of the training images are held out and
choose the checkpoint; the test images are looked at once, at the end.
"""

from cnn_jax.config import Augment, Checkpoint, Config, Data, Evaluation, LeNet, Log, Optimizer, Schedule, Train


def config() -> Config:
    """Returns the settings."""
    return Config(
        model=LeNet(),
        data=Data.of(name="digits", validation=144),
        augment=Augment(shift=2, rotation=10.0, scale=0.1),
        optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
        schedule=Schedule.of(name="cosine", warmup="1 epochs"),
        train=Train(batch_size=32, duration="60 epochs"),
        evaluation=Evaluation(every="5 epochs"),
        checkpoint=Checkpoint(every="5 epochs"),
        log=Log(every="1 epochs"),
    )
