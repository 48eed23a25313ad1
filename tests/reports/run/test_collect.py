import dataclasses
import json

import numpy as np
import pytest

import cnn_jax
from cnn_jax import run, workdir
from cnn_jax.config import experiments
from cnn_jax.reports.run.collect import _rates, collect
from cnn_jax.training import state as states
from cnn_jax.training.learner import Learner, load
from cnn_jax.training.optimizer import make_optimizer


@pytest.fixture(scope="module")
def gathered(tmp_path_factory, quick_compile):
    """A run that is only initialised and saved: (settings, folder, parameters, result, contents)."""
    base = tmp_path_factory.mktemp("gather")
    folder = base / "run"
    folder.mkdir()
    settings = experiments.load("lenet_digits")
    data = dataclasses.replace(settings.data, data_dir=str(base / "data"), limit=40)
    settings = dataclasses.replace(settings, data=data)
    learner = Learner(settings)
    optimizer = make_optimizer(settings.optimizer)
    state = states.initial_state(learner.settings, learner.image_shape, learner.classes, optimizer, 3)
    checkpoints = learner.checkpoints(folder)
    checkpoints.save(7, learner.parallel.replicate(state), learner.settings, 0.5)
    checkpoints.wait()
    for step in (0, 5):
        workdir.record_start(folder, settings, devices=["cpu"], step=step)
    (folder / "metrics.jsonl").write_text(json.dumps({"step": 7, "split": "validation", "loss": 1.0}) + "\n")
    times = [1.0, 2.5, 4.0, 4.5, 7.0]  # killed after 4 s, continued: the clock goes on
    rows = [json.dumps({"step": step, "seconds": seconds}) + "\n" for step, seconds in enumerate(times)]
    (folder / "timing.jsonl").write_text("".join(rows))
    result = run.measure(learner, checkpoints, load(settings, "test"))
    checkpoints.close()
    return settings, folder, state.params, result, collect(settings, folder, result, learner, None)


def test_what_was_measured_and_how(gathered):
    settings, _, _, result, contents = gathered
    assert contents.title == "lenet_digits" and contents.description == experiments.docstring("lenet_digits")
    assert (contents.checkpoint_step, contents.checkpoint_rule) == (7, "best validation accuracy")
    assert contents.evaluated == "test" and len(contents.images) == len(contents.labels) == 40
    np.testing.assert_array_equal(contents.probabilities, result.evaluation.probabilities)
    np.testing.assert_allclose(contents.probabilities.sum(-1), 1, rtol=1e-5)
    assert contents.config["data"]["limit"] == 40
    assert contents.metrics == [{"step": 7, "split": "validation", "loss": 1.0}]


def test_every_start_is_recorded_and_its_time_counted(gathered):
    *_, contents = gathered
    assert [record["step"] for record in contents.records] == [0, 5]
    assert contents.command == contents.records[0]["command"]
    assert contents.seconds == pytest.approx(7.0)


def test_layers_and_filters(gathered):
    _, _, params, _, contents = gathered
    assert [row.name for row in contents.layers] == [
        "input", "conv1", "activation1", "pool1", "conv2", "activation2", "pool2", "flatten",
        "dense1", "activation3", "dense2", "activation4", "output",
    ]  # fmt: skip
    assert sum(row.parameters for row in contents.layers) == 44_426
    assert [layer.name for layer in contents.filters] == ["conv1", "conv2"]
    for layer in contents.filters:
        np.testing.assert_array_equal(layer.kernels, params[layer.name]["kernel"])
        assert layer.reads is None and len(layer.exciting) == layer.kernels.shape[-1]


def test_the_example_is_the_first_that_is_right(gathered):
    *_, contents = gathered
    right = [i for i, row in enumerate(contents.probabilities) if row.argmax() == contents.labels[i]]
    (example,) = contents.examples
    np.testing.assert_array_equal(example.image, contents.images[right[0]])
    assert example.label == contents.class_names[contents.labels[right[0]]]
    np.testing.assert_allclose(example.probabilities, contents.probabilities[right[0]], rtol=1e-4, atol=1e-7)
    assert example.name == f"test image {right[0]}" and example.distances is None


def test_a_piece_is_what_excites(gathered):
    """Each piece, convolved with its filter, gives the largest value of the filter over the images."""
    _, _, params, _, contents = gathered
    kernel, bias = (np.asarray(params["conv1"][part], np.float64) for part in ("kernel", "bias"))
    images = contents.images / np.float64(255)
    windows = np.lib.stride_tricks.sliding_window_view(images, (5, 5), (1, 2))[:, :, :, 0]  # [N, 24, 24, 5, 5]
    for k, pieces in enumerate(contents.filters[0].exciting):
        wanted = np.sort(np.tensordot(windows, kernel[:, :, 0, k], 2).max((1, 2)))[::-1][: len(pieces)]
        found = (pieces[..., 0] / np.float64(255) * kernel[:, :, 0, k]).sum((1, 2))
        np.testing.assert_allclose(found + bias[k], wanted + bias[k], atol=1e-5)


def test_stages_are_the_maps_of_the_example(gathered):
    """Each computed anew from the image or from the stage before it, by loops."""
    _, _, params, _, contents = gathered
    (example,) = contents.examples
    below = example.image / np.float64(255)
    assert [stage.name for stage in example.stages] == ["conv1", "conv2"]
    for stage in example.stages:
        kernel, bias = (np.asarray(params[stage.name][part], np.float64) for part in ("kernel", "bias"))
        side = below.shape[0] - 4
        maps = np.zeros((side, side, kernel.shape[-1]))
        for row in range(side):
            for column in range(side):
                maps[row, column] = np.tensordot(below[row : row + 5, column : column + 5], kernel, 3) + bias
        maps = np.tanh(maps)
        np.testing.assert_allclose(stage.maps, maps, atol=1e-5)
        below = maps.reshape(side // 2, 2, side // 2, 2, -1).max((1, 3))
        np.testing.assert_allclose(stage.pooled, below, atol=1e-5)
        assert "2x2, stride 2" in stage.pooling


def test_the_schedule_is_drawn_with_its_warm_up(tmp_path):
    settings = cnn_jax.settings("lenet_digits", "data.limit=64", "data.validation=16", "train.duration=10 epochs")
    rows = [{"step": step, "epoch": step * 32 / 48, "split": "train", "learning_rate": 0.002} for step in (8, 15)]
    found = _rates(settings, rows)
    assert [row["step"] for row in found] == list(range(1, 16))
    rates = [row["learning_rate"] for row in found]
    assert rates[:2] == pytest.approx([0.001, 0.002]) and max(rates) == rates[1] and rates[-1] < 1e-4
    assert _rates(settings, []) == []
    plateau = cnn_jax.settings("lenet_digits", "schedule.name=plateau")
    assert _rates(plateau, rows) == []
