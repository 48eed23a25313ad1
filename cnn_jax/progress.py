"""Progress that a person sees: a moving bar in a terminal or a notebook, plain lines elsewhere."""

import html
import sys
import time
from typing import Any, TextIO

from cnn_jax import watchdog

EVERY = 10.0  # seconds between plain lines
CELL = 0.2  # seconds between updates in a notebook
QUIET = 2.0  # seconds before the first one of a count: what is done sooner needs none


class Clock:
    """The timing of a run: examples and FLOP per second, and the share of time spent waiting for data.

    Attributes:
      examples_per_second: over the last dispatch of steps.
      waiting: share of the time since the start spent waiting for data, 0 to 1.
      mean_rate: examples per second of work since the start, the first dispatch left out.
      seconds: of training, those before this start included.
      flops_per_second: what the network's multiplications and additions come to, over the last dispatch.

    Args:
      batch_size: examples per step.
      before: seconds of training before this start.
      flops: floating-point operations of one training example, counted from the network's shapes.
      peak: operations per second that the devices can do together; 0: not known.
    """

    def __init__(self, batch_size: int, before: float = 0.0, flops: int = 0, peak: float = 0.0):
        self._batch_size = batch_size
        self._flops = flops
        self._peak = peak
        self._start = time.perf_counter() - before
        self._busy = self._waited = 0.0
        self.examples_per_second = 0.0
        self._steady: tuple[int, float] | None = (
            None  # steps and seconds after the first dispatch, which may have been compiled in its time
        )

    def note(self, steps: int, seconds: float, waited: float) -> None:
        """Adds a dispatch: its steps, its time, and how much of that was waiting for data."""
        done, taken = self._steady or (-steps, -seconds)
        self._steady = done + steps, taken + seconds
        self._busy += seconds
        self._waited += waited
        self.examples_per_second = steps * self._batch_size / max(seconds, 1e-9)

    @property
    def mean_rate(self) -> float:
        steps, seconds = self._steady or (0, 0.0)
        return steps * self._batch_size / seconds if seconds else self.examples_per_second

    @property
    def waiting(self) -> float:
        return self._waited / self._busy if self._busy else 0.0

    @property
    def seconds(self) -> float:
        return time.perf_counter() - self._start

    @property
    def flops_per_second(self) -> float:
        return self._flops * self.examples_per_second

    @property
    def utilisation(self) -> float | None:
        """The share of the peak, 0 to 1; None where that is not known."""
        return self.flops_per_second / self._peak if self._peak else None


class Lines:
    """Plain lines on standard error: evaluations, and training rows at most every few seconds."""

    def __init__(self, total: int):
        self._total = total
        self._shown = 0.0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def log(self, text: str) -> None:
        """Returns a line of its own."""
        print(text, file=stream(), flush=True)

    def measured(self, step: int, epoch: float, split: str, text: str) -> None:
        """Returns an evaluation of a split, its metrics in words."""
        self.log(f"step {step:,}/{self._total:,}  epoch {_epochs(epoch)}  {split} {text}")

    def step(self, step: int, text: str, clock: Clock) -> None:
        """Shows the state after a dispatch: its last step, and metrics since the last training row, in words."""
        now = time.perf_counter()
        if now - self._shown >= EVERY:
            self._shown = now
            self.log(f"step {step:,}/{self._total:,}  {text}  {_pace(clock)}  {_work(clock)}")


class Silence(Lines):
    """Nothing: what a process shows that is not the first of several."""

    def log(self, text: str) -> None:
        pass


class Bar(Lines):
    """A progress bar on a terminal, the figures on a line below it, and other lines above."""

    def __init__(self, total: int, start: int):
        super().__init__(total)
        # Here: a run without a terminal does not need it.
        from rich import console, live, progress, text

        self._bar = progress.Progress(
            progress.TextColumn("step {task.completed:,}/{task.total:,}"),
            progress.BarColumn(bar_width=24),
            progress.TextColumn("ETA"),
            progress.TimeRemainingColumn(compact=True),
            progress.TextColumn("{task.fields[work]}"),
        )
        self._task = self._bar.add_task("train", total=total, completed=start, work="")
        # A line of their own: beside the bar they would not fit into 80 columns.
        self._figures = text.Text("starting", no_wrap=True, overflow="ellipsis")
        self._live = live.Live(console.Group(self._bar, self._figures), console=console.Console(stderr=True))

    def __enter__(self):
        self._live.start()
        return self

    def __exit__(self, *_):
        self._live.stop()

    def log(self, text: str) -> None:
        self._live.console.print(text, highlight=False, markup=False, soft_wrap=True)

    def step(self, step: int, text: str, clock: Clock) -> None:
        self._figures.plain = f"{text}  {_pace(clock)}"
        self._bar.update(self._task, completed=step, work=_work(clock))


