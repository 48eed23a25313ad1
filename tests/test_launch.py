"""Every experiment and every mode of launch.py, end to end."""

import csv
import functools
import json
import os
import pty
import re
import subprocess
import termios

import numpy as np
import pytest
from launching import QUICK, RUNS, command, environment, launch, settings, shared_folder, snapshot
from PIL import Image
from tiny_data import tiny_arrays, write_tiny

import cnn_jax
from cnn_jax import trained as brought_along
from cnn_jax.config import experiments
from cnn_jax.files import cores
from cnn_jax.flags import MODES

FILES = {
    "metrics.jsonl", "metrics.csv", "timing.jsonl", "tensorboard", "checkpoints", "config.json", "starts.jsonl",
    "results.json", "report.html",
}  # fmt: skip
TEST_EXAMPLES = {"lenet_digits": 64}  # of 360, by data.limit; the others have the 32 that write_tiny writes
# Made-up images for those whose data is large, of the smallest side that the network takes; CHWN compiles sooner.
FAKE = {
    "alexnet_imagenet": {"data__side": 72, "data__crop": 67, "model__units": 64, "model__layout": "CHWN"},
    "alexnet_cifar10": {"data__side": 32, "model__width": 8, "model__layout": "CHWN"},
}
# Half a minute each; tests/training/test_step.py has their steps as programs, at full size, and others their parts.
LARGE = ("alexnet_owt_imagenet", "alexnet_bn_imagenet", "alexnet_notebook_imagenet")
HELD_OUT = ("lenet_digits", "lenet_fashion_mnist")  # experiments with a validation split


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return environment(shared_folder(tmp_path_factory, "cache"), **QUICK)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    write_tiny("mnist", folder)
    write_tiny("fashion_mnist", folder)
    return folder


@pytest.fixture(scope="module")
def trained(env, data, tmp_path_factory):
    """A function from the name of an experiment to its workdir and what its few steps of training printed."""

    @functools.cache
    def train(name):
        folder = tmp_path_factory.mktemp(name) / "run"
        asked = settings(data__data_dir=data, data__limit=64, train__duration="3 steps", schedule__warmup="1 steps")
        asked += settings(train__batch_size=8, log__every="2 steps")
        asked += settings(data__validation=16) if name in HELD_OUT else []
        asked += settings(data__name="fake", data__classes=10, data__examples=64, **FAKE[name]) if name in FAKE else []
        return folder, launch(env, f"--experiment={name}", f"--workdir={folder}", *asked)

    return train


QUICK_RUNS = ("lenet_digits", "lenet_mnist")  # of the others, each takes half a minute or more


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=() if name in QUICK_RUNS else pytest.mark.slow) for name in sorted({*RUNS} - {*LARGE})],
)
def test_experiment(trained, name):
    folder, done = trained(name)
    assert {path.name for path in folder.iterdir()} >= FILES
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["split"]) for row in rows if row["split"] == "train"] == [(2, "train"), (3, "train")]
    assert {row["split"] for row in rows} == {"train", "validation" if name in HELD_OUT else "test"}
    with (folder / "metrics.csv").open() as file:
        for text, row in zip(csv.DictReader(file), rows, strict=True):
            assert {key: value for key, value in text.items() if value} == {
                key: str(value) for key, value in row.items() if value is not None
            }
    results = json.loads((folder / "results.json").read_text())
    assert results["step"] == 3
    assert results["test_examples"] == 13 if name in FAKE else TEST_EXAMPLES.get(name, 32)
    assert results["rule"] == ("best validation accuracy" if name in HELD_OUT else "last step")
    assert f"test accuracy {100 * results['test_accuracy']:.2f} %" in done.stdout
    assert f"report {folder / 'report.html'}\n" in done.stdout
    assert name in (folder / "report.html").read_text()
    assert list((folder / "tensorboard").glob("events.*"))
    assert (folder / "checkpoints" / "3").is_dir()
    start = json.loads((folder / "starts.jsonl").read_text())
    assert start["command"].startswith("python ") and f"--experiment={name}" in start["command"]


def test_plain_lines_without_a_terminal(trained):
    _, done = trained("lenet_mnist")
    assert "\x1b" not in done.stderr and "\r" not in done.stderr
    assert re.search(r"first step done \d+\.\d s after the start", done.stderr)
    assert re.search(r"step 3/3  epoch 0\.38  test loss \d+\.\d{4}  accuracy \d+\.\d\d %", done.stderr)


