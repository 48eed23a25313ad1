"""The entries: their values against scikit-learn and NumPy, and that every one goes everywhere."""

import numpy as np
import pytest
from sklearn import metrics as reference

from cnn_jax.training import metrics
from cnn_jax.training.metrics import METRICS, Evaluation


def evaluation(classes=12, count=400):
    """Answers that are often right, with ties, and a class that never occurs."""
    rng = np.random.default_rng(0)
    labels = rng.integers(classes - 1, size=count).astype(np.int32)
    scores = rng.integers(8, size=(count, classes)) + 6 * (rng.random(count) < 0.5)[:, None] * np.eye(classes)[labels]
    probabilities = (scores / scores.sum(-1, keepdims=True)).astype(np.float32)
    return Evaluation(rng.random(count).astype(np.float32), probabilities, labels)


def test_loss_and_accuracy_are_means_over_examples():
    probabilities = np.float32([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
    found = Evaluation(np.float32([1, 2, 4]), probabilities, np.int32([0, 1, 1]))
    assert found.loss == pytest.approx(7 / 3) and found.accuracy == pytest.approx(2 / 3)


def test_top5_is_among_the_five_largest():
    found = evaluation()
    best = np.argsort(-found.probabilities, axis=-1, kind="stable")[:, :5]
    assert metrics.top5(found) == np.mean((best == found.labels[:, None]).any(-1))
    assert metrics.top5(evaluation(classes=10)) is None


def test_f1_and_the_accuracy_of_each_class_are_scikit_learns():
    found = evaluation()
    assert metrics.macro_f1(found) == pytest.approx(reference.f1_score(found.labels, found.answers, average="macro"))
    expected = reference.recall_score(found.labels, found.answers, average=None, labels=range(11))
    np.testing.assert_allclose(metrics.class_accuracy(found)[:11], expected)
    assert np.isnan(metrics.class_accuracy(found)[11])


def test_the_calibration_error_is_the_mean_gap_over_ten_bins():
    found = evaluation()
    confidence, total = np.float64(found.probabilities.max(-1)), 0.0
    for low in range(10):
        inside = (confidence > low / 10) & (confidence <= (low + 1) / 10)
        if inside.any():
            total += inside.sum() * abs(found.correct[inside].mean() - confidence[inside].mean())
    assert metrics.calibration_error(found) == pytest.approx(total / len(confidence))
    broken = Evaluation(found.losses, found.probabilities * np.nan, found.labels)
    assert metrics.calibration_error(broken) is None


def test_every_entry_says_what_it_is():
    assert len({metric.name for metric in METRICS}) == len(METRICS)
    found = metrics.values(evaluation())
    assert found.keys() == {metric.name for metric in METRICS}
    assert all(value is not None for value in found.values())
    assert all(np.shape(found[metric.name]) == ((12,) if metric.per_class else ()) for metric in METRICS)
    text = metrics.described(found, skip=("loss",))
    assert text.startswith(f"accuracy {100 * found['accuracy']:.2f} %  top-5 accuracy ") and "loss" not in text