class Cell(Lines):
    """A progress bar below a cell of a notebook, with the figures and the last evaluation; other lines above it."""

    def __init__(self, total: int, start: int):
        super().__init__(total)
        from IPython import display  # there in a notebook

        self._html, self._measured, self._text = display.HTML, "", ""
        self._shown_step, self._handle = start, display.DisplayHandle()

    def __enter__(self):
        self._handle.display(self._page())
        return self

    def __exit__(self, *_):
        self._handle.update(self._page())

    def measured(self, step: int, epoch: float, split: str, text: str) -> None:
        self._measured = f"step {step:,}: {split} {text}"

    def step(self, step: int, text: str, clock: Clock) -> None:
        self._shown_step, self._text = step, f"{text}  {_pace(clock)}"
        now = time.perf_counter()
        if now - self._shown >= CELL:
            self._shown = now
            self._handle.update(self._page())

    def _page(self):
        lines = [f"step {self._shown_step:,} of {self._total:,}", self._text, self._measured]
        bar = f"<progress value={self._shown_step} max={self._total}></progress> "
        return self._html(bar + "<br>".join(html.escape(line) for line in lines if line))


def _in_notebook():
    """Tells whether this process is the kernel of a notebook."""
    module = sys.modules.get("IPython")
    return module is not None and hasattr(module.get_ipython(), "kernel")


def stream() -> TextIO:
    """Returns where lines for a person go: standard error, for standard output is kept for results.

    A notebook shows that in red, as if something had failed, and has results of its own: there it is standard output.
    """
    return sys.stdout if _in_notebook() else sys.stderr


def make_progress(total: int, start: int) -> Lines:
    """Returns a bar if standard error is a terminal or this is a notebook, else plain lines."""
    if _in_notebook():
        return Cell(total, start)
    return Bar(total, start) if sys.stderr.isatty() else Lines(total)


def _epochs(epoch):
    """Epochs to one digit after the point: batches seldom end where an epoch does, and 34.99 are 35."""
    return f"{epoch:.2g}" if epoch < 1 else f"{epoch:.1f}".removesuffix(".0")


def _pace(clock):
    return f"{clock.examples_per_second:,.0f} examples/s  waiting for data {100 * clock.waiting:.1f} %"


def _work(clock):
    """41 GFLOP/s, and the share of the peak where that is known."""
    size, letter = next(pair for pair in ((1e15, "P"), (1e12, "T"), (0, "G")) if clock.flops_per_second >= pair[0])
    used = "" if clock.utilisation is None else f" ({100 * clock.utilisation:.0f} % of the peak)"
    return f"{clock.flops_per_second / (size or 1e9):.3g} {letter}FLOP/s{used}"


class Counter:
    """Counts towards a total, on standard error.

    Args:
      title: what is being done, such as "decoding imagenet2012 train".
      total: how many there are.
      done: how many were done before.
    """

    def __init__(self, title: str, total: int, done: int = 0):
        self._title, self._total, self._first, self._done = title, total, done, done
        self._bar: Any = None  # a bar of rich, where there is a terminal

    def __enter__(self):
        self._start = time.perf_counter()
        self._shown = self._start - EVERY + QUIET
        if sys.stderr.isatty():
            from rich import console, progress  # only where there is a terminal

            columns = (*progress.Progress.get_default_columns(), progress.MofNCompleteColumn())
            self._bar = progress.Progress(*columns, console=console.Console(stderr=True), transient=True)
            self._task = self._bar.add_task(self._title, total=self._total, completed=self._done)
            self._bar.start()
        return self

    def __exit__(self, *_):
        if self._bar:
            self._bar.stop()

    def advance(self, count: int) -> None:
        """Counts what was done since the last call."""
        watchdog.note()
        self._done += count
        now = time.perf_counter()
        if self._bar:
            self._bar.update(self._task, completed=self._done)
        elif now - self._shown >= EVERY:
            self._shown = now
            rate = (self._done - self._first) / (now - self._start)
            left = (self._total - self._done) / max(rate, 1e-9) / 60
            line = f"{self._title}: {self._done:,} of {self._total:,}, {rate:,.0f}/s, {left:,.0f} minutes left"
            print(line, file=stream(), flush=True)


def duration(seconds: float | None) -> str:
    """Writes 41.3 s, 3 min 20 s or 2 h 05 min; "" for None."""
    if seconds is None:
        return ""
    if seconds < 59.5:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"
