"""Metrics of each layer: against gradients and activations computed here, and without a trace in the run."""

import contextlib
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cnn_jax
from cnn_jax.config import overrides
from cnn_jax.files import read_lines

SHORT = ["train.duration=30 steps", "schedule.warmup=0 steps", "log.every=10 steps", "augment.rotation=0"]
SHORT += ["augment.shift=0", "augment.scale=0", "optimizer.ema=0", "model.activation=relu", "parallel=jit"]


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run of 30 steps with these metrics, and the same without."""
    found = []
    for layers in ("true", "false"):
        settings = cnn_jax.settings("lenet_digits", *SHORT, f"log.layers={layers}")
        run = cnn_jax.Run(settings, tmp_path_factory.mktemp("run"))
        run.train(progress=False)
        found.append(run)
    return found


def test_the_run_itself_is_the_same(runs):
    one, other = ((run.folder / "metrics.jsonl").read_bytes() for run in runs)
    assert one == other
    assert not (runs[1].folder / "layers.jsonl").exists()


def test_norms_and_dead_units_are_those_of_the_last_batch(runs):
    run = runs[0]
    rows = read_lines(run.folder / "layers.jsonl")
    assert [row["step"] for row in rows[::5]] == [10, 20, 30]
    assert [row["layer"] for row in rows[:5]] == ["conv1", "conv2", "dense1", "dense2", "output"]
    learner = run.learner
    with contextlib.closing(learner.checkpoints(run.folder)) as checkpoints:
        params = checkpoints.restore(30, learner.state_like()).evaluated.params
    data = cnn_jax.dataset(run.settings, "train")
    index = learner.orders[0].batch(29)
    network = cnn_jax.Network(run.settings)
    images, labels = data.images[index], data.labels[index]

    def loss(params):
        logits = network._forward(network.variables._replace(params=params), images)[0]
        return -jnp.mean(jax.nn.log_softmax(logits)[np.arange(len(labels)), labels])

    gradient = jax.grad(loss)(params)
    norm = lambda tree: np.sqrt(sum(float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(tree)))
    for row in rows[-5:]:
        assert row["gradient_norm"] == pytest.approx(norm(gradient[row["layer"]]), rel=1e-3)
        assert row["weight_norm"] == pytest.approx(norm(params[row["layer"]]), rel=1e-5)
    maps = run.network()(images)[1]
    dead = {row["layer"]: row["dead"] for row in rows[-5:]}
    for name in ("conv1", "conv2"):
        assert dead[name] == pytest.approx(np.mean((maps[name] <= 0).all(axis=(0, 1, 2))))
    assert dead["output"] is None and 0 <= dead["dense1"] < 1


@pytest.mark.slow
def test_a_dead_network_is_seen_to_be_dead(tmp_path):
    """A bias far below zero switches every unit of a layer off."""
    run = cnn_jax.Run(cnn_jax.settings("lenet_digits", *SHORT, "log.layers=true"), tmp_path)
    run.train(steps=1, progress=False)
    from cnn_jax.training.layer_metrics import measure_layers

    learner = run.learner
    state = learner.initial()
    state.params["dense1"]["bias"] = state.params["dense1"]["bias"] - 1e6
    data = cnn_jax.dataset(run.settings, "train")
    index = np.arange(8, dtype=np.int32)
    batch = {"images": data.images[:8], "labels": data.labels[:8], "index": index}
    found = measure_layers(learner.settings, learner.network, state, batch)
    assert float(found["dead"]["activation3"]) == 1.0
    assert float(found["gradient_norm"]["conv1"]) == 0.0


def test_continued_rows_follow_without_a_gap(tmp_path):
    settings = cnn_jax.settings("lenet_digits", *SHORT, "log.layers=true")
    whole, parts = (cnn_jax.Run(settings, tmp_path / name) for name in ("whole", "parts"))
    whole.train(progress=False)
    for _ in range(2):
        parts.train(steps=15, progress=False)
    assert read_lines(whole.folder / "layers.jsonl") == read_lines(parts.folder / "layers.jsonl")
    assert json.loads((parts.folder / "config.json").read_text())["log"]["layers"] is True
    assert overrides.apply(settings, ["log.layers=false"]).log.layers is False
