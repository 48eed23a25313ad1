"""How far from the edge does padding tell a network where things are? After Kayhan and van Gemert, 2020.

A patch of noise lies in one of four places, and the class is the place; a black border of 0 to 16 pixels lies between
the places and the edge of the image. Four convolutions look through windows of 17 pixels, 8 on each side of their
centre: from a border of some 8 pixels on, no window that the edge takes away would have met a patch, and a quarter of
the answers must be right. Published for ResNet-18, with photographs in place of noise: near 100 % up to borders that
depend on how far the network sees, then chance.

With circular padding no place differs from another at any border, as the places lie on the grid of the strides: a
quarter must be right, which is a check of the study.

Source: arXiv 2003.07064, its location task; our network is that of position_leak.

Command: python launch.py --experiment=position_distance

Protocol: 1,000 images train, 200 test; one schedule for all arms; the last step's parameters count.
"""

from cnn_jax.config import Config, Data, Evaluation, Log, Optimizer, Padding, PositionNet, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study

PADDINGS = {
    "zero": (),
    "valid": ("model.padding.mode=valid",),
    "full": ("model.padding.mode=full",),
    "circular": ("model.padding.fill=circular",),
}


def study() -> Study:
    """Returns the arms."""
    crossed = lambda padding, border: Arm(
        name=f"{padding}_{border}",
        changes=(*PADDINGS[padding], f"data.border={border}"),
        levels=(str(border), padding),
    )
    return Study(
        base=Config(
            seed=1200,
            model=PositionNet(padding=Padding(mode="1")),
            data=Data.of(name="quadrants", examples=1000),
            optimizer=Optimizer.of(name="adam", learning_rate=1e-3),
            schedule=Schedule.of(name="cosine"),
            train=Train(batch_size=32, duration="10 epochs"),
            evaluation=Evaluation(every="5 epochs"),
            log=Log(every="5 epochs", tensorboard=False),
        ),
        arms=tuple(crossed(padding, border) for padding in PADDINGS for border in (0, 4, 8, 16)),
        baseline="zero_0",
        factors=("border", "padding"),
        within="padding",
        protocol=Protocol(seeds=10),
    )
