"""Several processes that train one network: how they meet, agree and part.

All run the same program with the same settings, and each feeds its part of every batch. Process 0 alone reads and
writes the workdir and says what there is to say; the others learn from it what they need, so that all take the same
decisions. With one process every function here is the plain call that its name suggests.
"""

import contextlib
import contextvars
import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import jax
import numpy as np
from jax.experimental import multihost_utils

from cnn_jax import files, progress
from cnn_jax.devices.launchers import Rendezvous
from cnn_jax.errors import EXIT_FAILED, UserError
from cnn_jax.streams import Enduring

ROOM = 16_384  # bytes of a message from process 0
LONGEST = 2_000  # characters of an error in it
LAST_SECONDS = 2.0  # process 0 leaves so much later than the others: its end would end them in mid-sentence


def is_first() -> bool:
    """Tells whether this is process 0."""
    return jax.process_index() == 0


_silent = contextvars.ContextVar("silent", default=False)


def speaks() -> bool:
    """Tells whether this process has lines for the person at the terminal."""
    return is_first() and not _silent.get()


def log(text: str) -> None:
    """Prints a line for the person at the terminal, once; see `progress.stream`."""
    if speaks():
        print(files.printable(text, lines=True), file=progress.stream(), flush=True)


@contextlib.contextmanager
def silenced():
    """Keeps log lines and progress from being shown."""
    token = _silent.set(True)
    try:
        yield
    finally:
        _silent.reset(token)


@contextlib.contextmanager
def joined(rendezvous: Rendezvous | None):
    """Makes this process one of several, which end together; None: it stays alone.

    Raises:
      UserError: they did not all come, or one was lost on the way.
    """
    if rendezvous is None:
        yield
        return
    _join(rendezvous)
    sys.excepthook = _told_then_left
    try:
        with _results_alone(), contextlib.nullcontext() if is_first() else _without_dumps():
            yield
    except (ValueError, jax.errors.JaxRuntimeError) as error:
        if "Gloo" not in str(error):
            raise
        reason = " ".join(str(error).split())
        raise UserError(f"another process of the run has gone; its own messages say why ({reason[:200]})") from error
    jax.distributed.shutdown()  # waits for the others


def _join(rendezvous):
    this = f"process {rendezvous.index} of {rendezvous.count}" if rendezvous.coordinator else "this process"
    place = f" at {rendezvous.coordinator}" if rendezvous.coordinator else ""
    late = (
        f"{this} did not meet all the others{place} within {rendezvous.timeout} s: check that each was started, with "
        "the same --coordinator and --process_count, and that they can reach that port"
    )
    # JAX itself would abort with a stack trace.
    patience = threading.Timer(rendezvous.timeout, _give_up, [late])
    patience.daemon = True
    patience.start()
    # JAX's preemption service would take SIGTERM away from the training loop.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(
            rendezvous.coordinator, rendezvous.count, rendezvous.index, initialization_timeout=10 * rendezvous.timeout
        )
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(f"{this} cannot join the others: {' '.join(str(error).split())}") from error
    finally:
        patience.cancel()
    try:
        jax.devices()
    except (RuntimeError, AssertionError) as error:  # JAX asserts that one of $JAX_PLATFORMS is there
        _give_up(f"{this} finds no devices for JAX, see $JAX_PLATFORMS: {' '.join(str(error).split()) or 'none there'}")


def _give_up(message):
    print(f"error: {message}", file=sys.stderr, flush=True)
    os._exit(EXIT_FAILED)


@contextlib.contextmanager
def _results_alone():
    """Keeps standard output for the results of process 0: Gloo would announce its connections there."""
    sys.stdout.flush()
    kept = os.dup(sys.stdout.fileno())
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    used, unused = (kept, nowhere) if is_first() else (nowhere, kept)
    os.close(unused)
    with os.fdopen(used, "w", encoding="utf-8") as results, contextlib.redirect_stdout(Enduring(results)):
        yield


# JAX ends a process that has lost process 0 in the middle of whatever it does, with a stack trace; it has no hook.
LOST = "process 0 of the run has gone, or cannot be reached; its own messages say why. What was saved is whole"
SIFT = f"""
import sys
told = lost = False
for line in sys.stdin.buffer:
    if b"JAX distributed service detected fatal errors" in line:
        lost = True
        if not told:
            print("error: {LOST}", file=sys.stderr, flush=True)
    elif not lost and b"coordination_service" not in line:
        told = told or line.startswith(b"error: ")
        sys.stderr.buffer.write(line)
        sys.stderr.flush()
"""


_sifts: list[subprocess.Popen] = []


@contextlib.contextmanager
def _without_dumps():
    """Passes standard error through a process that puts one line in the place of that trace.

    After an error it stays so: the end is told by this process or by JAX, and only the first of them is let through.
    """
    sift = subprocess.Popen([sys.executable, "-c", SIFT], stdin=subprocess.PIPE, start_new_session=True)
    _sifts.append(sift)  # it outlives an error
    kept = os.dup(2)
    os.dup2(sift.stdin.fileno(), 2)
    sift.stdin.close()
    yield
    sys.stderr.flush()
    os.dup2(kept, 2)
    os.close(kept)
    with contextlib.suppress(subprocess.TimeoutExpired):
        sift.wait(LAST_SECONDS)


