"""The right to work in a folder on a disk: one process at a time, and no longer than it lives."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from cnn_jax import files, leases
from cnn_jax.errors import UserError

HOLD = """
import pathlib, sys, time
from cnn_jax import leases
with leases.held(pathlib.Path(sys.argv[1])):
    print("mine", flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def short(monkeypatch):
    monkeypatch.setattr(leases, "PERIOD", 0.1)
    monkeypatch.setattr(leases, "SILENCE", 0.8)


def owner(folder):
    (path,) = folder.glob(".owner.*")
    return path


def test_one_process_at_a_time(tmp_path):
    for _ in range(3):  # one after the other
        with leases.held(tmp_path):
            for ask in (False, True):
                with pytest.raises(leases.Busy, match=f"running in {tmp_path}, process {os.getpid()} on ") as caught:
                    with leases.held(tmp_path, ask):
                        pytest.fail("two have it")
                assert str(caught.value) == f"{caught.value.what}: wait for it, or choose another --workdir"
    assert owner(tmp_path).name == ".owner.3"  # no number comes twice


def test_one_of_many_wins(tmp_path):
    """Eight threads that ask at the same moment, again and again: there are never two inside."""
    inside, most, turns = [], [], []
    start = threading.Barrier(8)

    def ask():
        start.wait()
        for _ in range(40):
            try:
                with leases.held(tmp_path, ask=False):
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.pop()
                    turns.append(1)
            except leases.Busy:
                time.sleep(0.001)

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert turns and set(most) == {1}


def test_a_killed_owner_of_this_machine_is_followed_at_once(tmp_path):
    with subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "mine\n"
        with pytest.raises(leases.Busy, match=f"process {process.pid} "), leases.held(tmp_path, ask=False):
            pass
        process.kill()
        process.stdout.read()  # it has ended, and nobody has asked for its status yet
        deadline = time.monotonic() + 20
        while leases._started(process.pid) and time.monotonic() < deadline:
            time.sleep(0.01)
        with leases.held(tmp_path, ask=False):
            pass


def test_an_owner_of_another_machine_is_followed_when_it_is_silent(tmp_path):
    said = []
    owner_there = tmp_path / ".owner.7"
    owner_there.write_text(json.dumps(leases._this_process() | {"host": "elsewhere", "pid": 5}))
    with pytest.raises(leases.Busy), leases.held(tmp_path, ask=False):
        pass
    began = time.monotonic()
    with leases.held(tmp_path, log=said.append):
        assert time.monotonic() - began > 0.8
        assert owner(tmp_path).name == ".owner.8"
    assert said == [f"{tmp_path}: asking for a sign of life of process 5 on elsewhere"]
    owner(tmp_path).write_text("")  # of a process that was killed before it had written its name
    with leases.held(tmp_path):
        assert owner(tmp_path).name == ".owner.9"


def test_who_was_followed_writes_no_more(tmp_path):
    with leases.held(tmp_path):
        files.write_text(tmp_path / "mine", "1")
        files.write_text(tmp_path.parent / "other", "1")
        owner(tmp_path).rename(tmp_path / ".owner.2")  # as if another process had it
        deadline = time.monotonic() + 20
        with pytest.raises(UserError, match=f"{tmp_path} has another owner"):
            while time.monotonic() < deadline:
                files.write_text(tmp_path / "mine", "2")
                time.sleep(0.02)
        files.write_text(tmp_path.parent / "other", "2")
    assert json.loads(owner(tmp_path).read_text())["pid"] == os.getpid()  # not released: it is not this one's


def test_a_process_that_was_stopped_for_a_while_looks_before_it_writes(tmp_path, monkeypatch):
    monkeypatch.setattr(leases, "PERIOD", 5)  # no sign of life comes by itself
    monkeypatch.setattr(leases, "SILENCE", 5.2)
    with leases.held(tmp_path):
        time.sleep(0.3)
        files.write_text(tmp_path / "mine", "1")  # late, and nobody has followed
        owner(tmp_path).rename(tmp_path / ".owner.2")
        time.sleep(0.3)
        with pytest.raises(UserError, match="has another owner"):
            files.write_text(tmp_path / "mine", "2")


def test_a_folder_that_is_removed_meanwhile_is_not_made_anew(tmp_path):
    place = tmp_path / "place"
    place.mkdir()
    with leases.held(place):
        files.remove_folder(place)
    assert not place.exists()


def test_waiting_for_others(tmp_path):
    done = []

    def first():
        with leases.waited_for(tmp_path):
            time.sleep(0.3)
            done.append("first")

    thread = threading.Thread(target=first)
    thread.start()
    time.sleep(0.1)
    with leases.waited_for(tmp_path):
        done.append("second")
    thread.join()
    assert done == ["first", "second"]