@pytest.mark.slow
def test_a_bar_on_a_terminal(trained, env, data, tmp_path):
    """Through a pseudo-terminal of 80 columns; results still go to standard output alone."""
    trained("lenet_mnist")  # so that its programs are compiled
    main, secondary = pty.openpty()
    termios.tcsetwinsize(secondary, (24, 80))
    asked = settings(data__data_dir=data, data__limit=64, train__duration="60 steps", train__batch_size=8)
    asked += settings(evaluation__every="60 steps", log__every="5 steps", checkpoint__every="60 steps")
    words = command("--experiment=lenet_mnist", f"--workdir={tmp_path / 'run'}", "--noreport", *asked)
    with subprocess.Popen(words, env=env | {"TERM": "xterm"}, stdout=subprocess.PIPE, stderr=secondary) as process:
        os.close(secondary)
        seen = bytearray()
        try:
            while part := os.read(main, 65536):
                seen += part
        except OSError:  # how Linux says that the other side is closed
            pass
        assert process.wait(60) == 0
        assert process.stdout.read().startswith(b"test accuracy ")
    os.close(main)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())
    assert re.search(r"step 60/60 \S+ ETA \d+:\d\d", text), text
    assert re.search(r"loss \d\.\d{4}  accuracy \d+\.\d\d %  [\d,]+ examples/s  waiting for data \d+\.\d %", text), text
    assert "test loss" in text


TOTALS = {"lenet_mnist": "44,426", "lenet5_mnist": "60,000", "lenet5_modern_mnist": "61,706"}


@pytest.mark.parametrize(
    "name, total",
    [pytest.param(*each, marks=[pytest.mark.slow] * (each[0] != "lenet_mnist")) for each in TOTALS.items()],
)
def test_summary(env, tmp_path, name, total):
    done = launch(env, f"--experiment={name}", "--mode=summary", cwd=tmp_path)
    assert re.search(rf"^total +{total} ", done.stdout, re.MULTILINE)
    small, large = map(float, re.findall(r"^  batches of \d+: ([\d.]+)$", done.stdout, re.MULTILINE))
    assert 0.5 < small < large < 100  # MiB
    assert not list(tmp_path.iterdir())


def test_eval_measures_and_leaves_the_run_alone(env, trained):
    folder, _ = trained("lenet_digits")
    before = snapshot(folder)
    done = launch(env, "--experiment=lenet_digits", f"--workdir={folder}", "--mode=eval")
    assert snapshot(folder) == before
    results = json.loads((folder / "results.json").read_text())
    accuracy, loss = 100 * results["test_accuracy"], results["test_loss"]
    error, macro_f1 = 100 * results["test_calibration_error"], 100 * results["test_macro_f1"]
    expected = (
        f"test: accuracy {accuracy:.2f} %  loss {loss:.4f}  calibration error {error:.2f} %  macro F1 {macro_f1:.2f} %"
        "  n = 64  (best validation accuracy, step 3)"
    )
    validation, test = done.stdout.splitlines()
    assert test == expected
    assert validation.startswith("validation: ") and "n = 16 " in validation


@pytest.mark.slow
def test_eval_measures_what_a_study_measures(env, trained):
    folder, _ = trained("lenet_digits")
    run = cnn_jax.Run(workdir=folder)
    found = run.measurements("consistency", "fgsm")
    done = launch(env, f"--workdir={folder}", "--mode=eval", "--measure=consistency,fgsm")
    *_, consistency, alike, _, _, fgsm, against, clean = done.stdout.splitlines()
    assert consistency.startswith("consistency: Share of test images classified alike at two random shifts")
    assert alike == f"  consistency {100 * found['consistency']:.2f} %"
    assert "moved by 8 of 255 grey levels" in fgsm
    assert against == f"  accuracy against FGSM {100 * found['fgsm_accuracy']:.2f} %"
    assert clean == f"  on the same images, unchanged {100 * run.evaluate('test')['accuracy']:.2f} %"
    refused = launch(env, f"--workdir={folder}", "--mode=eval", "--measure=corruption,crops", status=2).stderr
    assert "--measure: there is no corruption; there are border, " in refused
    assert "--measure: 'crops' needs data.crop, which is 0" in refused


def test_report_is_rebuilt_to_the_byte(env, trained):
    folder, _ = trained("lenet_digits")
    report = folder / "report.html"
    before = report.read_bytes()
    report.unlink()
    done = launch(env, "--experiment=lenet_digits", f"--workdir={folder}", "--mode=report")
    assert report.read_bytes() == before
    assert done.stdout == f"report {report}\n"


