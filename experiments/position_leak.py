"""Padding tells a network where things are: the red-green experiment of Kayhan and van Gemert, 2020.

The class is the order of a red and a green square; in training each class also has rows of its own. A network that
reads the order is as good when the rows are swapped; one that reads the place is lost. Published, similar / swapped:
no padding 100 / 0.2 %, zeros 99.8 / 8.4 %, circular 73.7 / 73.7 %, full 89.7 / 89.7 %.

Source: arXiv 2003.07064 and its code: four convolutions without bias, global max pooling. Departures: Adam in place of
Adadelta, batches of 32 (there: 200), a fixed number of epochs (there: early stopping), no weight decay (there: 5e-5);
test images of their own (in the authors' code the test draws the first of the training images again).

Command: python launch.py --experiment=position_leak

Protocol: 2,000 images train, 400 test; the last step's parameters count.
"""

from cnn_jax.config import Config, Data, Evaluation, Log, Optimizer, Padding, PositionNet, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    return Study(
        base=Config(
            model=PositionNet(padding=Padding(mode="1")),
            data=Data.of(name="red_green", examples=2000),
            optimizer=Optimizer.of(name="adam", learning_rate=1e-3),
            schedule=Schedule.of(name="cosine"),
            train=Train(batch_size=32, duration="20 epochs"),
            evaluation=Evaluation(every="2 epochs"),
            log=Log(every="1 epochs", tensorboard=False),
        ),
        arms=(
            Arm(name="zero"),
            Arm(name="valid", changes=("model.padding.mode=valid",)),
            Arm(name="circular", changes=("model.padding.fill=circular",)),
            Arm(name="full", changes=("model.padding.mode=full",)),
        ),
        baseline="zero",
        protocol=Protocol(seeds=10, measurements=("swapped",)),
    )
