"""Every setting, its default and what it means; nothing else in the project holds a default.

An experiment returns a `Config`, or a `Study`; `--set section.field=value` replaces single fields (overrides.py);
rules.py checks the result as a whole. Durations are texts such as "10 epochs", "500 steps" or "64000 examples".

A new kind of pooling, optimiser, schedule, network or dataset is declared here, beside its like, and added to the tuple
of its family; the class that does it takes the declaration as its argument.
"""

from cnn_jax.config.data import DATASETS, Augment, Data
from cnn_jax.config.fields import differences, leaves, to_dict
from cnn_jax.config.networks import (
    MLP,
    MODELS,
    AlexNet,
    AlexNetBN,
    AlexNetNotebook,
    AlexNetOWT,
    AlexNetSmall,
    Edge,
    FourLayer,
    LeNet,
    LeNet1,
    LeNet5,
    Network,
    Padding,
    PositionNet,
    ZeilerFergus,
    pools,
)
from cnn_jax.config.poolings import Pool
from cnn_jax.config.run import Config, from_dict, image_shape
from cnn_jax.config.study import Arm, Protocol, Study
from cnn_jax.config.training import DURATION, Checkpoint, Evaluation, Log, Optimizer, Schedule, Train, duration_steps

__all__ = [
    "DATASETS", "DURATION", "MODELS", "AlexNet", "AlexNetBN", "AlexNetNotebook", "AlexNetOWT", "AlexNetSmall", "Arm",
    "Augment", "Checkpoint", "Config", "Data", "Edge", "Evaluation", "FourLayer", "LeNet", "LeNet1", "LeNet5", "Log",
    "MLP", "Network", "Optimizer", "Padding", "Pool", "PositionNet", "Protocol", "Schedule", "Study", "Train",
    "ZeilerFergus", "differences", "duration_steps", "from_dict", "image_shape", "leaves", "pools", "to_dict",
]  # fmt: skip
