"""Accuracy at every shift, and what one pixel changes, against loops."""

import numpy as np
import pytest
from tiny_measuring import certain, constant_zero, context, dot, linear, moved, noise

from cnn_jax.studies.measurements.shift_map import ShiftMap


@pytest.mark.parametrize("circular", [False, True])
def test_shift_map_against_loops(circular):
    images, reach = noise(9), 2
    labels = np.arange(9) % 3
    result = ShiftMap(circular=circular).measure(context(images, labels, predict=linear, reach=reach))
    side = range(-reach, reach + 1)
    answers = {}
    for down in side:
        for right in side:
            copies = np.stack([moved(image, down, right, circular) for image in images])
            answers[down, right] = linear(copies)
    for seed in (0, 1):
        truth = {cell: [answer[seed][i][labels[i]] for i in range(9)] for cell, answer in answers.items()}
        choice = {cell: answer[seed].argmax(-1) for cell, answer in answers.items()}
        for (down, right), chosen in choice.items():
            cell = seed, reach + down, reach + right
            assert result.accuracy[cell] == pytest.approx(np.mean(chosen == labels))
            assert result.probability[cell] == pytest.approx(np.mean(truth[down, right]))
        for step in range(reach + 1):
            assert result.diagonal_accuracy[seed, step] == pytest.approx(np.mean(choice[step, step] == labels))
            assert result.diagonal_probability[seed, step] == pytest.approx(np.mean(truth[step, step]))
        along = [np.std([truth[step, step][i] for step in range(reach + 1)]) for i in range(9)]
        assert result.diagonal_sd[seed] == pytest.approx(np.mean(along))
        pairs = [(a, b) for a in choice for b in choice if abs(a[0] - b[0]) + abs(a[1] - b[1]) == 1]
        assert result.changed[seed] == pytest.approx(np.mean([choice[a] != choice[b] for a, b in pairs]))
        differences = [np.abs(np.subtract(truth[a], truth[b])) for a, b in pairs]
        assert result.jaggedness[seed] == pytest.approx(np.mean(differences), rel=1e-5)
    assert 0 < result.changed.min() and result.accuracy.std() > 0  # there was something to see


def test_an_invariant_predictor():
    images = noise(40)
    total = lambda shown: certain([shown.sum((1, 2, 3), dtype=int) % 10])
    within = ShiftMap(circular=True).measure(context(images, np.arange(40) % 10, predict=total, reach=2))
    assert within.changed == 0 and within.jaggedness == 0 and within.diagonal_sd == 0


def test_the_protocol_names_what_was_done():
    found = ShiftMap().measure(context(dot(4), np.zeros(4, int), predict=constant_zero, reach=1))
    assert "in black of -1 to 1 pixels" in ShiftMap().protocol(found)
