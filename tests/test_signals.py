"""Signals in a process of its own: what they mean before, while and after something is saved, and to whom."""

import os
import signal
import subprocess
import sys
import time

import pytest
from launching import REPOSITORY

from cnn_jax import signals

# Says where it is, so that the test knows when to send.
PROGRAM = """
import signal, sys, time
sys.argv = ["launch.py", *{words!r}]
{before}
from cnn_jax import signals
signals.listen()
try:
    print("waiting", flush=True)
    {block}
except signals.Stopped as stopped:
    print(stopped, file=sys.stderr)
    sys.exit(stopped.status)
signals.finish()
print("done", flush=True)
{after}
"""
WAIT = "time.sleep(60)"
SAVE = """
    with signals.saving() as asked:
        for _ in range(600):
            time.sleep(0.1)
            if asked():
                time.sleep(0.3), print("saved", flush=True)
                sys.exit(75)
"""
DEAF = """
    with signals.saving():
        time.sleep(60)
"""
# The main thread is in compiled code, where no handler of Python's runs.
BUSY = "import re; re.fullmatch('(a*)*b', 'a' * 60)"


def start(block, *words, before="", after=""):
    code = PROGRAM.format(words=list(words), block=block, before=before, after=after)
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "waiting\n"
    time.sleep(0.1)
    return process


def end(process):
    """The exit status, and the last lines of standard output and error."""
    out, error = process.communicate(timeout=30)
    assert "Traceback" not in error
    return process.returncode, out.strip(), error.strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize(
    "words,continued",
    [
        ([], True), (["--mode=train"], True), (["--mode", "prepare"], True), (["--mode=train", "--mode=eval"], False),
        (["--mode=report"], False), (["--list"], False), (["--help"], False),
    ],
)  # fmt: skip
def test_where_nothing_is_saved_the_program_ends(number, words, continued):
    process = start(WAIT, *words)
    process.send_signal(number)
    status, _, said = end(process)
    assert status == (75 if continued else 128 + number)
    assert said == f"stopped by {number.name}" + ("; the same command continues" if continued else "")


def test_what_saves_is_asked_to():
    process = start(SAVE, "--mode=train")
    process.send_signal(signal.SIGHUP)
    assert end(process) == (75, "saved", "SIGHUP: saving; once more to end at once")


@pytest.mark.parametrize("words,status", [(["--mode=train"], 75), (["--mode=eval"], 128 + signal.SIGTERM)])
def test_the_second_one_ends_at_once(words, status):
    process = start(DEAF, *words)
    process.send_signal(signal.SIGINT)
    time.sleep(signals.ONE + 0.2)
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    found, _, said = end(process)
    assert found == (status if status == 75 else 128 + signal.SIGINT) and time.monotonic() - began < 5
    assert said.splitlines()[-1].startswith("stopped by SIGINT")


def test_two_at_nearly_the_same_time_are_one():
    """timeout(1) sends the signal to the process and then to its group."""
    process = start(SAVE, "--mode=train")
    process.send_signal(signal.SIGTERM)
    time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert end(process)[:2] == (75, "saved")


def test_a_main_thread_that_is_busy_is_not_waited_for():
    process = start(BUSY, "--mode=train")
    process.send_signal(signal.SIGTERM)
    assert end(process)[::2] == (75, "stopped by SIGTERM; the same command continues")


def test_a_block_that_ended_otherwise_is_stopped_after_it():
    process = start("with signals.saving(): time.sleep(1); print('block over')", "--mode=train")
    process.send_signal(signal.SIGTERM)
    status, out, _ = end(process)
    assert (status, out) == (75, "block over")


def test_what_was_ignored_stays_ignored():
    """As under nohup, and SIGINT for a shell's background jobs."""
    ignore = "[signal.signal(number, signal.SIG_IGN) for number in (signal.SIGHUP, signal.SIGINT)]"
    process = start("time.sleep(1)", before=ignore)
    for number in (signal.SIGHUP, signal.SIGINT):
        process.send_signal(number)
    assert end(process) == (0, "done", "")


def test_after_the_end_the_status_is_settled():
    process = start("pass", after="time.sleep(1)")
    assert process.stdout.readline() == "done\n"
    process.send_signal(signal.SIGTERM)
    assert end(process) == (0, "", "")


def test_in_python_nobody_listens_unless_asked_to():
    mine = [signal.getsignal(number) for number in signals.HEARD]
    with signals.heard(False), signals.saving() as asked:
        assert [signal.getsignal(number) for number in signals.HEARD] == mine
        assert not asked()
    with pytest.raises(signals.Stopped, match="stopped by SIGTERM"), signals.heard(), signals.saving() as asked:
        assert not asked()
        os.kill(os.getpid(), signal.SIGTERM)
        while not asked():
            time.sleep(0.01)
    assert [signal.getsignal(number) for number in signals.HEARD] == mine
    with pytest.raises(KeyboardInterrupt), signals.heard():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(10)
    assert [signal.getsignal(number) for number in signals.HEARD] == mine
