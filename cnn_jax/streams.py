"""Standard output and error that cannot end a run: a closed terminal, `| head`, a full disk behind a redirection."""

import errno
import os
import sys

from cnn_jax.errors import EXIT_FAILED


class Enduring:
    """A text stream that, once it cannot be written, swallows what is written.

    Attributes:
      failure: why it could not be written; None while it can.

    Args:
      stream: the stream.
    """

    def __init__(self, stream):
        self._stream = stream
        self.failure: Exception | None = None

    def __getattr__(self, name):
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Writes a text; returns its length, whatever became of it."""
        self._try(lambda: self._stream.write(text))
        return len(text)

    def writelines(self, lines) -> None:
        """Writes texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Hands on what was written."""
        self._try(self._stream.flush)

    def _try(self, act):
        try:
            act()
        except (OSError, ValueError) as error:
            if self.failure is None:
                self.failure = error
                self._abandon()

    def _abandon(self):
        """What is still held back, and what libraries write, has to go somewhere."""
        try:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
        except (OSError, ValueError):
            pass


def secure() -> None:
    """Makes standard output and error enduring, and opens closed ones: the next file would take their place."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free: this one
    for number, name in ((1, "stdout"), (2, "stderr")):
        stream = getattr(sys, name) or open(number, "w", encoding="utf-8", closefd=False)
        # A name that the terminal's encoding lacks is shown as escapes.
        # A line is handed on at once: a signal may end the process at any time.
        stream.reconfigure(errors="backslashreplace", line_buffering=True)
        setattr(sys, name, Enduring(stream))


def status(done: int, wanted: bool) -> int:
    """Returns the exit status of a program that has written all it has to say.

    Args:
      done: its status otherwise.
      wanted: whether standard output is what it was started for.
    """
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    failure = getattr(sys.stdout, "failure", None)
    if failure is None or done or not wanted or getattr(failure, "errno", None) == errno.EPIPE:  # `| head` has enough
        return done
    print(f"error: cannot write to standard output: {getattr(failure, 'strerror', None) or failure}", file=sys.stderr)
    return EXIT_FAILED
