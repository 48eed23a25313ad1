"""A study's report as its readers meet it: whole, self-contained, and right in its figures."""

import dataclasses
import re

import numpy as np
import pytest
from pages import Page

from cnn_jax.config import Config, Data, LeNet, Protocol
from cnn_jax.config.study import Arm, Study
from cnn_jax.reports.study import pictures
from cnn_jax.reports.study.plots import limits
from cnn_jax.reports.study.report import render, write_report
from cnn_jax.studies import results as tables_of
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


def make(
    arms=3, seeds=4, images=200, measurements=True, failed=(), unfinished=None, names=None, pairs=(), levels=None
) -> Results:
    """A study of invented results; the arms are 0.01 apart, the first is the baseline, and `failed` ones diverged."""
    random = np.random.default_rng(0)
    names = names or ["max", *KINDS][:arms]
    kinds = ["max", *KINDS]
    declared = tuple(
        Arm(name=name, changes=(f"model.pool.kind={kind}",) if kind != "max" else (), levels=level)
        for name, kind, level in zip(names, kinds, levels or [()] * len(names))
    )
    study = Study(
        experiment="pooling_digits",
        base=Config(model=LeNet(activation="relu"), data=Data.of(name="digits"), experiment="pooling_digits", seed=3),
        arms=declared,
        baseline=names[0],
        pairs=pairs,
        factors=("pool", "activation") if levels else (),
        within="activation" if levels else "",
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
                    "seconds_compiling": 5.0,
                    "seconds_measuring": 7.0,
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
    return tables_of.compared(study, found, unfinished or {}, tuple("0123456789"))


def with_arms(results, arms):
    return dataclasses.replace(results, accuracy=dataclasses.replace(results.accuracy, arms=arms))


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
    assert pair[1] == f"{results.accuracy.pairs['min', 'average'].difference:+.1f}".replace("-", "−")
    tables = [table for table in page.tables if table[0][0] == "arm"]
    measured = {head: cell for table in tables[1:] for head, cell in zip(table[0], table[2])}  # of the second arm
    shares = 100 * results.arms[1].figures["consistency"]
    change = shares - 100 * results.arms[0].figures["consistency"]
    found = [statistics.summarise(values) for values in (shares, change)]
    words = "{:.1f} [{:.1f} to {:.1f}]{:+.1f} [{:+.1f} to {:+.1f}]"
    expected = words.format(found[0].mean, *found[0].interval, found[1].mean, *found[1].interval).replace("-", "−")
    assert measured["consistency,\u00a0%"].removesuffix(" *").replace(" ", "") == expected.replace(" ", "")
    position = results.arms[1].figures["position_spearman"].mean()
    assert measured["position, rank correlation"].startswith(f"{position:.2f} [")
    costs = next(table for table in tables if "images/s" in table[0])
    assert costs[2][1:] == ["44,427", "281,640", "20 s", "5 s", "7 s", "10,000", "6.0 MiB"]


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
    none = make(seeds=4, failed={("average", seed) for seed in range(3, 7)})
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
    words = Page(render(with_arms(results, {"min": untold}), [])).words
    assert "No arm is shown to differ from it" in words and "p = 0.200" in words
    # 1.25 is rounded to even.
    assert "With 6 seeds, only differences of about 1.2 points or more would have been noticed. Use more" in words


def test_few_seeds_are_a_rehearsal():
    """Nothing is tested, and it is said how large a difference would have been seen."""
    few = make(arms=3, seeds=3, images=400, measurements=False, pairs=(("min", "average"),))
    assert all(each.p is None and each.detectable for each in few.comparisons.values())
    page = Page(render(few, []))
    low, high = (f"{size(each.detectable for each in few.comparisons.values()):.1f}" for size in (min, max))
    assert "This is a rehearsal: with 3 seeds nothing is tested" in page.words
    assert f"only differences of about {low} to {high} points, depending on the arm, or more" in page.words
    assert page.tables[0][0][-1] == page.tables[1][0][-1] == "smallest difference that would be seen"
    assert "significant." not in page.words and "A rehearsal: 3 arms, 3 seeds each" in page.words


def test_arms_of_a_level_are_compared_with_the_baseline_of_that_level():
    """Two poolings and two activations: families, interaction, and the tables that say so."""
    levels = [("max", "relu"), ("average", "relu"), ("max", "tanh"), ("average", "tanh")]
    made = make(4, 8, measurements=True, names=["max", "average", "tanh_max", "tanh_average"], levels=levels)
    points = {each.arm.name: 100 * each.accuracy for each in made.arms}
    for arm, reference in (("average", "max"), ("tanh_average", "tanh_max")):
        alone = statistics.compare({name: points[name] for name in (reference, arm)}, reference)[arm]
        assert made.comparisons[arm].difference == pytest.approx(alone.difference)
        assert made.comparisons[arm].p_holm == alone.p  # a family of one
    assert set(made.comparisons) == {"average", "tanh_average"}
    change = (points["tanh_average"] - points["tanh_max"]) - (points["average"] - points["max"])
    interaction = made.accuracy.interactions["tanh_average"]
    assert interaction.difference == pytest.approx(change.mean())
    assert interaction.interval == pytest.approx(statistics.summarise(change).interval)
    page = Page(render(made, []))
    assert "the baseline of its level" in page.words and "Interaction with activation" in page.words
    assert "The difference depends on the activation for" in page.words
    rows = tables_of.comparison_rows(made)
    kinds = {(row["kind"], row["arm"], row["reference"]) for row in rows if row["figure"] == "consistency"}
    assert kinds == {
        ("reference", "average", "max"),
        ("reference", "tanh_average", "tanh_max"),
        ("interaction", "tanh_average", "average"),
    }


def test_a_study_that_was_cut_says_so():
    results = make(arms=2, seeds=2, measurements=False)
    words = Page(render(results, [])).words
    assert "This differs from the recipe" in words and "study.seeds: 5 → 2" in words
    words = Page(render(make(arms=2, seeds=4, measurements=False), [])).words
    assert "Not the study of its recipe, which is below, but 2 arms, 4 seeds each, 10 epochs of digits." in words


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


def test_arms_that_differ_in_a_number_get_a_curve():
    made = make(arms=4, seeds=4, measurements=False)
    changes = [("model.pool.kind=lp", f"model.pool.p={power}") for power in (1, 2, 8)]
    arms = [dataclasses.replace(each.arm, changes=change) for each, change in zip(made.arms[1:], changes)]
    found = [made.arms[0], *(dataclasses.replace(each, arm=arm) for each, arm in zip(made.arms[1:], arms))]
    study = dataclasses.replace(made.study, arms=(made.study.arms[0], *arms))
    page = Page(render(tables_of.compared(study, found, {}, made.class_names), []))
    assert "numbers" in [section["id"] for section in page.all("section")]
    assert "Accuracy on the test images against model.pool.p" in page.words
    assert "numbers" not in [section["id"] for section in Page(render(made, [])).all("section")]


def test_arms_that_pad_show_a_padded_piece_and_a_plain_image():
    found = make(arms=3)
    words = ((), ("model.padding.mode=same",), ("model.padding.mode=same", "model.padding.fill=reflect"))
    padded = [dataclasses.replace(each.arm, changes=changes) for each, changes in zip(found.arms, words)]
    arms = [
        dataclasses.replace(each, arm=arm, pictures=each.pictures | {"grey": np.ones((4, 4), np.float32)})
        for each, arm in zip(found.arms, padded)
    ]
    study = dataclasses.replace(found.study, arms=tuple(padded))
    page = Page(render(dataclasses.replace(found, arms=arms, study=study), [START]))
    assert "padded" in [section["id"] for section in page.all("section")]
    text = " ".join(page.text.split())
    assert "12 × 12" in text and "20 × 20" in text and "A plain grey image" in text
    assert "padded" not in [section["id"] for section in Page(render(found, [START])).all("section")]


@pytest.mark.parametrize("fill", sorted({"zero", "reflect", "replicate", "circular", "symmetric", "partial"}))
def test_the_piece_is_padded_as_numpy_pads(fill):
    piece = np.random.default_rng(0).integers(0, 256, (12, 12, 1), dtype=np.uint8)
    names = {"zero": "constant", "partial": "constant", "replicate": "edge", "circular": "wrap"}
    wanted = np.pad(piece, ((4, 4), (4, 4), (0, 0)), mode=names.get(fill, fill))
    np.testing.assert_array_equal(pictures._pad(piece, fill), wanted)
