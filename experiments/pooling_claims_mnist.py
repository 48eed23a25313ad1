"""Recent poolings that are claimed to be best on LeNet-5, against max, average and controls of scale; on MNIST.

Avg-TopK (Özdemir 2023), T-Max-Avg (Zhao and Zhang 2024), ATP (Aprilio and Wan Sen 2026) and alpha pooling (CMC 87(3),
2026) report gains of up to many points with one network each. Here every arm has the learning rate that is best for it,
ten seeds, and beside each kind that changes the scale of the maps stands an old one at that scale: for independent
values with a ReLU, the root mean square of a maximum of four is 2.5 times that of their mean and 1.4 times that of the
mean of the two largest or of half the sum of maximum and average.

The formulas of T-Max-Avg and ATP were not to be found at their sources: those arms are our reading of the abstracts.

Command: python launch.py --experiment=pooling_claims_mnist

Protocol: rates are chosen on 5,000 held-out training images with seeds of their own; then all 60,000 train, for 4
epochs, and the last step's parameters count. The 10,000 test images are measured once, at the end, and choose nothing.
"""

from cnn_jax.config import Config, Data, Evaluation, LeNet5, Log, Optimizer, Protocol, Schedule, Train
from cnn_jax.config.study import Arm, Study


def study() -> Study:
    """Returns the arms."""
    arm = lambda name, kind, *changes: Arm(
        name=name, changes=(f"model.pool.kind={kind}", *(f"model.pool.{change}" for change in changes))
    )
    model = LeNet5(activation="relu", connections="dense", output="softmax", init="glorot_uniform", dropout=0.0)
    return Study(
        base=Config(
            seed=300,
            model=model,
            data=Data.of(name="mnist", size=32),
            optimizer=Optimizer.of(name="adam", learning_rate=2e-3),
            schedule=Schedule.of(name="cosine", warmup="0.5 epochs"),
            train=Train(batch_size=128, duration="4 epochs"),
            evaluation=Evaluation(every="1 epochs"),
            log=Log(every="0.5 epochs", tensorboard=False),
        ),
        arms=(
            arm("max", "max"),
            arm("average", "average"),
            arm("avg_topk", "avg_topk", "k=2"),
            arm("t_max_avg", "t_max_avg", "k=2", "threshold=0.7"),
            arm("atp", "atp", "k=2", "threshold=0.7"),
            arm("alpha_0.25", "alpha", "alpha=0.25"),
            arm("alpha_0.5", "alpha", "alpha=0.5"),
            arm("alpha_0.75", "alpha", "alpha=0.75"),
            arm("max_x0.7", "max", "scale=0.7"),
            arm("max_x2", "max", "scale=2"),
            arm("average_x2.5", "average", "scale=2.5"),
        ),
        baseline="max",
        pairs=(("avg_topk", "max_x0.7"), ("alpha_0.5", "max_x0.7"), ("avg_topk", "average")),
        protocol=Protocol(seeds=10, sweep="optimizer.learning_rate=0.004,0.008,0.016,0.032", sweep_seeds=2),
    )
