"""Evaluation on one device; tests/training/test_parallel.py has it on eight, at other batch sizes."""

import functools

import jax
import numpy as np
import pytest
from tiny_training import TinyRun, dataset

from cnn_jax.training.evaluation import Evaluator

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def tiny():
    return TinyRun()


def test_dropout_augmentation_and_smoothing_are_for_training_only(tiny):
    """The recipe has them all; the outcome is the plain network's."""
    params, data = tiny.first_state().evaluated, dataset("validation", 20)
    outcome = tiny.evaluator(params, data)
    logits = jax.jit(lambda params, images: tiny.network(params, images)[0])(params, np.float32(data.images) / 255)
    probabilities = np.exp(np.float64(logits))
    probabilities /= probabilities.sum(-1, keepdims=True)
    np.testing.assert_allclose(outcome.probabilities, probabilities, rtol=2e-6)
    np.testing.assert_allclose(outcome.losses, -np.log(probabilities[np.arange(20), data.labels]), rtol=1e-6)
    assert outcome.accuracy == np.mean(probabilities.argmax(-1) == data.labels)


def test_the_order_of_examples_is_the_datasets(tiny):
    """20 examples in batches of 16: the second batch is filled up, and the filling does not count."""
    params = tiny.first_state().evaluated
    twenty, thirty = tiny.evaluator(params, dataset("train", 20)), tiny.evaluator(params, dataset("train", 30))
    assert len(twenty.losses) == 20 and len(thirty.losses) == 30
    np.testing.assert_allclose(thirty.losses[:20], twenty.losses, rtol=1e-6)


def test_many_batches(tiny, monkeypatch):
    monkeypatch.setattr("cnn_jax.training.evaluation.MOST_QUEUED", 2)
    (outcome,) = Evaluator(tiny.settings, tiny.network, tiny.parallel)(
        tiny.first_state().evaluated, dataset("train", 100)
    )
    assert len(set(outcome.losses.tolist())) == 100


def test_passes_average_the_probabilities_of_each_draw():
    """Those of keys made here, by the examples' own indices; crops are averaged as well; other batches draw alike."""
    run = TinyRun("model.pool.kind=mixed", "evaluation.passes=3", "data.crop=24", "evaluation.crops=10")
    variables, data = run.first_state().evaluated, dataset("validation", 20)
    network = jax.jit(lambda images, keys: jax.nn.softmax(run.network(variables, images, keys)[0]))
    key = jax.random.fold_in(jax.random.key(0), 4)
    total, crops = 0, [(0, 0), (0, 4), (4, 0), (4, 4), (2, 2)]
    for number, (mirrored, (top, left)) in enumerate(3 * [(m, place) for m in (False, True) for place in crops]):
        keys = jax.vmap(functools.partial(jax.random.fold_in, jax.random.fold_in(key, number)))(np.arange(20))
        crop = np.float32(data.images[:, top : top + 24, left : left + 24]) / 255
        total += np.asarray(network(crop[:, :, ::-1] if mirrored else crop, keys))
    outcome = run.evaluator(variables, data)
    np.testing.assert_allclose(outcome.probabilities, total / 30, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(outcome.losses, -np.log(total[np.arange(20), data.labels] / 30), rtol=1e-4)
    plain = TinyRun("model.pool.kind=mixed", "data.crop=24").evaluator(variables, data)
    assert np.abs(plain.probabilities - outcome.probabilities).max() > 1e-4


def test_ten_crops_average_the_probabilities_of_each():
    """Each crop by hand: four corners and the centre, and their mirror images."""
    run = TinyRun("data.crop=24", "evaluation.crops=10")
    variables, data = run.first_state().evaluated, dataset("validation", 20)
    network = jax.jit(lambda images: jax.nn.softmax(run.network(variables, images)[0]))
    total = 0
    for top, left in ((0, 0), (0, 4), (4, 0), (4, 4), (2, 2)):
        crop = np.float32(data.images[:, top : top + 24, left : left + 24]) / 255
        total += np.asarray(network(crop)) + np.asarray(network(crop[:, :, ::-1]))
    outcome = run.evaluator(variables, data)
    np.testing.assert_allclose(outcome.probabilities, total / 10, rtol=1e-5)
    np.testing.assert_allclose(outcome.losses, -np.log(total[np.arange(20), data.labels] / 10), rtol=1e-5)
