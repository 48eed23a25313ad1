"""A whole study whose answer is known: one arm is worse by construction, one equal in distribution."""

import numpy as np
import pytest

from cnn_jax import config
from cnn_jax.config.study import Arm, Study
from cnn_jax.studies import results, runner

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.mark.slow
def test_a_planted_effect_is_found_and_a_null_is_not(tmp_path):
    """Planted: a rate too small to learn with. Null: minimum for maximum pooling in a tanh network.

    With an odd activation, initial weights as likely as their negatives, and Adam, turning the signs of the weights
    turns one into the other: the networks differ, and their accuracies are draws from the same distribution.
    """
    study = Study(
        base=config.Config(
            model=config.LeNet(layout="CHWN"),
            data=config.Data.of(name="fake", side=28, examples=500, classes=20),
            optimizer=config.Optimizer(learning_rate=3e-3),
            train=config.Train(batch_size=16, duration="80 steps"),
            evaluation=config.Evaluation(every="80 steps"),
            log=config.Log(every="80 steps", tensorboard=False),
            parallel="jit",
        ),
        arms=(
            Arm(name="tanh_max"),
            Arm(name="tanh_min", changes=("model.pool.kind=min",)),
            Arm(name="slow", changes=("optimizer.learning_rate=1e-5",)),
        ),
        baseline="tanh_max",
        protocol=config.Protocol(seeds=6),
    )
    assert runner.run(study, tmp_path, log=lambda line: None) == []
    found = results.load(study, tmp_path)
    largest, least, slow = found.arms
    planted, null = found.comparisons["slow"], found.comparisons["tanh_min"]
    assert planted.p_holm < 1e-3 and planted.interval[1] < 0 and planted.images.p_images_holm < 1e-3
    assert abs(planted.difference) > planted.detectable
    assert null.p > 0.01
    assert np.any(largest.accuracy != least.accuracy) and slow.accuracy.max() < largest.accuracy.min()
