"""Poolings on MNIST: thirteen arms on a ReLU LeNet and five on a tanh one, ten seeds each.

Only the two poolings differ (and, in the tanh arms, the activation); where an arm needs parameters of its own it says
so. With tanh, minimum and maximum pooling must come out alike: turning the signs of the weights around turns one into
the other. With ReLU they need not.

Command: python launch.py --experiment=pooling_mnist

Protocol: all 60,000 images train, for 5 epochs of batches of 128 with one schedule for all arms, untuned; the last
step's parameters count. The 10,000 test images are measured once, at the end, and choose nothing.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet, Log, Optimizer, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """The arms."""
    pool = lambda name, *changes, **rest: Arm(name=name, changes=(f"model.pool.kind={name}", *changes), **rest)
    tanh = lambda kind: Arm(name=f"tanh_{kind}", changes=("model.activation=tanh", f"model.pool.kind={kind}"))
    return Study(
        base=Config(
            model=LeNet(activation="relu"),
            data=Data.of(name="mnist"),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="0.5 epochs"),
            train=Train(batch_size=128, duration="5 epochs"),
            evaluation=Evaluation(every="1 epochs"),
            log=Log(every="0.2 epochs", tensorboard=False),
        ),
        arms=(
            Arm(name="max"),
            *map(pool, ("average", "min", "lp", "log_sum_exp", "soft", "max_average", "stochastic")),
            pool("mixed", "model.pool.learned=true", parameters="the share of the maximum, one number a layer"),
            pool("gated", parameters="a gate of four weights a layer"),
            pool("max_blur"),
            pool("aps"),
            pool("lps", parameters="two convolutions a layer, whose logits choose"),
            *map(tanh, ("max", "min", "average", "soft", "max_blur")),
        ),
        baseline="max",
        pairs=(("tanh_min", "tanh_max"),),
        protocol=Protocol(seeds=10, measurements=("consistency", "circular", "shift_map", "equivariance"), images=2000),
    )
