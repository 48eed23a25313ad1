"""Metric files: their contents, and what continuing a run leaves of them."""

import csv
import dataclasses
import json
import struct

import pytest

from cnn_jax import config
from cnn_jax.training import trackers
from cnn_jax.training.metric_files import COLUMNS, MetricFiles, read_rows, read_timing


def row(step, split="train", **values):
    base = {"step": step, "epoch": step / 3, "split": split, "loss": 1 / (step + 2), "accuracy": 0.1 * step}
    rate, norm = (0.1, 2.5) if split == "train" else (None, None)
    rest = {"top5": None if split == "train" else 0.05 * step, "learning_rate": rate, "gradient_norm": norm}
    return dict.fromkeys(COLUMNS) | base | rest | values


ROWS = [row(2), row(2, "validation"), row(4), row(4, "validation"), row(6)]


def write(folder, rows, step=0, tensorboard=False):
    log = config.Log(tensorboard=tensorboard)
    openers = trackers.chosen(dataclasses.replace(config.Config(), log=log))
    files = MetricFiles(folder, step, [opener(folder, step) for opener in openers])
    for each in rows:
        files.write(each)
        files.write_timing({"step": each["step"], "seconds": 1.0})
    files.close()


def test_rows_come_back_exactly(tmp_path):
    write(tmp_path, ROWS)
    assert read_rows(tmp_path) == ROWS


def test_csv_holds_what_jsonl_holds(tmp_path):
    write(tmp_path, ROWS)
    with (tmp_path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS and len(table) == len(ROWS)
    kinds = {"step": int, "split": str}
    for cells, want in zip(table, ROWS):
        assert {name: None if text == "" else kinds.get(name, float)(text) for name, text in cells.items()} == want


@pytest.mark.parametrize("torn", ["", '{"step": 8, "epo'])
def test_a_continued_run_leaves_the_bytes_of_one_that_was_never_stopped(tmp_path, torn):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    whole.mkdir(), stopped.mkdir()
    write(whole, ROWS)
    write(stopped, ROWS[:3] + [row(6, loss=99.0), row(8)])  # killed after step 8, saved at step 4
    for name in ("metrics.jsonl", "metrics.csv"):
        with (stopped / name).open("a") as file:
            file.write(torn)
    assert [each["step"] for each in read_rows(stopped)] == [2, 2, 4, 6, 8]
    write(stopped, ROWS[3:], step=4)
    for name in ("metrics.jsonl", "metrics.csv"):
        assert (stopped / name).read_bytes() == (whole / name).read_bytes()


def test_timing_goes_on_after_a_torn_line(tmp_path):
    write(tmp_path, ROWS[:2])
    with (tmp_path / "timing.jsonl").open("a") as file:
        file.write('{"step": 4, "sec')
    write(tmp_path, ROWS[2:3], step=2)
    assert [each["step"] for each in read_timing(tmp_path)] == [2, 2, 4]
    assert [json.loads(line)["step"] for line in (tmp_path / "timing.jsonl").read_text().splitlines()] == [2, 2, 4]


def test_rows_are_on_the_disk_after_flush(tmp_path):
    files = MetricFiles(tmp_path, 0)
    files.write(ROWS[0])
    files.flush()
    assert read_rows(tmp_path) == ROWS[:1]
    files.close()


def test_there_are_no_rows_where_there_is_no_run(tmp_path):
    assert read_rows(tmp_path) == [] == read_timing(tmp_path)


def scalars(path):
    """(tag, step, value) of an event file: TFRecord framing of Event messages, by the library's own message class."""
    from tensorboardX.proto.event_pb2 import Event

    data, place, found = path.read_bytes(), 0, []
    while place < len(data):
        (length,) = struct.unpack_from("<Q", data, place)
        event = Event.FromString(data[place + 12 : place + 12 + length])
        found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
        place += 12 + length + 4
    return found


def test_tensorboard_gets_every_number(tmp_path):
    write(tmp_path, ROWS, tensorboard=True)
    (path,) = (tmp_path / "tensorboard").iterdir()
    got = {(tag, step): value for tag, step, value in scalars(path)}
    want = {
        (f"{each['split']}/{name}", each["step"]): each[name]
        for each in ROWS
        for name in COLUMNS[3:]
        if each[name] is not None
    }
    assert got == pytest.approx(want)


def test_rows_from_before_a_metric_existed_are_kept_with_nothing_in_its_place(tmp_path):
    write(tmp_path, ROWS)
    old = [{name: value for name, value in each.items() if name != "macro_f1"} for each in ROWS]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in old))
    (tmp_path / "metrics.csv").write_text("step,epoch\n")
    write(tmp_path, [], step=6)
    assert read_rows(tmp_path) == ROWS
    with (tmp_path / "metrics.csv").open(newline="") as file:
        table = list(csv.DictReader(file))
    assert tuple(table[0]) == COLUMNS and [cells["macro_f1"] for cells in table] == [""] * len(ROWS)
