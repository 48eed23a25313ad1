"""The report as its readers meet it: well-formed, self-contained, complete, and right in its figures."""

import base64
import dataclasses
import hashlib
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pages import Page
from PIL import Image
from scipy import stats
from sklearn import metrics as reference

from cnn_jax import config as config_module
from cnn_jax.errors import UserError
from cnn_jax.models.summary import Row
from cnn_jax.progress import duration
from cnn_jax.reports import figures, parts
from cnn_jax.reports.page import large, paragraphs, percent
from cnn_jax.reports.parts import Example, Filters, Stage
from cnn_jax.reports.run import contents as contents_module
from cnn_jax.reports.run.contents import Contents
from cnn_jax.reports.run.report import render, write_report

SECTIONS = ["recipe", "data", "curves", "confusion", "mistakes", "reliability", "filters", "maps", "layers", "records"]


def example(classes=4, **changes) -> Example:
    random = np.random.default_rng(1)
    maps = random.normal(size=(8, 8, 3))
    fields = dict(
        name="test image 2",
        label="class 2",
        image=random.integers(0, 256, (8, 8, 1), dtype=np.uint8),
        probabilities=random.dirichlet(np.ones(classes)),
        stages=[Stage(name="convolution 1", maps=maps, pooling="max pooling 2x2", pooled=maps[::2, ::2])],
        evidence={"occlusion": random.normal(size=(8, 8))},
    )
    return Example(**(fields | changes))


def make(count=60, classes=4, **changes) -> Contents:
    random = np.random.default_rng(0)
    labels = np.arange(count) % classes
    probabilities = random.dirichlet(np.ones(classes), count) + 0.5 * np.eye(classes)[labels]
    rows = [
        {"step": s, "epoch": s / 10, "split": "train", "loss": 2 / s, "accuracy": 1 - 1 / s, "learning_rate": 1 / s}
        for s in range(5, 41, 5)
    ]
    rows += [
        {"step": s, "epoch": s / 10, "split": "validation", "loss": 0.5, "accuracy": 0.7, "learning_rate": None}
        for s in range(10, 41, 10)
    ]
    fields = dict(
        title="lenet_digits",
        description="One line.\n\nTwo\nlines.\n\n    python launch.py\n",
        command="python launch.py --experiment=lenet_digits",
        config=config_module.to_dict(config_module.Config(experiment="lenet_digits", seed=7)),
        metrics=rows,
        checkpoint_step=30,
        checkpoint_rule="best validation accuracy",
        evaluated="test",
        images=random.integers(0, 256, (count, 8, 8, 1), dtype=np.uint8),
        labels=labels,
        probabilities=probabilities / probabilities.sum(axis=1, keepdims=True),
        class_names=tuple(f"class {k}" for k in range(classes)),
        layers=[
            Row(name="convolution 1", kind="3x3", output=(8, 8, 3), parameters=30, multiply_adds=1728),
            Row(name="dense 1", kind="logits", output=(4,), parameters=1234, multiply_adds=1230),
        ],
        filters=[Filters(name="convolution 1", kernels=random.normal(size=(3, 3, 1, 3)))],
        examples=[example(classes)],
        records=[
            {
                "time": "2024-02-29 12:00:00",
                "command": "python launch.py",
                "git": {"commit": "0123456789abcdef", "dirty": True, "diff": "-old\n+new <line>"},
                "versions": {"jax": "0.10.2"},
                "devices": ["cpu:0"],
                "host": {"cores": 2},
                "seed": 7,
            }
        ],
        seconds=200.0,
    )
    return Contents(**(fields | changes))


def decoded(uri):
    png = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))


