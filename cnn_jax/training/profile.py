"""A trace of a few steps, for TensorBoard's profiler or Perfetto."""

from pathlib import Path

import jax

from cnn_jax.files import Outbox

DISPATCHES = 3  # traced, after the first, which compiles


class Profile:
    """Traces the dispatches after the first.

    Args:
      folder: where the trace goes; None: nothing is traced.
      say: told where it lies.
    """

    def __init__(self, folder: Path | None, say):
        self._folder = folder
        self._say = say
        self._seen = 0
        self._box: Outbox | None = None

    def note(self) -> None:
        """Takes note that a dispatch has ended."""
        if not self._folder:
            return
        if self._seen == 0:
            self._box = Outbox(self._folder)
            jax.profiler.start_trace(self._box.local)
        self._seen += 1
        if self._seen == 1 + DISPATCHES:
            self.close()

    def close(self) -> None:
        """Ends the trace."""
        if self._folder and self._seen:
            jax.profiler.stop_trace()
            self._box.close()
            self._say(f"trace of {self._seen - 1} dispatches in {self._folder}")
        self._folder = None
