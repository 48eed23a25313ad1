"""Pooling crossed with activation on MNIST: five kinds with ReLU and with tanh, ten seeds each.

Each kind is compared with max pooling of the same activation, and the tests of one activation are one family; then
it is asked whether a kind gains or loses more with tanh than with ReLU (the interaction). With tanh, minimum and
maximum pooling must come out alike: turning the signs of the weights around turns one into the other. With ReLU they
need not.

Command: python launch.py --experiment=pooling_activation_mnist

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 60,000 train, for 4
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end, and choose nothing.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet, Log, Optimizer, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    crossed = lambda kind, activation: Arm(
        name=f"{activation}_{kind}",
        changes=(f"model.pool.kind={kind}", f"model.activation={activation}"),
        levels=(kind, activation),
    )
    kinds, activations = ("max", "average", "min", "soft", "max_blur"), ("relu", "tanh")
    return Study(
        base=Config(
            seed=400,
            model=LeNet(activation="relu"),
            data=Data.of(name="mnist"),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="0.5 epochs"),
            train=Train(batch_size=128, duration="4 epochs"),
            evaluation=Evaluation(every="1 epochs"),
            log=Log(every="0.5 epochs", tensorboard=False),
        ),
        arms=tuple(crossed(kind, activation) for activation in activations for kind in kinds),
        baseline="relu_max",
        factors=("pool", "activation"),
        within="activation",
        protocol=Protocol(
            seeds=10,
            sweep="optimizer.learning_rate=0.004,0.008,0.016,0.032",
            sweep_seeds=2,
            measurements=("consistency",),
            images=2000,
        ),
    )
