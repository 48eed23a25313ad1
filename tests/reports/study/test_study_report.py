"""A study's report as its readers meet it: whole, self-contained, and right in its figures."""

import dataclasses
import re

import numpy as np
import pytest
from pages import Page

from cnn_jax.config import Config, Data, LeNet, Protocol
from cnn_jax.config.study import Arm, Study
from cnn_jax.reports.study.plots import limits
from cnn_jax.reports.study.report import render, write_report
from cnn_jax.studies import statistics
from cnn_jax.studies.measurements.base import Result
from cnn_jax.studies.results import ArmResult, Results, latex

NAN = float("nan")
KINDS = ("average", "min", "max_average", "max_blur", "soft", "lp", "log_sum_exp")
KINDS += ("stochastic", "mixed", "subsample", "aps", "fractional", "lip")
ALWAYS = ["result", "differences", "curves", "filters", "maps", "pooled", "paper", "protocol", "records"]
MEASURED = ["consistency", "shifts", "border", "equivariance", "edges", "position", "swapped"]


def measured(random, seeds, quality):
    """Every measurement, of networks whose quality is from 0 to 1."""
    near = lambda *shape: quality + 0.01 * random.standard_normal((seeds, *shape))
    shares = lambda: {name: near() for name in ("agreement", "stability", "accuracy")}
    distance = np.hypot(*np.meshgrid(np.arange(-4, 5), np.arange(-4, 5)))
    by_shift = near(9, 9) - 0.08 * distance
    layers = lambda *shape: {name: 0.1 + abs(near(*shape)) for name in ("conv1", "pool1", "conv2")}
    return {
        "consistency": Result(**shares(), reach=4, circular=False, draws=5),
        "circular": Result(**shares(), reach=4, circular=True, draws=5),
        "shift_map": Result(
            accuracy=by_shift,
            probability=by_shift,
            diagonal_accuracy=by_shift[:, range(4, 9), range(4, 9)],
            diagonal_probability=by_shift[:, range(4, 9), range(4, 9)],
            **{name: 0.1 * near() for name in ("diagonal_sd", "changed", "jaggedness")},
            reach=4,
            circular=False,
        ),
        "border": Result(accuracy=near(5), images=50),
        "equivariance": Result(error=layers(5), images=64, circular=False),
        "edges": Result(
            edge=layers(), centre=layers(), blank_edge=layers(), blank_centre=layers() | {"conv1": np.zeros(seeds)},
            images=64,
        ),
        "position": Result(spearman=near(), error=0.1 * near(), chance=0.25, layer="pool2", images=64),
        "swapped": Result(accuracy=near(), images=50),
    }  # fmt: skip


def without(found, failed):
    """A measurement with NaN for the seeds that failed."""
    blank = lambda values: np.where(failed.reshape(-1, *[1] * (values.ndim - 1)), NAN, values)
    changes = {}
    for name, value in vars(found).items():
        if isinstance(value, dict):
            changes[name] = {layer: blank(each) for layer, each in value.items()}
        elif isinstance(value, np.ndarray):
            changes[name] = blank(value)
    return Result(**vars(found) | changes)


def make(arms=3, seeds=4, images=200, measurements=True, failed=(), unfinished=None, names=None, pairs=()) -> Results:
    """A study of invented results; the arms are 0.01 apart, the first is the baseline, and `failed` ones diverged."""
    random = np.random.default_rng(0)
    names = names or ["max", *KINDS][:arms]
    kinds = ["max", *KINDS]
    declared = tuple(
        Arm(name=name, changes=(f"model.pool.kind={kind}",) if kind != "max" else ())
        for name, kind in zip(names, kinds)
    )
    study = Study(
        experiment="pooling_digits",
        base=Config(model=LeNet(activation="relu"), data=Data.of(name="digits"), experiment="pooling_digits", seed=3),
        arms=declared,
        baseline=names[0],
        pairs=pairs,
        protocol=Protocol(seeds=seeds),
    )
    luck = random.random((seeds, images))
    found = []
    for place, arm in enumerate(declared):
        quality = 0.95 - 0.01 * place
        correct = luck + 0.01 * random.standard_normal((seeds, images)) < quality
        finite = np.array([(arm.name, seed) not in failed for seed in range(3, 3 + seeds)])
        numbers = measured(random, seeds, quality) if measurements else {}
        maps = np.maximum(random.standard_normal((12, 12, 4)), 0)
        found.append(
            ArmResult(
                arm=arm,
                record={
                    "parameters": 44_426 + place,
                    "multiply_adds": 281_640,
                    "seconds": 20.0 * seeds,
                    "images_per_second": 10_000.0,
                    "memory": 6 * 2**20 * seeds,
                    "together": seeds,
                    "devices": ["cpu:0"],
                    "study": dataclasses.asdict(study.protocol),
                },
                seeds=np.arange(3, 3 + seeds),
                accuracy=np.where(finite, correct.mean(1), NAN),
                loss=np.where(finite, 0.1, NAN),
                correct=correct,
                curves=[rows(random, quality) for _ in range(seeds)],
                measurements={name: without(each, ~finite) for name, each in numbers.items()},
                pictures={
                    "image": random.integers(0, 256, (28, 28, 1), dtype=np.uint8),
                    "filters": random.standard_normal((5, 5, 1, 4)),
                    "before pool1": maps,
                    "after pool1": maps[::2, ::2],
                },
            )
        )
    points = {each.arm.name: 100 * each.accuracy for each in found}
    correct = {each.arm.name: each.correct for each in found}
    compare = lambda names, baseline: statistics.compare({name: points[name] for name in names}, baseline, correct)
    return Results(
        study=study,
        arms=found,
        comparisons=compare(names, names[0]),
        pairs={pair: compare(pair, pair[1])[pair[0]] for pair in pairs},
        unfinished=unfinished or {},
        class_names=tuple("0123456789"),
    )


