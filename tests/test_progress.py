import os
import pty
import re
import sys
import termios
import time

import pytest

from cnn_jax import progress
from cnn_jax.progress import Bar, Clock, Lines, make_progress

TEXT = "loss 0.2500  accuracy 50.00 %"


class StoppedTime:
    """A clock that moves when told."""

    def __init__(self, monkeypatch):
        self.now = 50.0
        monkeypatch.setattr(progress.time, "perf_counter", lambda: self.now)


def clock(examples_per_second: float = 1500.0, waiting: float = 0.25) -> Clock:
    made = Clock(batch_size=32, flops=280_000)
    seconds = 32 * 10 / examples_per_second
    made.note(10, seconds, waiting * seconds)
    return made


def test_clock(monkeypatch):
    now = StoppedTime(monkeypatch)
    measured = Clock(batch_size=20, flops=10**9, peak=1e12)
    assert measured.waiting == 0.0 and measured.examples_per_second == 0.0
    measured.note(steps=5, seconds=2.0, waited=0.5)
    measured.note(steps=30, seconds=3.0, waited=0.75)
    now.now += 8.0
    assert measured.examples_per_second == pytest.approx(200.0)  # of the last dispatch
    assert measured.waiting == pytest.approx(0.25)  # of all of them
    assert measured.flops_per_second == pytest.approx(2e11) and measured.utilisation == pytest.approx(0.2)
    assert measured.seconds == pytest.approx(8.0)
    assert Clock(batch_size=20).utilisation is None


def test_without_a_terminal_plain_lines(monkeypatch, capsys):
    now = StoppedTime(monkeypatch)
    with make_progress(total=2000, start=0) as shown:
        assert type(shown) is Lines
        for step, seconds in ((10, 1), (20, 4), (30, 8)):  # at 1, 5 and 13 seconds
            now.now += seconds
            shown.step(step, TEXT, clock())
        shown.measured(1200, 2.5, "validation", "loss 0.5123  accuracy 87.65 %")
        shown.log("first step done")
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "step 10/2,000  loss 0.2500  accuracy 50.00 %  1,500 examples/s  waiting for data 25.0 %  0.42 GFLOP/s",
        "step 30/2,000  loss 0.2500  accuracy 50.00 %  1,500 examples/s  waiting for data 25.0 %  0.42 GFLOP/s",
        "step 1,200/2,000  epoch 2.5  validation loss 0.5123  accuracy 87.65 %",
        "first step done",
    ]


def shown_on_a_terminal(monkeypatch, columns: int, use) -> str:
    """What `use()` shows on standard error while that is a terminal."""
    main, secondary = pty.openpty()
    termios.tcsetwinsize(secondary, (24, columns))
    monkeypatch.setenv("TERM", "xterm")
    for name in ("NO_COLOR", "COLUMNS", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    with os.fdopen(secondary, "w") as screen, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", screen)
        use()
        os.set_blocking(main, False)
        text, end = b"", time.monotonic() + 5
        while b"\x1b[?25h" not in text and time.monotonic() < end:  # the cursor is shown again at the end
            try:
                text += os.read(main, 65536)
            except BlockingIOError:
                time.sleep(0.01)
    os.close(main)
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text.decode())


def test_on_a_terminal_a_bar_with_lines_above_it(monkeypatch):
    def use():
        with make_progress(total=2000, start=100) as shown:
            assert type(shown) is Bar
            shown.step(1000, TEXT, clock())
            shown.log("[bold]kept as it is[/bold]")
            shown.measured(1200, 2.5, "validation", "loss 0.5123  accuracy 87.65 %")

    text = shown_on_a_terminal(monkeypatch, 120, use)
    assert "step 1,000/2,000" in text
    assert "loss 0.2500  accuracy 50.00 %  1,500 examples/s  waiting for data 25.0 %" in text
    assert "0.42 GFLOP/s" in text
    assert "ETA" in text
    assert "[bold]kept as it is[/bold]" in text
    assert "step 1,200/2,000  epoch 2.5  validation loss 0.5123  accuracy 87.65 %" in text


def test_the_bar_fits_a_narrow_terminal(monkeypatch):
    def use():
        with make_progress(total=100_000, start=0) as shown:
            shown.step(90_000, TEXT, clock(examples_per_second=123_456))

    text = shown_on_a_terminal(monkeypatch, 80, use)
    bar, figures = [line.strip() for line in re.split(r"[\r\n]+", text) if line.strip()][-2:]
    assert bar.startswith("step 90,000/100,000") and "ETA" in bar
    assert figures == "loss 0.2500  accuracy 50.00 %  123,456 examples/s  waiting for data 25.0 %"
    assert max(map(len, (bar, figures))) <= 80
