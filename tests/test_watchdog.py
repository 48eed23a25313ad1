"""A process that hangs ends with a status of its own, and says where it hung."""

import contextlib
import socket
import subprocess
import sys
import time

import in_process
import pytest
from launching import REPOSITORY, command, environment, shared_folder

from cnn_jax import watchdog
from cnn_jax.errors import EXIT_STUCK


def test_what_hangs_is_ended_and_what_goes_on_is_not():
    text = """
import time
from cnn_jax import watchdog
def works():
    for _ in range(10):
        time.sleep(0.2)
        watchdog.note()
def hangs():
    time.sleep(60)
with watchdog.watching(1):
    works()
    print("worked", flush=True)
    hangs()
"""
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", text], cwd=REPOSITORY, capture_output=True, text=True, timeout=60)
    assert done.returncode == EXIT_STUCK == 76 and done.stdout == "worked\n" and time.monotonic() - began < 30
    assert "error: no progress for 1 seconds (--watchdog)" in done.stderr and "in hangs" in done.stderr


def test_it_stops_watching_with_its_block(monkeypatch):
    monkeypatch.setattr(watchdog, "TICK", 0.01)
    ended = []
    monkeypatch.setattr(watchdog.os, "_exit", ended.append)
    with watchdog.watching(0), watchdog.watching(60):
        time.sleep(0.1)
    assert not ended


def test_preparing_is_not_watched(monkeypatch, tmp_path):
    """Downloads and copies of hours do not say that they go on."""
    seen = []
    monkeypatch.setattr(watchdog, "watching", lambda seconds: seen.append(seconds) or contextlib.nullcontext())
    sets = [f"data.data_dir={tmp_path / 'data'}"]
    asked = in_process.flags("lenet_digits", sets, tmp_path / "run", mode="prepare", watchdog=5.0)
    assert in_process.done(asked)[0] == 0 and seen == [0]


@pytest.mark.slow
def test_a_run_that_waits_for_a_process_that_never_comes(tmp_path_factory, tmp_path):
    env = environment(shared_folder(tmp_path_factory, "cache"))
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = ("--experiment=lenet_digits", f"--workdir={tmp_path}/run", "--watchdog=4")
    place = (f"--coordinator=127.0.0.1:{port}", "--process_count=2", "--process_index=0")
    done = subprocess.run(command(*words, *place), env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == EXIT_STUCK and "error: no progress for 4 seconds" in done.stderr, done.stderr
