"""Metric files: JSONL and CSV; and what `trackers.py` shows of them elsewhere.

A row is one split at one step. JSONL and CSV hold nothing that depends on the clock or the machine, so a run that was
killed and resumed leaves the same bytes as one that was not. Times go to timing.jsonl.
"""

import contextlib
import csv
import io
from collections.abc import Callable, Sequence
from pathlib import Path

from cnn_jax.errors import UserError
from cnn_jax.files import Growing, json_line, named, read_lines
from cnn_jax.training import metrics
from cnn_jax.training.trackers import Tracker

COLUMNS = ("step", "epoch", "split", *(metric.name for metric in metrics.numbers()), "learning_rate", "gradient_norm")


SPLITS = ("train", "validation", "test")
# The columns of timing.jsonl, and what stands for one that a row lacks.
TIMES = {
    "step": 0, "seconds": 0.0, "examples_per_second": 0.0, "mean_examples_per_second": 0.0, "flops_per_second": 0,
    "utilisation": None, "waiting": 0.0, "seeds": 1, "memory": 0,
}  # fmt: skip


def read_rows(workdir: Path) -> list[dict]:
    """Returns the rows of metrics.jsonl; lines that are damaged are named and left out, see `files.read_lines`."""
    return read_lines(workdir / "metrics.jsonl", _is_row)


def read_timing(workdir: Path) -> list[dict]:
    """Returns the rows of timing.jsonl, likewise, with all columns."""
    sound = lambda row: _is_step(row) and all(_is_number(row.get(name), name in ("step", "seconds")) for name in TIMES)
    return [TIMES | row for row in read_lines(workdir / "timing.jsonl", sound)]


def _is_row(row):
    known = _is_step(row) and row.get("split") in SPLITS and _is_number(row.get("epoch"))
    return known and all(_is_number(row.get(name)) for name in COLUMNS[3:])


def _is_step(row):
    return type(row.get("step")) is int and row["step"] >= 0


def _is_number(value, needed=False):
    return not needed if value is None else type(value) in (int, float)


def training_row(step: int, epoch: float, totals, rate: float) -> dict:
    """Returns a row of means since the training row before.

    Args:
      step: the last one.
      epoch: likewise.
      totals: `state.Totals` of one run, on the host.
      rate: learning rate of the step.
    """
    found = {metric.name: metric.of_totals and metric.of_totals(totals) for metric in metrics.numbers()}
    rest = {"learning_rate": rate, "gradient_norm": float(totals.gradient_norm)}
    return {"step": step, "epoch": epoch, "split": "train", **found, **rest}


def evaluation_row(step: int, epoch: float, split: str, evaluation) -> dict:
    """Returns a row of a split's `evaluation.Evaluation`."""
    found = {metric.name: metric.of(evaluation) for metric in metrics.numbers()}
    return {"step": step, "epoch": epoch, "split": split, **found, "learning_rate": None, "gradient_norm": None}


class MetricFiles:
    """The metric files of a run.

    Args:
      workdir: the run's folder.
      step: the step the run continues from; rows after it, written by a run that was killed, are dropped. Rows that
        were written before a metric existed are kept, empty where they have nothing.
      trackers: are given the numbers as well; each is opened at the first.
      listen: is given each row once it is written.

    Attributes:
      seconds: of training before this start, those of a killed run included.
    """

    def __init__(
        self,
        workdir: Path,
        step: int,
        trackers: Sequence[Callable[[], Tracker]] = (),
        listen: Callable[[dict], None] = lambda row: None,
    ):
        kept = [{name: row.get(name) for name in COLUMNS} for row in read_rows(workdir) if row["step"] <= step]
        self._jsonl = Growing(workdir / "metrics.jsonl", "".join(map(json_line, kept)))
        self._csv = Growing(workdir / "metrics.csv", _csv_line(COLUMNS) + "".join(map(_csv_row, kept)))
        times = read_timing(workdir)
        self.seconds = times[-1]["seconds"] if times else 0.0
        self._timing = Growing(workdir / "timing.jsonl", "".join(map(json_line, times)))
        self._unopened = list(trackers)  # until the first number: the devices are at work by then
        self._trackers: list[Tracker] = []
        self._listen = listen
        self._workdir, self._layers = workdir, None

    def write(self, row: dict) -> None:
        """Adds a row with the keys of `COLUMNS`; None where a column does not apply."""
        with named(self._workdir):
            self._jsonl.write(json_line(row))
            self._csv.write(_csv_row(row))
            for name in COLUMNS[3:]:
                self._show(f"{row['split']}/{name}", row[name], row["step"])
        self._listen(row)

    def _show(self, name, value, step):
        """Gives a number to the trackers."""
        if value is None:
            return
        while self._unopened:
            self._trackers.append(self._unopened.pop(0)())
        for tracker in self._trackers:
            tracker.add(name, value, step)

    def write_timing(self, row: dict) -> None:
        """Adds a row to timing.jsonl."""
        with named(self._workdir):
            self._timing.write(json_line(row))

    def write_layers(self, rows: Sequence[dict]) -> None:
        """Adds rows to layers.jsonl, see `layer_metrics.py`; the file is made with the first."""
        if rows and self._layers is None:
            step = rows[0]["step"]
            kept = [row for row in read_lines(self._workdir / "layers.jsonl", _is_step) if row["step"] < step]
            self._layers = Growing(self._workdir / "layers.jsonl", "".join(map(json_line, kept)))
        with named(self._workdir):
            for row in rows:
                self._layers.write(json_line(row))
                for name in ("gradient_norm", "weight_norm", "dead"):
                    self._show(f"layers/{name}/{row['layer']}", row[name], row["step"])

    def flush(self) -> None:
        """Puts every row on the disk: a checkpoint must never be ahead of its metrics.

        Raises:
          UserError: the folder was removed or moved.
          OSError: the disk is full, or fails.
        """
        if not self._jsonl.is_there():
            raise UserError(
                f"{self._workdir} was removed or moved while the run went on, which ends here; the same command starts "
                "it anew there, and goes on where the folder is put back"
            )
        with named(self._workdir):
            for file in self._files:
                file.put()
            for tracker in self._trackers:
                tracker.flush()

    @property
    def _files(self):
        return [file for file in (self._jsonl, self._csv, self._timing, self._layers) if file]

    def close(self) -> None:
        """Flushes and closes."""
        with named(self._workdir), contextlib.ExitStack() as stack:  # each is closed, whatever becomes of the others
            for file in self._files:
                stack.callback(file.close)
            for tracker in self._trackers:
                stack.callback(tracker.close)
            with contextlib.suppress(UserError):
                self.flush()


class NoFiles:
    """Stands for `MetricFiles` in a process that is not the first of several, and writes nothing."""

    seconds = 0.0

    def write(self, row: dict) -> None:
        pass

    def write_timing(self, row: dict) -> None:
        pass

    def write_layers(self, rows: Sequence[dict]) -> None:
        pass

    def flush(self) -> None:
        pass

    def close(self) -> None:
        pass


def _csv_line(cells):
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(cells)
    return text.getvalue()


def _csv_row(row):
    return _csv_line(["" if row[name] is None else row[name] for name in COLUMNS])
