"""Standard output and error that cannot be written: nothing of a run is lost, and what was asked for is not missed."""

import os
import subprocess
import sys

import pytest
from launching import QUICK, REPOSITORY, command, environment, settings, shared_folder

from cnn_jax import streams

SHORT = settings(data__limit=64, data__validation=16, train__duration="4 steps", evaluation__every="2 steps")
WORDS = ["--experiment=lenet_digits", "--noreport", *SHORT]


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return environment(shared_folder(tmp_path_factory, "cache"), **QUICK)


def closed_pipe():
    """The end of a pipe that nobody reads any more, as after `| head`."""
    read, write = os.pipe()
    os.close(read)
    return write


def run(env, *words, close=(), **ends):
    """The exit status, and what came through to standard output and error."""
    shut = " ".join(f"{number}>&-" for number in close)
    ends = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | ends
    asked = ["sh", "-c", f'exec "$@" {shut}', "sh", *command(*words)]
    done = subprocess.run(asked, env=env, text=True, timeout=300, **ends)
    assert "Traceback" not in (done.stderr or "") and "Exception" not in (done.stderr or "")
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_training_goes_on(env, tmp_path):
    assert run(env, *WORDS, f"--workdir={tmp_path / 'whole'}")[0] == 0
    with open("/dev/full", "wb") as full:
        broken = closed_pipe()
        assert run(env, *WORDS, f"--workdir={tmp_path / 'full'}", stdout=full, stderr=full)[0] == 0
        assert run(env, *WORDS, f"--workdir={tmp_path / 'head'}", stdout=broken, stderr=broken)[0] == 0
        os.close(broken)
        assert run(env, *WORDS, f"--workdir={tmp_path / 'shut'}", close=(0, 1, 2), stdout=None, stderr=None)[0] == 0
    for name in ("full", "head", "shut"):
        for file in ("metrics.jsonl", "metrics.csv", "results.json"):
            assert (tmp_path / name / file).read_bytes() == (tmp_path / "whole" / file).read_bytes()
        assert (tmp_path / name / "checkpoints" / "4").is_dir()


def test_a_result_that_cannot_be_written_is_missed(env):
    with open("/dev/full", "wb") as full:
        status, _, said = run(env, "--list", stdout=full)
    assert (status, said) == (1, "error: cannot write to standard output: No space left on device\n")
    broken = closed_pipe()
    assert run(env, "--list", stdout=broken)[::2] == (0, "")
    os.close(broken)
    with open("/dev/full", "wb") as full:
        assert run(env, "--list", stderr=full)[0] == 0
        assert run(env, "--lisst", stderr=full)[0] == 2


def test_a_name_that_the_terminal_cannot_show_is_escaped(env):
    code = "from cnn_jax import streams; streams.secure(); print('\\udcff ü', flush=True)"
    latin = env | {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-c", code], env=latin, cwd=REPOSITORY, capture_output=True, timeout=60)
    assert done.stdout == b"\\udcff \\xfc\n" and not done.stderr


def test_what_fails_once_is_not_tried_again(tmp_path):
    with open(tmp_path / "a", "w") as file:
        stream = streams.Enduring(file)
        stream.write("one")
        stream.flush()
        assert stream.failure is None and stream.name == file.name and not stream.isatty()
    stream.writelines(["two", "three"])
    stream.flush()
    assert "closed file" in str(stream.failure)
    assert (tmp_path / "a").read_text() == "one"
