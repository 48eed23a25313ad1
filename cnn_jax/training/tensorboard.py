"""Event files for TensorBoard, written where they are asked for.

tensorboardX's own SummaryWriter hands events to a thread; when the disk is full that one dies, and training waits for
it for ever. What it writes them with is used here directly.
"""

import os
import time
from pathlib import Path

from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from cnn_jax.files import Outbox


class Board:
    """An event file.

    Args:
      folder: where it goes; made if it is not there.
      step: that the run continues from; TensorBoard hides what files of earlier starts have after it.

    Raises:
      OSError: it cannot be written; of all methods.
    """

    def __init__(self, folder: Path, step: int):
        self._box = Outbox(folder)
        self._box.local.mkdir(exist_ok=True)
        # Its name has the time in seconds only.
        self._events = EventsWriter(str(self._box.local / "events"), f".{os.getpid()}")
        if step:
            started = SessionLog(status=SessionLog.START)
            self._events.write_event(Event(wall_time=time.time(), step=step + 1, session_log=started))

    def add(self, name: str, value: float, step: int) -> None:
        """Adds a number."""
        self._events.write_event(Event(wall_time=time.time(), step=step, summary=summary.scalar(name, value)))

    def flush(self) -> None:
        """Puts the events on the disk."""
        self._events.flush()
        self._box.put()

    def close(self) -> None:
        """Flushes and closes."""
        self._events.close()
        self._box.close()