def test_page_is_whole_self_contained_and_described():
    text = render(make())
    page = Page(text)
    assert page.all("html")[0]["lang"].startswith("en")
    assert [section["id"] for section in page.all("section")] == SECTIONS
    assert {link["href"] for link in page.all("a")} == {f"#{name}" for name in SECTIONS}
    for tag, attributes in page.tags:
        assert tag not in ("script", "link", "iframe", "object")
        if "src" in attributes:
            assert attributes["src"].startswith("data:image/png;base64,")
    assert not re.search(r"url\((?!#)|@import", text)
    assert all(image.get("alt") for image in page.all("img"))
    drawings = page.all("svg")
    assert len(drawings) == 4  # loss, accuracy, learning rate, reliability
    assert all(drawing["role"] == "img" and drawing["aria-label"] for drawing in drawings)
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:url\(|xlink:href="|\shref=")#([\w-]+)', text)
    assert set(used) <= set(ids)
    levels = [int(tag[1]) for tag, _ in page.tags if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1 and levels.count(1) == 1
    assert all(after - before <= 1 for before, after in zip(levels, levels[1:]))
    assert len(page.all("table")) == len(page.all("caption"))


def test_headline_figures():
    contents = make()
    text = " ".join(Page(render(contents)).text.split())
    right = int((contents.probabilities.argmax(axis=1) == contents.labels).sum())
    low, high = stats.binomtest(right, 60).proportion_ci(method="wilson")
    assert f"{right} of 60 test images" in text
    assert f"95% interval {100 * low:.0f}% to {100 * high:.0f}% (Wilson), n = 60" in text
    assert "Parameters 1,264" in text and "Multiply-adds 2,958" in text
    assert "40 steps" in text and "4 passes over the data, 3 min 20 s" in text
    assert "seed 7 (default 0)" in text
    assert "0123456789 with uncommitted changes" in text and "+new <line>" in text


def test_same_contents_give_the_same_bytes():
    assert render(make()) == render(make())


def test_same_bytes_in_another_process(tmp_path):
    # Hash randomisation, a user's matplotlibrc and another working directory must not show.
    (tmp_path / "matplotlibrc").write_text("font.size: 30\nfigure.facecolor: red\nlines.linewidth: 9\n")
    code = "import test_report as t, hashlib; print(hashlib.sha256(t.render(t.make()).encode()).hexdigest())"
    folders = [str(Path(__file__).parents[above]) for above in (0, 2, 3)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(folders), "PYTHONHASHSEED": "12345"}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == hashlib.sha256(render(make()).encode()).hexdigest()


def test_markup_in_any_text_is_text():
    nasty = "<script>alert(1)</script>\"'&"
    contents = make(
        title=nasty,
        description=f"{nasty}\n\n    {nasty}",
        command=nasty,
        config={"a": {"b": nasty}},
        checkpoint_rule=nasty,
        class_names=("one", nasty, "three", "four"),
        layers=[Row(name=nasty, kind=nasty, output=(4,), parameters=1, multiply_adds=1)],
        examples=[
            example(
                name=nasty,
                label=nasty,
                stages=[Stage(name=nasty, maps=np.ones((4, 4, 2)), pooling=nasty, pooled=np.ones((2, 2, 2)))],
                evidence={nasty: np.ones((4, 4))},
            )
        ]
        * 2,
        filters=[Filters(name=nasty, kernels=np.ones((3, 3, 1, 2)))] * 2,
        records=[{"time": nasty, nasty: nasty, "git": {"commit": nasty, "diff": nasty}, "versions": {nasty: nasty}}],
    )
    page = Page(render(contents))
    assert page.all("script") == []
    assert page.text.count(nasty) > 10
    assert any(nasty in image["alt"] for image in page.all("img"))


@pytest.mark.parametrize("case", ["no metrics", "one row", "no validation", "not finite", "no epochs", "step 0"])
def test_any_metrics_render(case):
    rows = make().metrics
    metrics = {
        "no metrics": [],
        "one row": rows[:1],
        "no validation": [row for row in rows if row["split"] == "train"],
        "not finite": [row | {"loss": float("nan"), "accuracy": None} for row in rows],
        "no epochs": [{key: value for key, value in row.items() if key != "epoch"} for row in rows],
        "step 0": [rows[-1] | {"step": 0, "epoch": 0.0}],
    }[case]
    page = Page(render(make(metrics=metrics)))
    shown = {drawing["aria-label"].split(" over ")[0] for drawing in page.all("svg")} - {None}
    assert ("loss" in shown) == (case not in ("no metrics", "not finite"))
    assert ("logged no metrics" in page.text) == (case == "no metrics")
    assert ("Validation or test: measured" in page.text) == (case in ("not finite", "no epochs", "step 0"))
    assert ("dotted line marks" in page.text) == (case not in ("no metrics", "one row", "step 0"))


def test_the_record_is_folded_and_the_settings_stand_once():
    record = {"time": "t", "config": {"model": {"name": "lenet"}}, "command": "python launch.py"}
    page = Page(render(make(records=[record])))
    assert not any("open" in each for each in page.all("details"))
    assert "model name lenet" not in page.words


def test_what_differs_from_the_recipe_is_listed():
    assert "differs from the recipe" not in Page(render(make())).words
    page = Page(render(make(departures=["train.duration: 60 epochs → 1 epochs"])))
    assert "train.duration: 60 epochs → 1 epochs" in page.words


def test_a_constant_learning_rate_is_told_not_drawn():
    rows = [row | {"learning_rate": 0.05 if row["split"] == "train" else None} for row in make().metrics]
    page = Page(render(make(metrics=rows)))
    assert "learning rate was 0.05 throughout" in " ".join(page.text.split())
    assert not any("learning rate" in drawing["aria-label"] for drawing in page.all("svg"))


def test_no_mistakes():
    labels = make().labels
    page = Page(render(make(probabilities=0.6 * np.eye(4)[labels] + 0.1)))
    text = " ".join(page.text.split())
    assert "Not one, on 60 images" in text
    assert "95% interval 94% to 100%" in text
    assert "up to 6.0%" in text  # 1 - 60 / (60 + 1.96^2)
    assert "least sure" in text


def test_mistakes_are_the_surest_and_show_their_own_image():
    contents = make(count=200)
    page = Page(render(contents))
    wrong = [i for i in range(200) if contents.probabilities[i].argmax() != contents.labels[i]]
    expected = sorted(wrong, key=lambda i: -contents.probabilities[i].max())[:24]
    cards = [image for image in page.all("img") if image.get("title", "").startswith("image ")]
    assert [int(card["title"].split()[1]) for card in cards] == expected
    for card, index in zip(cards, expected):
        np.testing.assert_array_equal(decoded(card["src"]), np.repeat(contents.images[index], 3, axis=-1))
    assert f"The 24 of {len(wrong)} mistakes" in page.text


def test_diverged_network():
    nothing = np.full((8, 8), np.nan)
    contents = make(
        probabilities=np.full((60, 4), np.nan),
        filters=[Filters(name="convolution 1", kernels=np.full((3, 3, 1, 3), np.nan))] * 2,
        examples=[example(probabilities=np.full(4, np.nan), evidence={"occlusion": nothing})],
    )
    assert "nan" not in Page(render(contents)).text.lower()


def test_many_classes_list_their_confusions_instead_of_a_matrix():
    page = Page(render(make(count=400, classes=100)))
    assert "whole matrix of 100 classes" in page.text
    assert not any("matrix" in table.get("class", "") for table in page.all("table"))


def test_colour_images_single_class_pixel_maps_and_bare_records():
    random = np.random.default_rng(1)
    colour = random.integers(0, 256, (60, 8, 8, 3), dtype=np.uint8)
    stages = [Stage(name="convolution 3", maps=random.normal(size=(1, 1, 120)))]
    page = Page(
        render(
            make(
                images=colour,
                examples=[example(image=colour[0], stages=stages)],
                filters=[Filters(name="convolution 1", kernels=random.normal(size=(3, 3, 3, 70)))],
                records=[{}, {"git": None}],
                seconds=None,
                config={},
                description="",
                labels=np.zeros(60, int),
            )  # fmt: skip
        )
    )
    assert "in colour" in page.text and "Mid-grey is 0" in page.text
    assert "It was started 2 times" in page.text
    assert "0 of " not in page.text.split("Data")[0]
    strip = next(image for image in page.all("img") if image["alt"] == "convolution 3, all maps")
    assert decoded(strip["src"]).shape == (1, 120, 3)
    assert "No run record was kept" in Page(render(make(records=[]))).text


def test_choosing_on_the_test_set_is_pointed_out():
    assert "flatter" in Page(render(make(checkpoint_rule="best test accuracy"))).text
    assert "flatter" not in Page(render(make(checkpoint_rule="last step"))).text


def test_deeper_filters_and_the_table_that_they_read_by():
    kernels = np.zeros((2, 2, 3, 2))
    kernels[:, :, 0, 0], kernels[:, :, 2, 1] = 1.0, -1.0
    layer = Filters(name="c3", kernels=kernels, reads=((0,), (2,)))
    page = Page(render(make(filters=[make().filters[0], layer])))
    drawn = next(image for image in page.all("img") if image["alt"] == "the filters of c3")
    with Image.open(io.BytesIO(base64.b64decode(drawn["src"].partition(",")[2]))) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (8, 5, 4)  # three maps below each other, two filters side by side, a pixel between them
    assert (pixels[2, :, 3] == 0).all() and (pixels[:, 2, 3] == 0).all()
    assert pixels[0, 0].tolist() != [255] * 4 and pixels[0, 3].tolist() == pixels[3, 0].tolist() == [255] * 4
    assert page.text.count("×") - Page(render(make())).text.count("×") >= 2 and "table I of 1998" in page.text


def test_what_excites_a_filter_is_shown_three_by_three():
    pieces = np.arange(9, dtype=np.uint8)[:, None, None, None] * np.ones((9, 5, 5, 1), np.uint8)
    layer = Filters(name="conv1", kernels=np.ones((5, 5, 1, 4)), exciting=[pieces])
    page = Page(render(make(filters=[layer], searched=50)))
    drawn = next(image for image in page.all("img") if image["alt"] == "images that excite filter 1 of conv1")
    assert decoded(drawn["src"])[::6, ::6, 0].tolist() == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    text = " ".join(page.text.split())
    assert "among the first 50 test images" in text and "The first 1 of 4 filters" in text


def test_the_distances_to_the_bitmaps_point_out_the_nearest():
    random = np.random.default_rng(2)
    shown = example(state=random.normal(size=6), distances=np.array([5.0, 0.25, 7.5, 3.0]))
    page = Page(render(make(examples=[shown], bitmaps=random.choice([-1.0, 1.0], (4, 3, 2)))))
    assert "<b>0.2</b>" in render(make(examples=[shown], bitmaps=np.ones((4, 3, 2))))
    assert sum(image["alt"].startswith("the bitmap of") for image in page.all("img")) == 4


def test_of_several_examples_one_is_open():
    page = Page(render(make(examples=[example(), example(name="a.png", label="")])))
    opened = [attributes for attributes in page.all("details") if "open" in attributes]
    assert len(opened) == 1 and "a.png" in page.text and "2 images, each on its way" in page.text


def test_pooling_pairs_share_one_scale():
    maps = np.zeros((4, 4, 1))
    maps[0, 0] = 2.0
    pooled = np.full((2, 2, 1), 1.0)  # half of the scale that the map before it sets
    page = Page(render(make(examples=[example(stages=[Stage(name="c", maps=maps, pooling="p", pooled=pooled)])])))
    before, after = (decoded(image["src"]) for image in page.all("img") if image["alt"].startswith("c, map 1"))
    assert before.shape == (4, 4, 3) and after.shape == (2, 2, 3)
    np.testing.assert_array_equal(after[0, 0], decoded(figures.signed_picture(np.array([[0.5]]), 1.0))[0, 0])
    np.testing.assert_array_equal(before[0, 0], decoded(figures.signed_picture(np.array([[1.0]]), 1.0))[0, 0])
    np.testing.assert_array_equal(before[1, 1], [255, 255, 255])


def test_signed_colours_meet_in_white_and_tell_signs_apart():
    row = decoded(figures.signed_picture(np.array([[-2.0, -1.0, 0.0, 1.0, 2.0]]), 1.0))[0].astype(int)
    assert row[2].tolist() == [255, 255, 255]
    assert row[0].tolist() == row[1].tolist() and row[1][0] > row[1][2]  # orange, clipped
    assert row[3].tolist() == row[4].tolist() and row[3][2] > row[3][0]  # blue, clipped


def test_curves_follow_the_rows():
    rows = [
        {"step": s, "epoch": s / 10, "split": "validation", "loss": value, "accuracy": 0.5}
        for s, value in ((40, 1.0), (10, 4.0), (20, 3.0))
    ]
    text = figures.curves(rows, "loss", 20, "loss")
    path = re.search(r'<path d="([^"]*)"[^>]*var\(--held', text)[1]
    points = np.array(re.findall(r"[ML] ([\d.]+) ([\d.]+)", path), float)
    assert len(points) == 3
    x, y = (points[1:] - points[0]).T
    assert x[1] / x[0] == pytest.approx(3, rel=1e-4)  # sorted: epochs 1, 2, 4
    assert y[1] / y[0] == pytest.approx(3, rel=1e-4)  # losses 4, 3, 1, downwards
    assert "step 20" in text and "logarithmic" not in text
    assert "logarithmic" in figures.curves([row | {"loss": 10 ** -row["step"]} for row in rows], "loss", 20, "loss")


def test_confusion_recall_precision():
    contents = make(count=300, classes=7)
    predicted = contents.probabilities.argmax(axis=1)
    np.testing.assert_array_equal(contents.confusion, reference.confusion_matrix(contents.labels, predicted))
    recall, precision = contents_module.recall_precision(contents.confusion)
    np.testing.assert_allclose(recall, reference.recall_score(contents.labels, predicted, average=None))
    np.testing.assert_allclose(precision, reference.precision_score(contents.labels, predicted, average=None))
    assert contents.accuracy == pytest.approx(reference.accuracy_score(contents.labels, predicted))
    assert contents.errors == (predicted != contents.labels).sum()
    recall, precision = contents_module.recall_precision(np.array([[2, 0, 1], [0, 0, 0], [0, 0, 4]]))
    np.testing.assert_allclose(recall, [2 / 3, np.nan, 1])
    np.testing.assert_allclose(precision, [1, np.nan, 0.8])


def test_top_confusions():
    matrix = np.array([[9, 2, 0], [5, 9, 1], [0, 0, 9]])
    assert contents_module.top_confusions(matrix, 2) == [(1, 0, 5), (0, 1, 2)]
    assert contents_module.top_confusions(matrix, 9) == [(1, 0, 5), (0, 1, 2), (1, 2, 1)]
    assert contents_module.top_confusions(np.diag([3, 4]), 5) == []


@pytest.mark.parametrize(("right", "count"), [(0, 1), (1, 1), (0, 360), (360, 360), (351, 360), (9903, 10000)])
def test_wilson(right, count):
    expected = stats.binomtest(right, count).proportion_ci(method="wilson")
    assert parts.wilson(right, count) == pytest.approx((expected.low, expected.high), abs=1e-12)
    assert (parts.wilson(right, count)[1] == 1) == (right == count)


def test_calibration_against_a_loop():
    random = np.random.default_rng(3)
    sure = np.concatenate([random.random(500), [0.0, 0.1, 0.5, 1.0]])
    right = random.random(504) < sure**2
    expected, counts = 0.0, []
    for low in range(10):
        inside = [i for i in range(504) if low < round(10 * sure[i], 9) <= low + 1 or (low == 0 and sure[i] == 0)]
        counts.append(len(inside))
        expected += abs(sum(right[i] for i in inside) - sum(sure[i] for i in inside)) / 504
    bins, error = contents_module.calibration(sure, right, 10)
    assert error == pytest.approx(expected, rel=1e-12)
    assert [group.count for group in bins] == counts
    assert sum(group.correct for group in bins) == right.sum()


def test_settings_point_out_what_was_changed():
    config = config_module.Config(seed=3, model=config_module.LeNet5(activation="tanh"))
    listed = parts.settings(config_module.to_dict(config))
    changed = {name: value for name, value, default in listed if value != default}
    assert changed == {"seed": 3, "model.name": "lenet5", "model.activation": "tanh"}
    assert parts.settings({"new": {"x": [1]}}) == [("new.x", (1,), (1,))]


def test_words_for_numbers():
    assert [large(n) for n in (0, 61706, 1_430_000, 2_560_000_000)] == ["0", "61,706", "1.43 million", "2.56 billion"]
    shares = (0.0, 1.0, 0.9895, 0.99999, 0.00001)
    assert [percent(value, 1) for value in shares] == ["0.0%", "100.0%", "99.0%", ">99.9%", "<0.1%"]
    assert percent(float("nan")) == "–"
    assert [duration(s) for s in (None, 4.126, 200, 7322)] == ["", "4.13 s", "3 min 20 s", "2 h 02 min"]
    assert duration(59.97) == "1 min 0 s"
    assert paragraphs("A.\n\nB\nC.\n\n  x\n    y\n") == [("p", "A."), ("p", "B C."), ("pre", "x\n  y")]
    assert paragraphs("") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"labels": np.zeros(0, int)},
        {"labels": np.zeros(59, int)},
        {"labels": np.full(60, 4)},
        {"class_names": ("a", "b")},
    ],
)
def test_arrays_that_do_not_fit_are_refused(changes):
    with pytest.raises(ValueError, match="label"):
        make(**changes)


