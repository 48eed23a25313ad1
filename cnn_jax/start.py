"""The first and the last lines of the program: everything between passes through `main`."""

import sys
import warnings

from cnn_jax.errors import EXIT_FAILED

WINDOWS = "error: Windows itself is not supported: run this in WSL 2 (wsl --install), where everything is as on Linux"


def main() -> int:
    """Runs the command line; returns the exit status."""
    if sys.platform == "win32":
        print(WINDOWS, file=sys.stderr)
        return EXIT_FAILED
    from cnn_jax import signals, streams  # what they import is not there on Windows

    streams.secure()
    sys.unraisablehook = _tell_unless_on_the_way_out
    # What Orbax still meant to write when a write failed; why it failed is told.
    warnings.filterwarnings("ignore", r"coroutine '.*' was never awaited", RuntimeWarning)
    try:
        signals.listen()
        from cnn_jax import launch

        done = launch.main()
    except signals.Stopped as stopped:
        print(stopped, file=sys.stderr)
        done = stopped.status
    signals.finish()
    return streams.status(done, wanted=not signals.continued())


def _tell_unless_on_the_way_out(event):
    """Passes on what fails where nobody can catch it, but for what follows from an end that is told already."""
    # Reads of a checkpoint that are under way when one of them fails.
    closed = isinstance(event.exc_value, RuntimeError) and "Event loop is closed" in str(event.exc_value)
    if not closed:
        sys.__unraisablehook__(event)