def test_predict(env, trained, tmp_path):
    """The same digit in four files has the same probabilities; a photograph has some."""
    folder, _ = trained("lenet_digits")
    digit = tiny_arrays()["test"][0][0, ..., 0]
    clear = np.dstack([np.zeros((28, 28, 3), np.uint8), digit])  # black ink, transparent where there is none
    photograph = Image.fromarray(255 - digit).resize((1200, 900)).convert("RGB")
    names = [str(tmp_path / name) for name in ("stored.png", "scan.png", "clear.png", "photograph.jpg")]
    for name, image in zip(names, (*map(Image.fromarray, (digit, 255 - digit, clear)), photograph)):
        image.save(name)
    words = ["--experiment=lenet_digits", f"--workdir={folder}", "--mode=predict", f"--images={','.join(names)}"]
    done = launch(env, *words)
    blocks = re.split(r"\n(?! )", done.stdout.rstrip("\n"))
    heads, tables = zip(*(block.split("\n", 1) for block in blocks))
    assert len(heads) == 4
    expected = ("bright on black: as it is", "inverted", "laid on white", "1200x900 resized to 28x28")
    for name, head, said in zip(names, heads, expected):
        assert head.startswith(f"{name}: ") and said in head
    assert "inverted" in heads[3]
    assert tables[0] == tables[1] == tables[2]
    for head, table in zip(heads, tables):
        rows = re.findall(r"^  (\S+) +(\d+\.\d\d) %$", table, re.MULTILINE)
        shares = [float(share) for _, share in rows]
        assert sorted(label for label, _ in rows) == list("0123456789")
        assert shares == sorted(shares, reverse=True)
        assert sum(shares) == pytest.approx(100, abs=0.06)  # ten numbers rounded to 0.01
        assert f": {rows[0][0]} (" in head


