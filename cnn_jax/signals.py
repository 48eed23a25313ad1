"""Signals, by one rule from the first line of the program to its last.

SIGTERM, SIGHUP (a terminal that was closed) and Ctrl-C ask the program to end. While it trains it saves first;
anywhere else it ends at once, as what is on the disk is whole at any time. The second one ends it at once everywhere.
The exit status is 75 where the same command goes on, else 128 + the signal's number. One that was ignored when the
program began, as under nohup, stays ignored.

On the command line a thread of its own ends the process: an exception in the main thread would come out in the middle
of whatever it does, which compiled code does not always survive. In Python nobody listens unless asked to; then what
does not save is ended by an exception, as by Ctrl-C.
"""

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator

from cnn_jax.errors import EXIT_INTERRUPTED

HEARD = tuple(getattr(signal, name) for name in ("SIGTERM", "SIGINT", "SIGHUP") if hasattr(signal, name))
CONTINUED = ("train", "prepare")  # modes whose command goes on where it was
ONE = 0.4  # seconds in which signals count as one: timeout(1), for one, sends two


class Stopped(KeyboardInterrupt):
    """A signal asked to end, and there was nothing to save, or it was too late for that."""

    def __init__(self, number: int):
        self.number = number
        what = "; the same command continues" if continued() else ""
        super().__init__(f"stopped by {signal.Signals(number).name}{what}")

    @property
    def status(self) -> int:
        """The exit status."""
        return EXIT_INTERRUPTED if continued() else 128 + self.number


class _Listener:
    """What has come so far, and what is being done.

    Args:
      ends: whether it ends the process itself; if not, it raises `Stopped` in the main thread.
    """

    def __init__(self, ends: bool):
        self._ends = ends
        self.first: int | None = None  # the number of the first signal
        self.saving = 0  # blocks that save before they end
        self.finished = False
        self._ending = threading.Lock()
        self.handlers: dict[int, object] = {}  # that were set before

    def start(self):
        """Listens; a thread sees signals even while the main one is in compiled code."""
        self._read, self._write = os.pipe()
        os.set_blocking(self._write, False)
        self._wakeup = signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in HEARD:
            if signal.getsignal(number) is not signal.SIG_IGN:
                self.handlers[number] = signal.signal(number, self._note)
        threading.Thread(target=self._watch, daemon=True, name="signals").start()

    def stop(self):
        """Gives the signals back."""
        self.finished = True
        for number, handler in self.handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup)
        os.close(self._write)  # which ends the thread

    def _note(self, number, frame):
        del frame
        self.first = self.first or number
        if self.saving or self.finished:
            return
        if not self._ends:
            raise Stopped(number)
        self.end()  # the thread may be waiting for Python's lock

    def _watch(self):
        began = None
        while found := os.read(self._read, 1):
            if found[0] not in self.handlers or self.finished:
                continue
            now = time.monotonic()
            if began is None:
                began, self.first = now, self.first or found[0]
                if self.saving:
                    print(f"{signal.Signals(found[0]).name}: saving; once more to end at once", file=sys.stderr)
                elif self._ends:
                    self.end()
            elif now - began > ONE:
                self.end()
        os.close(self._read)

    def end(self):
        """Ends the process; the main thread or the listening one does so, whichever comes first."""
        if not self._ending.acquire(blocking=False):
            return
        with contextlib.suppress(OSError):
            # A bar may have hidden the cursor.
            os.write(2, b"\x1b[?25h\n" * os.isatty(2) + f"{Stopped(self.first)}\n".encode())
        os._exit(Stopped(self.first).status)


_listener: _Listener | None = None


def continued() -> bool:
    """Tells from the command line, which may not be read yet, whether the same command goes on."""
    mode = "train"
    for place, word in enumerate(sys.argv[1:], 1):
        name, equals, value = word.partition("=")
        if name in ("--mode", "-mode"):
            mode = value if equals else "".join(sys.argv[place + 1 : place + 2])
        if name in ("--list", "--help", "-h", "--version"):
            return False
    return mode in CONTINUED


def listen(ends: bool = True) -> None:
    """Listens from now on; in the main thread only.

    Args:
      ends: whether a signal ends the process where nothing is saved, as on the command line; else it is an exception.
    """
    global _listener
    if _listener is None and threading.current_thread() is threading.main_thread():
        _listener = _Listener(ends)
        _listener.start()


def finish() -> None:
    """Ends the rule: what is left is to leave, with the status that is known already."""
    if _listener:
        _listener.finished = True
        for number in _listener.handlers:
            signal.signal(number, signal.SIG_IGN)  # Python sets its own handlers back before it has left


@contextlib.contextmanager
def heard(wanted: bool = True) -> Iterator[None]:
    """Listens while the block runs, unless that is so already or is not wanted."""
    global _listener
    before = _listener
    if wanted:
        listen(ends=False)
    try:
        yield
    finally:
        if _listener is not before:
            _listener.stop()
            _listener = None


@contextlib.contextmanager
def saving() -> Iterator[Callable[[], bool]]:
    """Lets the block save before it ends: it is given a function that tells whether it was asked to.

    Raises:
      Stopped: at the end of the block, where it was asked to and has ended otherwise.
    """
    listener = _listener
    if listener is None:
        yield lambda: False
        return
    listener.saving += 1
    try:
        yield lambda: listener.first is not None
    finally:
        listener.saving -= 1
    if listener.first is not None and not listener.saving:
        raise Stopped(listener.first)
