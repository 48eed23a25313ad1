"""Rows of the table of 1998 on MNIST: linear, 784-300-10, LeNet-1 and LeNet-5, ten seeds each.

Published test errors: linear 12.0 %, 784-300-10 4.7 %, LeNet-1 1.7 %, LeNet-5 0.95 %. LeNet-5 is the network of 1998 to
the parameter; LeNet-1 reads all maps where theirs read some, and has digits of 20 pixels where theirs had 16. Training
is that of today: Adam, softmax for the others, and for each network the learning rate that is best for it. LeNet-4 is
not here: the paper describes it in a sentence, with 17,000 parameters, and the layers of that sentence have more than
twice as many.

Command: python launch.py --experiment=networks_1998_mnist

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 60,000 train, for 4
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end, and choose nothing.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet5, Log, Optimizer, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    other = lambda name, *changes: Arm(name=name, changes=(*changes, "data.size=0"), parameters="another network")
    return Study(
        base=Config(
            seed=1100,
            model=LeNet5(),
            data=Data.of(name="mnist", size=32, low=-0.1, high=1.175),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="0.5 epochs"),
            train=Train(batch_size=128, duration="4 epochs"),
            evaluation=Evaluation(every="1 epochs"),
            log=Log(every="0.5 epochs", tensorboard=False),
        ),
        arms=(
            Arm(name="lenet5"),
            other("lenet1", "model.name=lenet1"),
            other("784-300-10", "model.name=mlp", "model.units=300"),
            other("linear", "model.name=mlp", "model.units=0"),
        ),
        baseline="lenet5",
        protocol=Protocol(seeds=10, sweep="optimizer.learning_rate=0.001,0.002,0.004,0.008,0.016,0.032", sweep_seeds=2),
    )
