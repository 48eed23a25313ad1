"""The package as pip installs it: the command, the experiments, what a run records; a checkout may be far away."""

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib

import pytest
from launching import REPOSITORY, command, environment, settings

import cnn_jax
from cnn_jax import trained


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A folder that the package was installed into, from a wheel, by what the project says of itself alone."""
    source, site = (tmp_path_factory.mktemp(name) for name in ("source", "site"))
    skip = shutil.ignore_patterns("__pycache__")
    for name in ("cnn_jax", "experiments"):
        shutil.copytree(REPOSITORY / name, source / name, ignore=skip)
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(REPOSITORY / name, source)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*pip, f"--target={site}", source], check=True, capture_output=True)
    return site


@pytest.fixture
def run(site, tmp_path):
    """Runs a command beside the installed package, and returns its standard output."""
    env = environment(tmp_path / "cache", PYTHONPATH=str(site), PATH=os.environ["PATH"])

    def call(*words, status=0):
        done = subprocess.run(list(map(str, words)), cwd=tmp_path, env=env, capture_output=True, text=True)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    return call


@pytest.mark.slow
def test_the_command_is_launch_py(run, site):
    listed = run(*command("--list"))
    assert "lenet_digits" in listed
    assert run(site / "bin" / "cnn_jax", "--list") == run(sys.executable, "-m", "cnn_jax", "--list") == listed
    words = ["--experiment=lenet5_mnist", "--mode=summary"]
    assert run(sys.executable, "-m", "cnn_jax", *words) == run(*command(*words))
    run(sys.executable, "-m", "cnn_jax", "--mode=eval", status=2)


def test_nothing_but_the_package_is_installed(run, site):
    tops = {path.name for path in site.iterdir() if path.is_dir() and not path.name.endswith(".dist-info")}
    assert tops == {"cnn_jax", "bin"}
    assert {path.name for path in (site / "cnn_jax" / "experiments").glob("*.py")} == {
        path.name for path in (REPOSITORY / "experiments").glob("*.py")
    }
    assert (site / "cnn_jax" / "py.typed").exists()
    for name in trained.names():
        assert (site / "cnn_jax" / "trained" / f"{name}.safetensors").read_bytes() == trained.path(name).read_bytes()
    assert (site / "cnn_jax" / "data" / "datasets" / "imagenet_words.txt").exists()
    assert run(sys.executable, "-c", "import cnn_jax; print(cnn_jax.__file__)").startswith(str(site))
    version = "import importlib.metadata as m; print(m.version('cnn_jax'))"
    assert run(sys.executable, "-c", version).strip() == cnn_jax.__version__


@pytest.mark.slow
def test_a_run_records_the_version_and_writes_its_report(run, site, tmp_path):
    subprocess.run(["git", "init", "-q", tmp_path], check=True)  # the environment is not its code
    short = settings(train__duration="3 steps", schedule__warmup="0 steps")
    run(site / "bin" / "cnn_jax", "--experiment=lenet_digits", "--workdir=run", *short)
    (record,) = map(json.loads, (tmp_path / "run" / "starts.jsonl").read_text().splitlines())
    assert record["versions"]["cnn_jax"] == cnn_jax.__version__ and record["git"] is None
    assert record["command"].startswith("cnn_jax --experiment=lenet_digits")
    assert (tmp_path / "run" / "report.html").stat().st_size > 10_000


WANTED = {
    "cuda12": "jax-cuda12-plugin", "cuda13": "jax-cuda13-plugin", "tpu": "libtpu", "cloud": "gcsfs", "docs": "myst-nb",
    "explore": "starlette", "test-all": "playwright",
}  # fmt: skip
EXTRAS = tuple(WANTED)


def pins(path):
    """The versions of a lock by package and marker."""
    lines = path.read_text(encoding="utf-8").splitlines()
    found = (re.fullmatch(r"([\w.-]+(?:\[[\w,-]+\])?)==(\S+)(?: ; (.*))?", line.strip()) for line in lines)
    return {(match[1].partition("[")[0], match[3]): match[2] for match in found if match}


@pytest.mark.parametrize("extra", EXTRAS)
def test_the_lock_of_an_extra_goes_with_the_lock_of_all(extra):
    ours, theirs = (pins(REPOSITORY / name) for name in ("requirements.txt", f"requirements-{extra}.txt"))
    shared = {key for key in ours if key in theirs}
    assert {key: ours[key] for key in shared} == {key: theirs[key] for key in shared} and len(shared) > 20
    assert WANTED[extra] in {name for name, _ in theirs}


def test_the_extras_are_those_with_locks():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert set(project["optional-dependencies"]) == {*EXTRAS, "test", "notebook", "heic", "export", "wandb"}
    assert {path.stem for path in REPOSITORY.glob("requirements-*.txt")} == {f"requirements-{name}" for name in EXTRAS}
