"""Poolings in AlexNet on ImageNet at 128 pixels: the table of Mishkin, Sergievskiy and Matas, 2017. For a GPU.

Their CaffeNet128: images of 144 pixels, crops of 128, dense layers of 2,048 units, no response normalisation, 320,000
steps of 256. Published top-1 accuracy, one seed each: max 47.1 %, average 43.5, stochastic 43.8, max + average 48.3, no
pooling but strides 47.2, gated 47.1, windows of 2x2 48.4, 3x3 padded by one 48.8, pyramid of 3 levels 48.3. The last
three had more parameters there: Caffe rounds sizes up. Here 2x2 leaves maps of the same size, 3x3.

Source: arXiv 1606.02228, section 3.3. Departures: weights begin as in the AlexNet paper, not LSUV; one group.

Command: python launch.py --experiment=pooling_imagenet128

Protocol: the 50,000 validation images are what is reported, as there; the last step's parameters count. Not run here.
"""

from cnn_jax.config import (
    AlexNet,
    Augment,
    Checkpoint,
    Config,
    Data,
    Evaluation,
    Log,
    Optimizer,
    Pool,
    Protocol,
    Schedule,
    Train,
)
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    pool = lambda name, *changes, **rest: Arm(name=name, changes=(f"model.pool.kind={name}", *changes), **rest)
    larger = "a larger last map, and with it the first dense layer"
    return Study(
        base=Config(
            model=AlexNet(
                norm="none",
                groups=1,
                units=2048,
                middle_std=0.03,
                dropout_scale="training",
                pool=Pool(window=3, stride=2),
            ),
            data=Data.of(name="imagenet2012", side=144, crop=128, high=255.0, mean=(123.68, 116.779, 103.939)),
            augment=Augment(flip=True),
            optimizer=Optimizer.of(name="sgd", learning_rate=0.01, momentum=0.9, weight_decay=5e-4),
            schedule=Schedule.of(name="step", drops=("100000 steps", "200000 steps", "300000 steps"), factor=0.1),
            train=Train(batch_size=256, duration="320000 steps"),
            evaluation=Evaluation(every="4 epochs", batch_size=100),
            checkpoint=Checkpoint(every="1 epochs"),
            log=Log(every="100 steps"),
        ),
        arms=(
            Arm(name="max"),
            *map(pool, ("average", "stochastic", "max_average")),
            pool("gated", parameters="a gate of nine weights a layer"),
            pool("strided", parameters="padded strides round sizes up: a larger last map"),
            Arm(name="max_2x2", changes=("model.pool.window=2",)),
            Arm(name="max_3x3_pad1", changes=("model.pool.padding=1",), parameters=larger),
            Arm(name="pyramid_3", changes=("model.pool.last=pyramid", "model.pool.levels=3"), parameters=larger),
        ),
        baseline="max",
        protocol=Protocol(seeds=5, together=1, measurements=("consistency",), images=5000),
    )
