"""The first lesson's question on its own network: what does pooling do to LeNet-5?

LeNet-5 as the course has it (32x32 images, tanh, average pooling) with max, min and average pooling, the trainable
subsampling of 1998, and none, the convolutions before having the strides. Two controls: average pooling whose output
has the scale of a maximum's (a maximum of four independent normal values has 2.5 times the root mean square of their
mean), and max pooling at the scale of an average. Every arm has the learning rate that is best for it. Max against
subsampling is the question of Scherer, Müller and Behnke (2010).

Command: python launch.py --experiment=lenet5_pooling_mnist

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 60,000 train, for 4
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end, and choose nothing.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet5, Log, Optimizer, Pool, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    model = LeNet5(
        activation="tanh",
        pool=Pool.of(kind="average"),
        connections="dense",
        output="softmax",
        init="glorot_uniform",
        dropout=0.0,
    )
    kind = lambda name: f"model.pool.kind={name}"
    return Study(
        base=Config(
            seed=200,
            model=model,
            data=Data.of(name="mnist", size=32, low=-0.1, high=1.175),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="0.5 epochs"),
            train=Train(batch_size=128, duration="4 epochs"),
            evaluation=Evaluation(every="1 epochs"),
            log=Log(every="0.5 epochs", tensorboard=False),
        ),
        arms=(
            Arm(name="average"),
            Arm(name="max", changes=(kind("max"),)),
            Arm(name="min", changes=(kind("min"),)),
            Arm(
                name="subsample",
                changes=(kind("subsample"),),
                parameters="a factor and a bias for each map",
            ),
            Arm(name="strided", changes=(kind("strided"),)),
            Arm(name="average_x2.5", changes=("model.pool.scale=2.5",)),
            Arm(name="max_x0.4", changes=(kind("max"), "model.pool.scale=0.4")),
        ),
        baseline="average",
        pairs=(("max", "subsample"), ("max", "min"), ("max", "average_x2.5"), ("max_x0.4", "average")),
        protocol=Protocol(
            seeds=10,
            sweep="optimizer.learning_rate=0.004,0.008,0.016,0.032",
            sweep_seeds=2,
            measurements=("consistency",),
            images=2000,
        ),
    )
