"""Poolings on MNIST: thirteen kinds in a ReLU LeNet and three controls of scale, ten seeds each.

Only the two poolings differ; where an arm needs parameters of its own it says so. A kind that makes the maps larger or
smaller also changes how fast the next layer learns. So every arm has the learning rate that is best for it, and beside
average, minimum, and maximum + average stands a control: average and minimum at a maximum's scale, and a maximum
at the scale of the sum. The factors are ratios of root mean squares, for windows of four independent normal values
after a ReLU: 2.51, 14.3 and 1.39.

Command: python launch.py --experiment=pooling_mnist

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 60,000 train, for 4
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end, and choose nothing.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet, Log, Optimizer, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    pool = lambda name, *changes, **rest: Arm(name=name, changes=(f"model.pool.kind={name}", *changes), **rest)
    scaled = lambda name, kind, scale: Arm(name=name, changes=(f"model.pool.kind={kind}", f"model.pool.scale={scale}"))
    return Study(
        base=Config(
            model=LeNet(activation="relu"),
            data=Data.of(name="mnist"),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="0.5 epochs"),
            train=Train(batch_size=128, duration="4 epochs"),
            evaluation=Evaluation(every="1 epochs"),
            log=Log(every="0.5 epochs", tensorboard=False),
        ),
        arms=(
            Arm(name="max"),
            *map(pool, ("average", "min", "lp", "log_sum_exp", "soft", "max_average", "stochastic")),
            pool("mixed", "model.pool.learned=true", parameters="the share of the maximum, one number a layer"),
            pool("gated", parameters="a gate of four weights a layer"),
            pool("max_blur"),
            pool("aps"),
            pool("lps", parameters="two convolutions a layer, whose logits choose"),
            scaled("average_x2.5", "average", 2.51),
            scaled("min_x14", "min", 14.3),
            scaled("max_x1.4", "max", 1.39),
        ),
        baseline="max",
        pairs=(("max_average", "max_x1.4"),),
        protocol=Protocol(
            seeds=10,
            sweep="optimizer.learning_rate=0.004,0.008,0.016,0.032",
            sweep_seeds=2,
            measurements=("consistency", "circular", "shift_map", "equivariance"),
            images=2000,
        ),
    )