def rows(random, quality):
    made = []
    for epoch in range(1, 9):
        common = {"step": 100 * epoch, "epoch": float(epoch)}
        made.append({**common, "split": "train", "loss": 1 / epoch, "accuracy": 1 - 1 / epoch})
        reached = quality * (1 - 0.5**epoch) + 0.004 * random.standard_normal()
        made.append({**common, "split": "test", "loss": 1 / epoch, "accuracy": reached})
    return made


START = {
    "time": "2024-02-29 12:00:00",
    "command": "python launch.py --experiment=pooling_digits",
    "git": {"commit": "0123456789abcdef", "dirty": True, "diff": "+new <line>"},
    "devices": ["cpu:0"],
}


@pytest.fixture(scope="module")
def whole():
    results = make(pairs=(("min", "average"),), failed={("min", 4)}, unfinished={"soft": "ValueError: <no>", "lp": ""})
    return results, render(results, [START])


def test_page_is_whole_self_contained_and_described(whole):
    text = whole[1]
    page = Page(text)
    sections = [section["id"] for section in page.all("section")]
    assert sections == [*ALWAYS[:3], *MEASURED, *ALWAYS[3:]]
    assert [link["href"] for link in page.all("a")] == [f"#{name}" for name in sections]
    assert not {tag for tag, _ in page.tags} & {"script", "link", "iframe", "object"}
    assert all(image["src"].startswith("data:image/png;base64,") and image["alt"] for image in page.all("img"))
    assert not re.search(r"url\((?!#)|@import", text)
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in page.all("svg"))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|xlink:href="|\shref=")#([\w-]+)', text)) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    assert len(page.all("table")) == len(page.all("caption"))
    assert "What pooling does to accuracy is small here" in page.words
    assert "0123456789 with uncommitted changes" in page.words and START["command"] in page.words


def test_tables_hold_the_results(whole):
    results, text = whole
    page = Page(text)
    table = page.tables[0]
    assert [row[0].split()[0] for row in table[1:]] == ["max", "average", "min"]
    for each, row in zip(results.arms, table[1:]):
        accuracy = 100 * each.accuracy[np.isfinite(each.accuracy)]
        assert row[1] == str(len(accuracy))
        assert row[2] == f"{accuracy.mean():.1f} ± {accuracy.std(ddof=1):.1f}"
    for name, row in zip(("average", "min"), table[2:]):
        compared = results.comparisons[name]
        shown = [float(number.replace("−", "-")) for number in (row[4], *row[5].split(" to "))]
        assert shown == pytest.approx([compared.difference, *compared.interval], abs=0.051)
        assert row[6] == ("< 0.001" if compared.p_holm < 0.001 else f"{compared.p_holm:.3f}")
        assert row[8] == f"{compared.images.better} / {compared.images.worse}"
    pair = page.tables[1][1]
    assert pair[0] == "min − average"
    assert pair[1] == f"{results.pairs['min', 'average'].difference:+.1f}".replace("-", "−")
    measured = dict(zip(page.tables[2][0], page.tables[2][2]))  # of the second arm
    assert (
        measured["consistency,\u00a0%"].split(" ± ")[0] == f"{100 * results.arms[1].figures['consistency'].mean():.1f}"
    )
    more = dict(zip(page.tables[3][0], page.tables[3][2]))
    assert more["position, rank correlation"].startswith(f"{results.arms[1].figures['position_spearman'].mean():.2f}")
    assert page.tables[4][2][1:] == ["44,427", "281,640", "20 s", "10,000", "6.0 MiB"]


