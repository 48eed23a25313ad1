"""The order of activation and pooling on MNIST: before or after it, with max and with average pooling.

A rising activation and a maximum may change places: the two arms with max pooling must come out the same, which is a
check of this study. With average pooling they are different networks.

Command: python launch.py --experiment=order_mnist

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 60,000 train, for 4
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end, and choose nothing.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet, Log, Optimizer, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study

ORDERS = {"before": "activation_pool", "after": "pool_activation"}  # the activation, seen from the pooling


def study() -> Study:
    """Returns the arms."""
    crossed = lambda kind, order: Arm(
        name=f"{kind}_{order}",
        changes=(f"model.pool.kind={kind}", f"model.order={ORDERS[order]}"),
        levels=(order, kind),
    )
    return Study(
        base=Config(
            seed=800,
            model=LeNet(activation="relu"),
            data=Data.of(name="mnist"),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="0.5 epochs"),
            train=Train(batch_size=128, duration="4 epochs"),
            evaluation=Evaluation(every="1 epochs"),
            log=Log(every="0.5 epochs", tensorboard=False),
        ),
        arms=tuple(crossed(kind, order) for kind in ("max", "average") for order in ORDERS),
        baseline="max_before",
        factors=("activation", "pool"),
        within="pool",
        protocol=Protocol(
            seeds=10,
            sweep="optimizer.learning_rate=0.004,0.008,0.016,0.032",
            sweep_seeds=2,
        ),
    )
