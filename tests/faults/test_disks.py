"""Disks that are full or read-only: one line, a status that is not 0, and with room again the same command goes on."""

import os
import subprocess

import pytest
from launching import QUICK, environment, launch, settings, shared_folder

RUN = settings(
    data__limit=60, data__validation=40, train__batch_size=8, train__duration="12 steps", evaluation__every="4 steps",
    checkpoint__every="4 steps", log__every="3 steps", schedule__warmup="0 steps", log__tensorboard=False,
)  # fmt: skip
WORDS = ["--experiment=lenet_digits", *RUN]
MEBIBYTES = 4


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return environment(shared_folder(tmp_path_factory, "cache"), **QUICK)


@pytest.fixture
def small(tmp_path):
    """A disk of four mebibytes."""
    place = tmp_path / "small"
    place.mkdir()
    asked = ["mount", "-t", "tmpfs", "-o", f"size={MEBIBYTES}m", "tmpfs", str(place)]
    try:
        made = subprocess.run(asked, capture_output=True, text=True)
    except OSError as error:
        pytest.skip(f"no small disk can be made here: {error}")
    if made.returncode:
        pytest.skip(f"no small disk can be made here: {made.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def fill(place, left=0):
    """Leaves so many bytes of room on the disk."""
    with open(place / "filler", "wb", buffering=0) as file:
        for size in (2**16, 2**12):
            try:
                while file.write(b"x" * size) == size:
                    pass
            except OSError:
                pass
        file.truncate(max(0, file.tell() - left))


def refused(env, *words):
    """The one line that is said, behind what was said before."""
    done = launch(env, *words, status=1)
    *before, last = done.stderr.splitlines()
    assert last.startswith("error: "), done.stderr
    assert not [line for line in before if "Error" in line or "error: " in line], done.stderr
    return last


@pytest.mark.slow
@pytest.mark.parametrize("left", [0, 2**14, 2**20])
def test_a_full_disk_costs_one_line(env, small, tmp_path, left):
    launch(env, *WORDS, f"--workdir={tmp_path / 'whole'}", "--noreport")
    fill(small, left)
    folder = small / "run"
    said = refused(env, *WORDS, f"--workdir={folder}", "--noreport")
    assert str(folder) in said and ("No space left on device" in said or "the disk has" in said)
    (small / "filler").unlink()
    launch(env, *WORDS, f"--workdir={folder}", "--noreport")
    for name in ("metrics.jsonl", "metrics.csv", "results.json"):
        assert (folder / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    fill(small)
    assert "No space left on device" in refused(env, f"--workdir={folder}", "--mode=report")
    launch(env, f"--workdir={folder}", "--mode=eval")
    assert [path.name for path in folder.iterdir() if path.name.startswith(".")] == [".lock"]


def test_a_full_disk_for_the_data(env, small):
    fill(small, 2**14)
    said = refused(env, *WORDS, "--mode=prepare", *settings(data__data_dir=small / "data"))
    assert "No space left on device" in said and "data.data_dir" in said


@pytest.mark.skipif(os.access("/proc/1/environ", os.R_OK), reason="root may write anywhere")
def test_a_read_only_folder(env, tmp_path):
    launch(env, *WORDS, f"--workdir={tmp_path / 'run'}", "--noreport")
    for path in [tmp_path / "run", *(tmp_path / "run").rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)
    launch(env, f"--workdir={tmp_path / 'run'}", "--mode=eval")
    assert "Permission denied" in refused(env, *WORDS, f"--workdir={tmp_path / 'run'}")


@pytest.mark.slow
def test_a_disk_mounted_read_only(env, small):
    launch(env, *WORDS, f"--workdir={small / 'run'}", "--noreport")
    subprocess.run(["mount", "-o", "remount,ro", str(small)], check=True)
    launch(env, f"--workdir={small / 'run'}", "--mode=eval")
    assert "Read-only file system" in refused(env, *WORDS, f"--workdir={small / 'run'}")
    assert "Read-only file system" in refused(env, f"--workdir={small / 'run'}", "--mode=report")
