"""The words that start the program, as messages and records give them."""

import shlex
import subprocess
import sys

import pytest
from launching import REPOSITORY

from cnn_jax import flags


@pytest.mark.parametrize(
    "started, words",
    [
        ("launch.py", ["python", "launch.py"]),
        ("/home/me/my code/launch.py", ["python", "/home/me/my code/launch.py"]),
        ("/env/bin/cnn_jax", ["cnn_jax"]),
        ("/env/lib/cnn_jax/__main__.py", ["python", "-m", "cnn_jax"]),
        ("", ["cnn_jax"]),  # an interactive Python
    ],
)
def test_a_command_starts_as_this_process_did_and_is_quoted(monkeypatch, tmp_path, started, words):
    monkeypatch.setattr(sys, "argv", [started, "--mode=train"])
    assert flags.program() == words
    program = tmp_path / ".venv" / "bin" / words[0]
    monkeypatch.setattr(sys, "executable", str(program.with_name("python")))
    program.parent.mkdir(parents=True)
    program.touch(0o755)
    said = lambda: shlex.split(flags.command("--workdir=my runs", "a'b"))
    rest = [*words[1:], "--workdir=my runs", "a'b"]
    monkeypatch.setenv("PATH", str(program.parent))  # the environment is active
    assert said() == [words[0], *rest]
    monkeypatch.setenv("PATH", "/nowhere")
    assert said() == [str(program), *rest]
    monkeypatch.chdir(tmp_path)
    assert said() == [f".venv/bin/{words[0]}", *rest]


def test_windows_is_told_the_way_out():
    code = "import sys; sys.platform = 'win32'; sys.modules['fcntl'] = None; from cnn_jax.start import main; main()"
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True)
    assert done.stderr.startswith("error: Windows itself is not supported: run this in WSL 2") and not done.stdout
