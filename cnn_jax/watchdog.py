"""Ends a process that makes no progress, so that whoever started it can start it again.

What does work that may take long says so with `note`: the training loop after each stretch, an evaluation after each
batch, whatever counts towards a total. A process that hangs, in a network that never answers or waiting for another
process, says nothing.
"""

import contextlib
import faulthandler
import os
import sys
import threading
from collections.abc import Iterator

from cnn_jax.errors import EXIT_STUCK

TICK = 1.0  # seconds between looks

_notes = 0


def note() -> None:
    """Says that the work goes on."""
    global _notes
    _notes += 1


@contextlib.contextmanager
def watching(seconds: float) -> Iterator[None]:
    """Ends the process with `EXIT_STUCK` after so many seconds without a note, and writes each thread's stack before.

    Time in which the process itself was stopped, or its machine slept, does not count.

    Args:
      seconds: 0 for no end.
    """
    if not seconds:
        yield
        return
    ended = threading.Event()
    threading.Thread(target=_watch, args=(seconds, ended), daemon=True, name="watchdog").start()
    try:
        yield
    finally:
        ended.set()


def _watch(seconds, ended):
    seen, silent = _notes, 0.0
    tick = min(TICK, seconds / 2)
    while not ended.wait(tick):
        silent = silent + tick if _notes == seen else 0.0
        seen = _notes
        if silent >= seconds:
            print(
                f"error: no progress for {seconds:g} seconds (--watchdog); what was saved is whole, and the same "
                "command goes on from there. What each thread is doing:",
                file=sys.stderr,
                flush=True,
            )
            faulthandler.dump_traceback(sys.__stderr__)
            os._exit(EXIT_STUCK)
