"""Runs beside each other: the tests by hand, the page by what it says; and two runs trained for it."""

import dataclasses
import html
import re

import numpy as np
import pytest
from in_process import done, flags
from pages import Page
from scipy import stats

import cnn_jax
from cnn_jax.errors import UserError
from cnn_jax.reports.compare import contents
from cnn_jax.reports.compare.page import render
from cnn_jax.reports.parts import Example, Stage

COUNT, CLASSES = 50, 4
LABELS = np.arange(COUNT) % CLASSES
NAMES = tuple("abcd")
IMAGES = np.random.default_rng(0).integers(0, 256, (COUNT, 8, 8, 1), dtype=np.uint8)


def run(name, wrong, *changes, **others):
    """A run that is right but for some images, where it says the next class."""
    said = LABELS.copy()
    said[wrong] = (said[wrong] + 1) % CLASSES
    maps = np.random.default_rng(1).normal(size=(6, 6, 2))
    stage = Stage(name="conv1", maps=maps, pooling="max pooling 2x2", pooled=maps[::2, ::2])
    example = Example(
        name="test image 3", label="d", image=IMAGES[3], probabilities=np.eye(CLASSES)[0], stages=[stage],
        evidence={"occlusion": maps[..., 0]},
    )  # fmt: skip
    rows = [{"step": s, "epoch": s / 10, "split": "test", "loss": 1 / s, "accuracy": 1 - 1 / s} for s in (10, 20, 30)]
    fields = dict(
        name=name,
        settings=cnn_jax.settings("lenet_digits", *changes),
        step=30,
        rule="last step",
        metrics=rows,
        probabilities=0.9 * np.eye(CLASSES)[said] + 0.025,
        parameters=44_426,
        multiply_adds=281_640,
        seconds=61.0,
        examples=[example],
    )
    return contents.Compared(**(fields | others))


THREE = [
    run("plain", [0, 1, 2, 3, 4, 5, 6, 7, 8]),
    run("padded", [8, 9], "model.padding.mode=same"),
    run("average", [0, 8], "model.pool.kind=average", "model.padding.mode=2"),
]


def test_mcnemar_goes_by_what_one_alone_gets_right():
    right = np.stack([each.probabilities.argmax(-1) == LABELS for each in THREE])
    found = contents.pairs(right)
    assert [(pair.first, pair.second, pair.only_first, pair.only_second) for pair in found] == [
        (0, 1, 1, 8), (0, 2, 0, 7), (1, 2, 1, 1),
    ]  # fmt: skip
    expected = [stats.binomtest(1, 9).pvalue, stats.binomtest(0, 7).pvalue, 1.0]
    assert [pair.p for pair in found] == pytest.approx(expected)
    assert [pair.p_holm for pair in found] == pytest.approx([2 * expected[0], 3 * expected[1], 1.0])


def test_settings_that_differ_and_no_others():
    found = dict(contents.differences(THREE))
    assert found["model.padding.mode"] == ["valid", "same", "2"]
    assert found["model.pool.kind"] == ["max", "max", "average"]
    assert found["model.pool.count_padding"] == [contents.ABSENT, contents.ABSENT, "False"]
    assert len(found) == 3 and contents.differences([THREE[0], THREE[0]]) == []


def test_the_page():
    page = Page(render(THREE, IMAGES, LABELS, NAMES))
    text = " ".join(page.text.split())
    assert [section["id"] for section in page.all("section")] == ["accuracy", "settings", "curves", "images", "maps"]
    assert page.all("script") == [] and all(image.get("alt") for image in page.all("img"))
    assert "9 of them are answered correctly by some runs and not by others, 1 by none" in text
    assert "plain 82.00% 69.20% to 90.23% 9" in text and "padded 96.00%" in text
    titles = [image["title"] for image in page.all("img") if image.get("title")]
    assert titles == [
        f"test image {number}" for number in (0, 1, 2, 3, 4, 5, 6, 7, 9)
    ]  # the first run's mistakes first
    drawings = [drawing["aria-label"] for drawing in page.all("svg")]
    assert drawings == ["loss over the runs plain, padded, average", "accuracy over the runs plain, padded, average"]
    assert render(THREE, IMAGES, LABELS, NAMES) == render(THREE, IMAGES, LABELS, NAMES)


def test_runs_that_agree_in_everything():
    one, two = THREE[0], dataclasses.replace(THREE[0], name="again", metrics=[])
    text = " ".join(Page(render([one, two], IMAGES, LABELS, NAMES)).text.split())
    assert "None: the runs have the same settings" in text
    assert "answered correctly by all runs or by none" in text


def test_markup_in_a_name_is_text():
    nasty = "<script>alert(1)</script>"
    text = render([run(nasty, [1]), run("b", [2])], IMAGES, LABELS, NAMES)
    assert "<script>" not in re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL)
    assert html.escape(nasty) in text


@pytest.mark.parametrize(
    "words, message",
    [
        ({"runs": ["a"]}, "needs --runs=runs/a,runs/b: the workdirs of two runs or more"),
        ({"runs": ["a", "a"]}, "needs --runs=runs/a,runs/b"),
        ({"runs": ["a", "b"]}, "--runs=a: there is no run in "),
        ({"runs": ["a", "b"], "set": ["seed=1"]}, "--set does not go with --mode=compare"),
        ({"runs": ["a", "b"], "out": "a.pdf"}, "--out=a.pdf must end in .html"),
    ],
    ids=str,
)
def test_what_is_refused(words, message):
    given = {"mode": "compare"} | words
    status, said = done(dataclasses.replace(flags(None, given.pop("set", []), "", **given), workdir=None))
    assert status == 2 and message in said


def test_runs_go_with_comparing():
    status, said = done(flags("lenet_digits", [], "runs/a", runs=["a", "b"]))
    assert status == 2 and "--runs goes with --mode=compare and explore, not --mode=train" in said


@pytest.mark.slow
def test_two_runs_and_one_on_other_images(tmp_path):
    few = ("train.duration=20 steps", "schedule.warmup=0 steps", "data.limit=100", "data.validation=20")
    for name, words in {"a": (), "b/run": ("model.padding.mode=same",), "c/run": ("data.subsets=first",)}.items():
        cnn_jax.Run(cnn_jax.settings("lenet_digits", *few, *words), tmp_path / name).train(progress=False)
    made = cnn_jax.compare([tmp_path / "a", tmp_path / "b/run"], tmp_path / "both.html", images=[5])
    page = Page(made.read_text())
    text = " ".join(page.text.split())
    assert "model.padding.mode valid same" in text and "Test image 5" in text
    wrong = [round(100 * (1 - cnn_jax.Run(workdir=tmp_path / name).evaluate()["accuracy"])) for name in ("a", "b/run")]
    for name, count in zip(("a", "run"), wrong):
        assert re.search(rf" {name} {100 - count}\.00% [\d.]+% to [\d.]+% {count} ", text)
    with pytest.raises(UserError, match="is measured on other test images than"):
        cnn_jax.compare([tmp_path / "a", tmp_path / "c/run"], tmp_path / "other.html")