@pytest.mark.slow
def test_predict_takes_folders_and_patterns_and_goes_on_past_what_cannot_be_read(env, trained, tmp_path):
    folder, _ = trained("lenet_digits")
    digits = tiny_arrays()["test"][0][:4, ..., 0]
    (tmp_path / "shots/more").mkdir(parents=True)
    for name, digit in zip(("1.png", "2,b.png", "more/3.png", "4.jpg"), digits):
        Image.fromarray(digit).save(tmp_path / "shots" / name)
    (tmp_path / "shots/broken.png").write_text("no image")
    (tmp_path / "shots/notes.txt").write_text("no image either")
    words = ["--experiment=lenet_digits", f"--workdir={folder}", "--mode=predict"]
    asked = [*words, "--images=shots/1.png,shots/4.jpg", "--images=shots/2,b.png", "--images=shots/*.png"]
    done = launch(env, *asked, "--out=answers.json", cwd=tmp_path, status=1)
    read = re.findall(r"^(shots/.*?): ", done.stdout, re.MULTILINE)
    assert read == ["shots/1.png", "shots/4.jpg", "shots/2,b.png"]
    assert "cannot be read as an image: shots/broken.png" in done.stderr and "1 of 4 not read" in done.stderr
    found = json.loads((tmp_path / "answers.json").read_text())
    assert [each["file"] for each in found["answers"]] == read and list(found["unreadable"]) == ["shots/broken.png"]
    assert found["answers"][0]["changes"] == "bright on black: as it is"
    assert sum(found["answers"][0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)
    (tmp_path / "shots/broken.png").unlink()
    done = launch(env, *words, "--images=shots", "--out=answers.csv", cwd=tmp_path)
    assert len(re.findall(r"^shots/", done.stdout, re.MULTILINE)) == 4
    lines = (tmp_path / "answers.csv").read_text().splitlines()
    assert lines[0] == "file,answer,probability,0,1,2,3,4,5,6,7,8,9" and len(lines) == 5
    done = launch(env, *words, f"--images={tmp_path}/shots", "--out=answers.html", cwd=tmp_path)
    page = (tmp_path / "answers.html").read_text()
    assert page.count("as the network saw it") == 4 and page.count("data:image/png") == 8 and "http" not in page
    done = launch(env, *words, "--images=shots/*.gif", cwd=tmp_path, status=2)
    assert done.stderr.strip() == "error: --images: these are no files: shots/*.gif"


@pytest.mark.slow
def test_prepare_twice(env, tmp_path):
    asked = ["--experiment=lenet_digits", "--mode=prepare", *settings(data__data_dir=tmp_path / "data")]
    first = launch(env, *asked, cwd=tmp_path)
    assert first.stdout == f"digits is prepared in {tmp_path}/data/digits/1.0.0: 1,437 train and 360 test examples\n"
    assert "already prepared" in launch(env, *asked, cwd=tmp_path).stdout
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


@pytest.mark.slow
@pytest.mark.skipif(cores() < 2, reason="needs two cores")
def test_a_small_network_uses_the_cores_as_devices_shows(env, tmp_path):
    free = {name: value for name, value in env.items() if name != "JAX_NUM_CPU_DEVICES"}
    words = ["--experiment=lenet_digits", f"--workdir={tmp_path / 'run'}"]
    shown = launch(free, "--mode=devices", *words).stdout
    planned = re.search(r"--parallel=pmap: (pmap on \d+ cpu devices)", shown)[1]
    short = settings(train__duration="3 steps", schedule__warmup="0 steps")
    assert f"parallel: {planned};" in launch(free, *words, "--noreport", *short).stderr


def test_settings_are_listed(env, tmp_path):
    shown = launch(env, "--mode=settings", "model.pool.b", "optimizer.t", cwd=tmp_path).stdout
    assert re.findall(r"^\S+", shown, re.MULTILINE) == ["model.pool.beta", "optimizer.trust"]
    assert "    read by model.name = any but mlp and model.pool.kind = log_sum_exp, soft" in shown
    mine = launch(env, "--mode=settings", "--experiment=pooling_digits", "model.act", "--set", "seed=4", cwd=tmp_path)
    assert "model.activation = relu" in mine.stdout and "the default is tanh" in mine.stdout
    refused = launch(env, "--mode=settings", "model.pol", cwd=tmp_path, status=2).stderr
    assert "no setting begins with 'model.pol'; did you mean model.pool? there are seed, parallel, model, " in refused


@pytest.mark.slow
def test_devices_are_shown(env, tmp_path):
    assert re.search(r"^  cpu:0  cpu$", launch(env, "--mode=devices", cwd=tmp_path).stdout, re.MULTILINE)
    four = env | {"JAX_NUM_CPU_DEVICES": "2", "JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    shown = launch(four, "--mode=devices", "--experiment=lenet_mnist", cwd=tmp_path).stdout
    assert "lenet_mnist would run with --parallel=pmap: pmap on 2 cpu devices, layout CHWN" in shown
    assert "JAX_DEFAULT_MATMUL_PRECISION: highest" in shown
    study = launch(four, "--mode=devices", "--experiment=pooling_digits", "--set=study.seeds=4", cwd=tmp_path).stdout
    assert "would train 4 networks of an arm at the same time: mesh on 2 cpu devices" in study
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_workdir_names_its_experiment_and_a_run_starts_again_elsewhere(env, tmp_path):
    short = settings(train__duration="3 steps", schedule__warmup="0 steps", data__limit=64, data__validation=16)
    run, again = tmp_path / "run", tmp_path / "again"
    launch(env, "--experiment=lenet_digits", f"--workdir={run}", "--noreport", "--seed=7", *short)
    assert "already at its last step" in launch(env, f"--workdir={run}", "--noreport").stderr
    measured = launch(env, f"--workdir={run}", "--mode=eval").stdout
    launch(env, f"--like={run}", f"--workdir={again}", "--noreport")
    same = [(folder / "metrics.jsonl").read_bytes() for folder in (run, again)]
    assert same[0] == same[1] and launch(env, f"--workdir={again}", "--mode=eval").stdout == measured
    other = tmp_path / "other"
    launch(env, f"--like={run}", f"--workdir={other}", "--noreport", "--seed=8")
    assert json.loads((other / "config.json").read_text())["seed"] == 8
    by_weights = launch(env, f"--init_from={run}", "--mode=eval", cwd=tmp_path).stdout
    assert by_weights.partition("(")[0] == measured.partition("(")[0]


def test_a_run_that_is_not_named_is_told(env, trained, tmp_path):
    run, _ = trained("lenet_digits")
    for words, message in [
        ([f"--like={run}", f"--workdir={run}"], "name another folder with --workdir"),
        ([f"--like={tmp_path}/no"], "there is neither a run nor a study"),
        ([f"--like={run}", "--experiment=lenet_digits"], "exclude each other"),
        ([f"--like={run}"], "name another folder with --workdir"),
        ([f"--workdir={tmp_path}/no"], "holds no run that names its experiment: add --experiment=NAME"),
        (["--mode=eval"], "which experiment?"),
        (["--experiment=lenet_digits", "--init_from=no.pt"], "--init_from=no.pt: there is no such file or folder"),
    ]:
        assert message in launch(env, *words, status=2).stderr


def test_list_and_help(env, tmp_path):
    listed = launch(env, "--list", cwd=tmp_path).stdout
    *lines, space, last = listed.splitlines()
    assert [line.split()[0] for line in lines] == experiments.names()
    assert all(len(line.split()) > 3 for line in lines)
    assert not space and last == f"already trained, for --init_from: {', '.join(brought_along.names())}"
    for flag in ("--help", "-h"):
        shown = launch(env, flag, cwd=tmp_path).stdout
        for name in ("experiment", "mode", "set", "workdir", "seed", "init_from", "images"):
            assert re.search(rf"^ +--{name}:", shown, re.MULTILINE), shown
        for name in ("list", "resume", "report"):
            assert f"--[no]{name}" in shown
        for mode, line in MODES.items():
            assert re.search(rf"^  {mode} +{re.escape(line)}$", shown, re.MULTILINE)
        assert "launch.py --experiment=lenet_digits" in shown and "Exit status: 0 done" in shown
    assert not list(tmp_path.iterdir())