def _told_then_left(kind, error, trace):
    sys.__excepthook__(kind, error, trace)
    leave(EXIT_FAILED)


def leave(status: int) -> int:
    """Ends this process at once where it is one of several; else returns the status.

    An ordinary exit would first wait for the others, which may be waiting for this one in the middle of a step.
    """
    if not jax.distributed.is_initialized():
        return status
    if is_first():
        time.sleep(LAST_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


@contextlib.contextmanager
def claimed(folder: Path):
    """Does `files.claimed` in process 0; the others go on when it is done."""
    with contextlib.ExitStack() as stack:
        on_first(lambda: stack.enter_context(files.claimed(folder)))
        yield


def on_first(work):
    """Calls `work()` on process 0 alone and returns its result on every process: a value that JSON can hold.

    All processes must call this.

    Raises:
      UserError: what `work` raised, on every process.
    """
    if jax.process_count() == 1:
        return work()
    said, failure = {}, None
    if is_first():
        try:
            said = {"value": work()}
        except UserError as error:
            failure = error
            said = {"error": str(error)[:LONGEST], "status": error.exit_code}
    said = _broadcast(said)
    if failure:
        raise failure
    if "error" in said:
        raise UserError(said["error"], said["status"])
    return said["value"]


def _broadcast(said):
    """Process 0's dictionary."""
    text = json.dumps(said).encode()
    sent = np.zeros(ROOM, np.uint8)
    sent[: len(text)] = np.frombuffer(text, np.uint8)
    return json.loads(bytes(multihost_utils.broadcast_one_to_all(sent)).rstrip(b"\0"))


def text_from_first(read) -> str:
    """Returns the text that `read()` gives on process 0, which alone calls it; of any length.

    Raises:
      UserError: what `read` raised, on every process.
    """
    if jax.process_count() == 1:
        return read()
    kept: list[bytes] = []

    def measured():
        kept.append(read().encode())
        return len(kept[0])

    length = on_first(measured)
    sent = np.frombuffer(kept[0], np.uint8) if kept else np.zeros(length, np.uint8)
    return bytes(multihost_utils.broadcast_one_to_all(sent)).decode()


def arrays_from_first(read, like) -> list[jax.Array]:
    """Returns the arrays that `read()` gives on process 0, which alone calls it, on the devices of all.

    Args:
      read: gives a list of arrays, placed as `own_placement` says.
      like: their shapes, types and placement in the end.

    Raises:
      UserError: what `read` raised, on every process.
    """
    if jax.process_count() == 1:
        return read()
    kept = []
    on_first(lambda: kept.extend(read()))
    mine = kept or [np.zeros(each.shape, each.dtype) for each in like]
    # As bytes: they are summed over the processes, and a sum of numbers would lose the sign of zero.
    heard = multihost_utils.broadcast_one_to_all([np.asarray(each).reshape(-1).view(np.uint8) for each in mine])
    return [
        jax.make_array_from_process_local_data(each.sharding, data.view(each.dtype).reshape(each.shape), each.shape)
        for each, data in zip(like, heard, strict=True)
    ]


def local_placement(array) -> jax.sharding.Sharding:
    """Returns the placement this process reads an array with: its own or, with several processes, on one device."""
    if jax.process_count() == 1:
        return array.sharding
    return jax.sharding.SingleDeviceSharding(jax.local_devices()[0])


def first_before_others(work):
    """Does `work()` on process 0, then on the others: what it prepares on a shared disk is there for them.

    Raises:
      UserError: what `work` raised, on every process if on process 0.
    """
    kept = []
    on_first(lambda: kept.append(work()))
    return kept[0] if kept else work()


def local_copy(tree):
    """Arrays that all devices hold in full, as NumPy arrays of this process alone; as they are with one device.

    Orbax would have each device save a piece, cut by programs that it compiles at every start.
    """
    return tree if jax.device_count() == 1 else jax.tree.map(np.array, tree)


class Agreement:
    """What several processes decide together, now and then: whether to stop, and how long stretches are.

    Attributes:
      step: at which all agree next; None where there is one process, which agrees with itself at every step.
    """

    def __init__(self):
        self.step: int | None = None if jax.process_count() == 1 else -1
        self._steps = 1

    def ask(self, step: int, asked: bool, steps: int, wait: int) -> tuple[bool, int]:
        """Returns whether any process was asked to stop, and the number of steps that process 0 gives.

        Between two agreements nobody stops, and the number stays. An agreement is a sum of a few bytes over all
        processes, some milliseconds; which step the next one comes at is part of it, so that no clock decides.

        Args:
          step: that all have come to.
          asked: whether this process was.
          steps: of a stretch, as this process would have it.
          wait: steps to the next agreement, likewise.
        """
        if self.step is None:
            return asked, steps
        if step < self.step:
            return False, self._steps
        every = multihost_utils.process_allgather(np.array([asked, steps, wait], np.int32))
        self._steps, self.step = int(every[0, 1]), step + int(every[0, 2])
        return bool(every[:, 0].any()), self._steps
