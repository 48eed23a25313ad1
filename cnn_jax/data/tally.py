"""How far a long preparation is: a moving bar in a terminal, a plain line every so often everywhere else."""

import sys
import time

EVERY = 10.0  # seconds between plain lines
QUIET = 2.0  # seconds before the first one: what is done sooner needs none


class Tally:
    """Counts towards a total, on standard error.

    Args:
      title: what is being done, such as "decoding imagenet2012 train".
      total: how many there are.
      done: how many were done before.
    """

    def __init__(self, title: str, total: int, done: int = 0):
        self._title, self._total, self._first, self._done = title, total, done, done
        self._bar = None

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
        self._done += count
        now = time.perf_counter()
        if self._bar:
            self._bar.update(self._task, completed=self._done)
        elif now - self._shown >= EVERY:
            self._shown = now
            rate = (self._done - self._first) / (now - self._start)
            left = (self._total - self._done) / max(rate, 1e-9) / 60
            line = f"{self._title}: {self._done:,} of {self._total:,}, {rate:,.0f}/s, {left:,.0f} minutes left"
            print(line, file=sys.stderr, flush=True)
