"""Stochastic pooling on MNIST, in the network of Zeiler and Fergus 2013: few images and many passes, ten seeds.

They trained one network of each kind and published test errors of 0.47 % (stochastic), 0.55 (max) and 0.83 (average):
stochastic pooling is to keep a network from learning its training images by heart. Two cores cannot train theirs, 64
features wide, for 280 passes over 60,000 images. This is a narrow form, for the same question: 16 features, 5,000
images, 20 passes, which is enough to know them all. A control gives the average of nine values the scale of their
maximum; the factor is the ratio of root mean squares, for independent normal values after a ReLU. Theirs was gradient
descent with momentum; here some networks of the control did not learn with it, so this is Adam with a warm-up.

Source: arXiv 1301.3557.

Command: python launch.py --experiment=stochastic_mnist

Protocol: rates are chosen on 5,000 other training images with seeds of their own; the last step's parameters count.
The 10,000 test images are measured once, at the end, and choose nothing.
"""

from cnn_jax.config import Config, Data, Evaluation, Log, Optimizer, Protocol, Schedule, Train, ZeilerFergus
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    pool = lambda name, kind, *changes: Arm(name=name, changes=(f"model.pool.kind={kind}", *changes))
    return Study(
        base=Config(
            seed=1300,
            model=ZeilerFergus(width=16, layout="CHWN"),  # faster for few features on a CPU
            data=Data.of(name="mnist", limit=5000),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="1 epochs"),
            train=Train(batch_size=128, duration="20 epochs"),
            evaluation=Evaluation(every="5 epochs"),
            log=Log(every="2 epochs", tensorboard=False),
        ),
        arms=(
            Arm(name="max"),
            pool("average", "average"),
            pool("stochastic", "stochastic"),
            pool("average_x3.6", "average", "model.pool.scale=3.6"),
        ),
        baseline="max",
        pairs=(("stochastic", "average"),),
        protocol=Protocol(
            seeds=10,
            sweep="optimizer.learning_rate=0.002,0.004,0.008,0.016",
            sweep_seeds=2,
        ),
    )
