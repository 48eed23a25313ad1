"""The Python interface, called as a notebook calls it: docs/python.md in a fresh process, and in a Jupyter kernel."""

import os
import re
import subprocess
import sys

import jax
import numpy as np
import pytest
from launching import REPOSITORY, environment, launch

import cnn_jax
from cnn_jax import api, operations, workdir
from cnn_jax.reports import gallery

PAGE = (REPOSITORY / "docs" / "python.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```", PAGE, re.M | re.S)
SHORT = ["train.duration=40 steps", "schedule.warmup=0 steps", "log.every=10 steps", "evaluation.every=20 steps"]


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    folder = tmp_path_factory.mktemp("env")
    return environment(
        folder / "cache", TFDS_DATA_DIR=str(folder / "data"), PYTHONPATH=str(REPOSITORY), MPLBACKEND="agg"
    )


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of 40 steps, and the rows that its callback was given."""
    folder = tmp_path_factory.mktemp("run")
    rows = []
    run = cnn_jax.Run(cnn_jax.settings("lenet_digits", *SHORT), folder)
    assert run.train(steps=15, progress=False, callback=rows.append) == 15
    assert run.train(progress=False, callback=rows.append) == 40
    return run, rows


@pytest.mark.slow
def test_the_page_runs_in_a_fresh_process(env, tmp_path):
    assert len(BLOCKS[0].strip().splitlines()) < 15
    code = "\n".join(BLOCKS)
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for part in ("convolution 5x5", "did you mean model.pool.kind?", "report.html", "['max' 'average']"):
        assert part in done.stdout
    assert (tmp_path / "first.png").stat().st_size > 1000
    assert max(int(path.name) for path in (tmp_path / "runs/notebook/checkpoints").iterdir()) == 120
    assert "step 120" not in done.stderr  # silent when asked


@pytest.mark.slow
def test_the_page_runs_in_a_jupyter_kernel(env, tmp_path, monkeypatch):
    """Cell by cell; Ctrl-C there is KeyboardInterrupt, and what was saved is there."""
    client = pytest.importorskip("jupyter_client", reason="needs `pip install ipykernel`")
    pytest.importorskip("ipykernel", reason="needs `pip install ipykernel`")
    monkeypatch.setattr(os, "environ", env | {"JUPYTER_PLATFORM_DIRS": "1", "HOME": str(tmp_path)})
    manager, kernel = client.manager.start_new_kernel(kernel_name="python3", cwd=str(tmp_path))
    try:
        said = []
        hook = lambda message: said.append((message["msg_type"], message["content"]))
        for cell in BLOCKS:
            reply = kernel.execute_interactive(cell, timeout=300, output_hook=hook)["content"]
            assert reply["status"] == "ok", reply
        assert any(kind == "display_data" and "120" not in str(content) for kind, content in said)  # the bar
        assert any(kind == "stream" and "did you mean model.pool.kind?" in content["text"] for kind, content in said)
        red = [content["text"] for kind, content in said if kind == "stream" and content["name"] == "stderr"]
        assert [text for text in red if "IPKernelApp" not in text] == []  # which looks like a failure there
        forever = "import signal; before = signal.getsignal(signal.SIGINT)\nrun.train(callback=lambda row: stop())"
        cell = f"def stop():\n    raise KeyboardInterrupt\n{forever}"
        assert kernel.execute_interactive(cell, timeout=300)["content"]["ename"] == "KeyboardInterrupt"
        rest = "assert signal.getsignal(signal.SIGINT) is before\nassert run.train(steps=1) > 120"
        assert kernel.execute_interactive(rest, timeout=300)["content"]["status"] == "ok"
    finally:
        kernel.stop_channels()
        manager.shutdown_kernel(now=True)
        manager.cleanup_resources()


def test_importing_the_package_does_not_import_jax():
    code = "import cnn_jax, sys; from cnn_jax import config, cli; print('jax' in sys.modules, cnn_jax.__version__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", cnn_jax.__version__]
    assert cnn_jax.Run is api.Run and cnn_jax.pool is operations.pool and cnn_jax.show is gallery.show
    assert all(callable(getattr(cnn_jax, name)) for name in cnn_jax.__all__)
    assert set(cnn_jax.__all__) < set(dir(cnn_jax))
    with pytest.raises(AttributeError, match="'cnn_jax' has no attribute 'trian'; it has .*Run"):
        cnn_jax.trian


def test_experiments_are_listed():
    assert cnn_jax.experiments()["lenet_digits"].startswith("LeNet")


@pytest.mark.parametrize(
    "name", ["lenet_mnist", "lenet5_mnist", pytest.param("alexnet_cifar10", marks=pytest.mark.slow)]
)
def test_a_network_is_built_in_the_default_layout(name):
    settings = cnn_jax.settings(name)
    network = cnn_jax.build(settings)
    side, _, channels = network.image_shape
    draw = np.random.default_rng(0)
    logits, maps = network(draw.random((2, side, side, channels), np.float32))
    assert logits.shape == (2, len(network.class_names)) and np.isfinite(logits).all()
    shapes = {row.name: row.output for row in network.layers if row.name in maps}
    assert {key: value.shape[1:] for key, value in maps.items()} == shapes
    assert list(maps) == list(shapes)
    assert str(network).splitlines()[0].split()[:3] == ["layer", "kind", "output"]


def test_stored_images_are_prepared_and_seeds_decide_the_weights():
    settings = cnn_jax.settings("lenet_digits")
    images = cnn_jax.dataset(settings, "test").images[:3]
    network = cnn_jax.build(settings)
    scaled = (images / 255.0 - settings.data.mean[0]) / settings.data.std[0] if settings.data.mean else images / 255.0
    assert np.allclose(network(images)[0], network(scaled.astype(np.float32))[0], atol=1e-5)
    again, other = (cnn_jax.build(cnn_jax.settings("lenet_digits", f"seed={seed}")) for seed in (0, 1))
    assert np.array_equal(network(images)[0], again(images)[0])
    assert not np.allclose(network(images)[0], other(images)[0])
    with pytest.raises(cnn_jax.UserError, match=r"shape \(3, 28, 28\).*as stored must be \[N, 28, 28, 1\]"):
        network(images[..., 0])


@pytest.mark.slow
def test_a_run_in_parts_is_the_run_of_the_command_line(run, env, tmp_path):
    this, rows = run
    launch(
        env, "--experiment=lenet_digits", f"--workdir={tmp_path}", "--noreport", *[f"--set={each}" for each in SHORT]
    )
    jit = lambda folder: [row for row in workdir.files.read_lines(folder / "metrics.jsonl")]
    assert [row["step"] for row in jit(tmp_path)] == [row["step"] for row in jit(this.folder)]
    for one, other in zip(jit(tmp_path), jit(this.folder), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-4)  # other numbers of devices
    assert rows == jit(this.folder)


def test_metrics_are_columns(run):
    this, _ = run
    found = this.metrics("train")
    assert found["step"].tolist() == [10, 20, 30, 40] and found["loss"].dtype == np.float64
    assert np.isnan(this.metrics("validation")["learning_rate"]).all()
    assert set(this.metrics()["split"]) == {"train", "validation"}
    assert api.columns([]) == {}


def test_a_run_is_measured_and_predicts(run):
    this, _ = run
    test = cnn_jax.dataset(this.settings, "test")
    found = this.predict(test.images[:50])
    assert found.probabilities.shape == (50, 10) and found.changes == ()
    assert np.allclose(found.probabilities, jax.nn.softmax(this.network()(test.images[:50])[0]), atol=1e-5)
    hits = sum(name == str(label) for name, label in zip(this.predict(test.images).names, test.labels))
    assert this.evaluate("test")["accuracy"] == hits / len(test.labels)
    with pytest.raises(cnn_jax.UserError, match=r"must be uint8 \[N, 28, 28, 1\], and are float64"):
        this.predict(test.images / 255)
    again = cnn_jax.Run(workdir=this.folder)
    assert again.settings == this.settings and again.evaluate("test")["loss"] == this.evaluate("test")["loss"]


def test_mistakes_are_told(run, tmp_path):
    this, _ = run
    study = cnn_jax.settings("pooling_digits")
    for call, message in [
        (lambda: cnn_jax.settings("lenet_digit"), "did you mean lenet_digits?"),
        (lambda: cnn_jax.Run(), "Give its settings"),
        (lambda: cnn_jax.Run(workdir=tmp_path), "there is no run in"),
        (lambda: cnn_jax.Run(study, tmp_path), "open it with StudyRun"),
        (lambda: cnn_jax.StudyRun(this.settings, tmp_path), "open it with Run"),
        (lambda: cnn_jax.StudyRun(workdir=tmp_path), "there is no study in"),
        (lambda: cnn_jax.Run(this.settings, tmp_path).evaluate(), "train first"),
        (lambda: cnn_jax.Run(cnn_jax.settings("lenet_digits"), this.folder).train(), "other settings"),
        (lambda: cnn_jax.settings("lenet_digits", ["seed=3"]), 'changes are texts such as "seed=3"'),
        (lambda: cnn_jax.Run("lenet_digits"), "what cnn_jax.settings(EXPERIMENT) returns, not 'lenet_digits'"),
        (lambda: cnn_jax.build("lenet_digits"), "what cnn_jax.settings(EXPERIMENT) returns"),
        (lambda: cnn_jax.dataset({"model": 1}), "what cnn_jax.settings(EXPERIMENT) returns"),
        (lambda: cnn_jax.Run(this.settings, 42), "workdir = 42 must be the path of a folder"),
        (lambda: cnn_jax.dataset(this.settings, "tset"), "split = 'tset' must be one of train, validation, test"),
        (lambda: this.evaluate("tset"), "split = 'tset' must be one of"),
        (lambda: this.metrics("trian"), "split = 'trian' must be one of"),
        (lambda: this.train(steps=-1), "steps = -1 must be a whole number, 1 or more"),
        (lambda: this.train(steps=1.5), "steps = 1.5 must be a whole number"),
        (lambda: this.train(callback=3), "callback = 3 must be a function"),
        (lambda: this.predict("a.png"), "images must be a list of paths or an array"),
        (lambda: this.predict([]), "with at least one image"),
        (lambda: this.predict(None), "images must be a list of paths"),
    ]:
        with pytest.raises(cnn_jax.UserError, match=re.escape(message)):
            call()
    assert list(tmp_path.glob("*.json*")) == []


@pytest.mark.slow
@pytest.mark.parametrize("parts", [(13, 18, 29), (7, 1, 1, 51), (20, 21, 19), (33, 27)])
def test_a_run_in_parts_ends_with_the_checkpoints_of_a_whole_one(best_of_a_whole_run, tmp_path, parts):
    """Evaluations fall between saves: the best is saved when it is found, and what a stop saved goes."""
    settings, whole = best_of_a_whole_run
    run = cnn_jax.Run(settings, tmp_path)
    for steps in parts:
        run.train(steps=steps, progress=False)
    names = lambda run: sorted(path.name for path in (run.folder / "checkpoints").iterdir())
    assert names(run) == names(whole)
    assert run.chosen()[1] == whole.chosen()[1] and run.evaluate()["loss"] == whole.evaluate()["loss"]
    for one, other in zip(jax.tree.leaves(run.chosen()[0]), jax.tree.leaves(whole.chosen()[0]), strict=True):
        assert np.array_equal(one, other)


@pytest.fixture(scope="module")
def best_of_a_whole_run(tmp_path_factory):
    changes = ["train.duration=60 steps", "schedule.warmup=0 steps", "evaluation.every=7 steps", "parallel=jit"]
    # A rate so high that the last evaluation is not the best one.
    changes += [
        "checkpoint.every=20 steps",
        "optimizer.learning_rate=0.01",
        "seed=1",
        "optimizer.ema=0",
        "schedule.name=constant",
    ]
    settings = cnn_jax.settings("lenet_digits", *changes)
    run = cnn_jax.Run(settings, tmp_path_factory.mktemp("whole"))
    run.train(progress=False)
    rows = run.metrics("validation")
    best = int(rows["step"][np.flatnonzero(rows["accuracy"] == rows["accuracy"].max())[0]])
    assert run.chosen()[1] == f"best validation accuracy, step {best}" and best % 20 and best < 60
    return settings, run


@pytest.mark.slow
def test_batch_normalisation_of_parts_of_a_batch_is_said(tmp_path, capsys):
    small = ["data.name=fake", "data.side=32", "data.examples=40", "model.width=8", "optimizer.accumulate=2"]
    small += ["train.batch_size=16", "train.duration=2 steps", "schedule.warmup=0 steps"]
    cnn_jax.Run(cnn_jax.settings("alexnet_cifar10", *small), tmp_path).train(steps=1)
    line = "optimizer.accumulate = 2: batch normalisation goes by the statistics of each part of a batch"
    assert line in capsys.readouterr().err