def test_layers_without_a_ratio_have_a_dash(whole):
    ratios = [table for table in Page(whole[1]).tables if table[0] == ["arm", "conv1", "pool1", "conv2"]]
    errors, images, blank = ratios
    edges = whole[0].arms[0].measurements["edges"]
    assert images[1][1] == f"{(edges.edge['conv1'] / edges.centre['conv1']).mean():.2f}"
    assert [row[1] for row in blank[1:]] == ["–"] * 3
    error = whole[0].arms[1].measurements["equivariance"].error["pool1"]
    assert errors[2][2] == f"{error[:, 1:].mean():.2f}"


def test_what_failed_is_said(whole):
    results, text = whole
    words = Page(text).words
    assert "min: training diverged with seed 4 of 4" in words
    assert "soft: no result, ValueError: <no>." in words and "lp: no result yet." in words
    none = make(seeds=2, failed={("average", 3), ("average", 4)})
    words = Page(render(none, [])).words
    assert "average: training diverged with every seed." in words and "Not tested: average" in words
    assert "nan" not in words.lower().split()
    gone = make(arms=2, seeds=2, failed={("max", 3), ("max", 4)})
    assert "Training diverged with every seed of the baseline max" in Page(render(gone, [])).words


def test_reading_names_what_differs():
    results = make(arms=4, seeds=6, images=400, measurements=False)
    told = [arm for arm, each in results.comparisons.items() if each.p_holm < 0.05]
    assert "max_average" in told
    words = Page(render(results, [])).words
    reading = words[words.index("The baseline max") : words.index("Accuracy on the test images, mean")]
    difference = results.comparisons["max_average"].difference
    assert f"max_average ({difference:+.1f} points, 95% interval".replace("-", "−") in reading
    assert ("is worse" if len(told) == 1 else "are worse") in reading and "better" not in reading
    assert "6 pairs of seeds" in reading
    untold = dataclasses.replace(results.comparisons["min"], p_holm=0.2, detectable=1.25)
    words = Page(render(dataclasses.replace(results, comparisons={"min": untold}), [])).words
    assert "No arm is shown to differ from it" in words and "p = 0.200" in words
    # 1.25 is rounded to even.
    assert "With 6 seeds, only differences of about 1.2 points or more would have been noticed. Use more" in words
    few = make(arms=2, seeds=2, images=400, measurements=False)
    untold = dataclasses.replace(next(iter(few.comparisons.values())), p_holm=0.2, detectable=1.25, n=2)
    words = Page(render(dataclasses.replace(few, comparisons={"min": untold}), [])).words
    assert "take this as a rehearsal, and use at least 5 seeds" in words


def test_a_study_that_was_cut_says_so():
    results = make(arms=2, seeds=2, measurements=False)
    words = Page(render(results, [])).words
    assert "This differs from the recipe" in words and "study.seeds: 5 → 2" in words


def test_intervals_of_accuracy_end_where_shares_do():
    found = statistics.summarise_shares([0.93, 1.0])
    assert found.interval == (pytest.approx(52.02, abs=0.01), 100.0) and found.mean == pytest.approx(96.5)
    assert statistics.summarise_shares([0.5]).interval is None


def test_what_was_not_measured_is_left_out():
    page = Page(render(make(arms=2, seeds=1, measurements=False), []))
    assert [section["id"] for section in page.all("section")] == ALWAYS
    assert "No run record was kept." in page.words and "Measured besides" not in page.words


def test_latex_stands_as_written(whole):
    assert latex(whole[0]).strip().splitlines()[-2] in Page(whole[1]).text


def test_the_same_results_give_the_same_bytes(tmp_path):
    texts = [render(make(arms=2, seeds=2), [START]) for _ in range(2)]
    assert texts[0] == texts[1]
    write_report(tmp_path / "report.html", make(arms=2, seeds=2, measurements=False), tmp_path)
    assert (tmp_path / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_names_are_escaped():
    results = make(arms=2, seeds=2, names=["max", "<b>&$x$"])
    page = Page(render(results, []))
    assert not page.all("b")
    assert page.words.count("<b>&$x$") >= 10  # tables, figures and all


def test_an_outlier_does_not_squeeze_the_others():
    points = lambda *values: [(value, value) for value in values]
    assert limits(points(1.0, 1.2, 1.4, 1.6, -80.0)) == (1.0, 1.6)
    assert limits(points(1.0, 1.2, 1.4, 5.0)) == (1.0, 1.4)
    assert limits(points(1.0, 1.2, 1.4, 1.9)) == (1.0, 1.9)
    assert limits([(0.0, 1.0), (0.5, 1.5), (-9.0, 9.0), (0.2, 0.4)]) == (0.0, 1.5)
    assert limits(points(0.0, 5.0)) == (0.0, 5.0)
    assert limits(points(3.0)) == (3.0, 3.0)
