"""LeNet-5 of 1998, down to the parameter: connection table, trainable subsampling, radial basis output; 60,000 of them.

Images 32x32 in -0.1 .. 1.175, squashing 1.7159 tanh(2x/3), the criterion of eq. 9. In place of the stochastic diagonal
Levenberg-Marquardt method it uses AdamW with a cosine schedule.

Source: LeCun, Bottou, Bengio and Haffner 1998, sections II and III, appendix A. Published test error: 0.95 %, and 0.8 %
with distorted images.

Command: python launch.py --experiment=lenet5_mnist

Protocol: all 60,000 images train; the test images are measured after every epoch for the curve, and choose nothing.
"""

from cnn_jax.config import Config, Data, LeNet5, Optimizer, Schedule, Train


def config() -> Config:
    """Returns the settings."""
    return Config(
        model=LeNet5(),
        data=Data.of(name="mnist", size=32, low=-0.1, high=1.175),
        optimizer=Optimizer.of(name="adamw", learning_rate=3e-3, weight_decay=0.05, ema=0.999),
        schedule=Schedule.of(name="cosine", warmup="500 steps"),
        train=Train(batch_size=64, duration="20 epochs"),
    )
