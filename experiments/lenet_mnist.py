"""The Keras notebook's LeNet on MNIST: max pooling, tanh, 44,426 parameters, Adam, 10 epochs.

Two convolutions, two max poolings, three dense layers on 28x28 images: the notebook's code. Its prose, and the course,
describe average pooling and three convolutions: that network is lenet5_modern_mnist.

Source: the notebook: Glorot uniform, Adam 1e-3 (epsilon 1e-7), batch 32, pixels / 255. Addition: what is measured and
kept are the parameters averaged over the last thousand steps or so; they change nothing in training. To measure the
last step's own, as the notebook does: --set optimizer.ema=0.

Command: python launch.py --experiment=lenet_mnist

Protocol: as the notebook, all 60,000 images train and the test images are measured after every epoch, for the curve
only; nothing is chosen by them: the result is that of the last step. To choose by held-out images instead, add
--set data.validation=5000 (a fixed 55,000/5,000 split).
"""

from cnn_jax.config import Config, Data, LeNet, Optimizer, Pool, Train


def config() -> Config:
    """Returns the settings."""
    return Config(
        model=LeNet(activation="tanh", pool=Pool.of(kind="max", window=2, stride=2), init="glorot_uniform"),
        data=Data.of(name="mnist"),
        optimizer=Optimizer.of(name="adam", learning_rate=1e-3, epsilon=1e-7, ema=0.999),
        train=Train(batch_size=32, duration="10 epochs"),
    )