def test_write_replaces_the_file_and_leaves_nothing_else(tmp_path):
    path = tmp_path / "new" / "report.html"
    write_report(path, make())
    write_report(str(path), make(title="second"))
    assert "second" in path.read_text(encoding="utf-8")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_an_unwritable_place_is_the_users_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot write the report .*file/report.html"):
        write_report(tmp_path / "file" / "report.html", make())
    (tmp_path / "report.html").mkdir()
    with pytest.raises(UserError, match="cannot write the report"):
        write_report(tmp_path / "report.html", make())
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "report.html"]


def test_a_run_the_size_of_mnist_stays_small():
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 10_000)
    contents = make(
        labels=labels,
        images=random.integers(0, 256, (10_000, 28, 28, 1), dtype=np.uint8),
        probabilities=random.dirichlet(np.ones(10), 10_000),
        class_names=tuple("0123456789"),
        metrics=[
            {"step": s, "epoch": s / 1875, "split": "train", "loss": random.random(), "accuracy": random.random()}
            for s in range(100, 200_000, 100)
        ],
    )
    assert len(render(contents).encode()) < 1_000_000


def test_contents_need_no_drawing_library_and_nothing_needs_jax():
    code = (
        "import sys, cnn_jax.reports.run.contents; assert not {'matplotlib', 'jinja2', 'jax'} & set(sys.modules);"
        "import cnn_jax.reports.run.report; assert not {'jax', 'flax', 'matplotlib.pyplot'} & set(sys.modules)"
    )
    root = str(Path(__file__).parents[3])
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_contents_keep_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        make().title = "other"
