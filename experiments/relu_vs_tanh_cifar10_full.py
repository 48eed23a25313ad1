"""ReLU against tanh on CIFAR-10, in epochs to 25 % training error: figure 1 of the AlexNet paper. For a GPU.

"A four-layer convolutional neural network with ReLUs reaches a 25 % training error rate on CIFAR-10 six times faster
than an equivalent network with tanh neurons. The learning rates for each network were chosen independently to make
training as fast as possible. No regularization of any kind was employed." Here each has four rates.

Source: Krizhevsky, Sutskever and Hinton, 2012, figure 1. The paper does not give the network; see models/small.py.

Command: python launch.py --experiment=relu_vs_tanh_cifar10_full

Protocol: all 50,000 images train; the figure is the first tenth of an epoch whose mean training accuracy is 75 %.
"""

from cnn_jax.config import Config, Data, Evaluation, FourLayer, Log, Optimizer, Protocol, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    rates = ("0.003", "0.01", "0.03", "0.1")
    arm = lambda kind, rate: Arm(
        name=f"{kind}_{rate}", changes=(f"model.activation={kind}", f"optimizer.learning_rate={rate}")
    )
    return Study(
        base=Config(
            model=FourLayer(),
            data=Data.of(name="cifar10", mean=(0.4914, 0.4822, 0.4465), std=(0.247, 0.2435, 0.2616)),
            optimizer=Optimizer.of(name="sgd", learning_rate=0.01, momentum=0.9),
            train=Train(batch_size=128, duration="40 epochs"),
            evaluation=Evaluation(every="2 epochs"),
            log=Log(every="0.1 epochs", tensorboard=False),
        ),
        arms=tuple(arm(kind, rate) for kind in ("tanh", "relu") for rate in rates),
        baseline="tanh_0.01",
        protocol=Protocol(seeds=4, target=0.75),
    )
