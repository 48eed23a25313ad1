"""What the pages and the recipe cards tell a person to type is understood, and what they name is there."""

import dataclasses
import re
import shlex

import pytest
from launching import REPOSITORY

from cnn_jax import cli, trained, weights
from cnn_jax import launch as program
from cnn_jax.config import experiments, overrides
from cnn_jax.models import torchvision

# Settings.md is made from the code, and add_your_own.md and python.md have tests of their own.
PLACES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
PAGES = {str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8") for path in PLACES}
README = "\n".join(PAGES[name] for name in PAGES if name not in ("docs/settings.md", "docs/add_your_own.md"))


def lines(text):
    """The lines of indented blocks, those that go on joined, without comments."""
    blocks = re.sub(r"\s*\\\n\s*", " ", "\n".join(re.findall(r"(?:^ {4}.*\n)+", text, re.MULTILINE)))
    return [line.split("  #")[0].strip() for line in blocks.splitlines() if line.strip()]


CARDS = [
    line for name in experiments.names() for line in re.findall(r"python launch\.py.*", experiments.docstring(name))
]
TABLES = re.findall(r"^\| `(python launch\.py[^`]*)` \|", README, re.MULTILINE)
COMMANDS = [line for line in lines(README) if "launch.py" in line] + TABLES + CARDS
BENCHMARKS = [line for line in lines(README) if line.startswith("python benchmarks/")]


def test_commands_were_found():
    assert len(CARDS) >= len(experiments.names()) and len(COMMANDS) > len(CARDS) + 10 and len(BENCHMARKS) >= 3


@pytest.mark.parametrize("line", COMMANDS)
def test_a_command_is_understood(line, monkeypatch, tmp_path):
    """Flags, experiment and settings; what would train or read a run is only looked at."""
    seen = []
    for place in ("train/A", "train/B", "val/A", "val/B"):
        picture = tmp_path / "FOLDER" / place / "one.jpg"
        picture.parent.mkdir(parents=True)
        picture.touch()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "main", seen.append)
    monkeypatch.setattr("sys.argv", shlex.split(line[line.index("launch.py") :]))
    program.main()
    for name in program.FLAGS:
        program.FLAGS[name].unparse()
    (asked,) = seen
    several = asked.mode in ("compare", "explore") and asked.runs
    alone = several or asked.mode == "devices" and not asked.experiment  # without settings
    if asked.list or asked.experiment == "NAME" or alone:
        return
    if not asked.experiment and asked.init_from:  # what it names says which
        known = asked.init_from in trained.names() and weights.about(trained.path(asked.init_from))
        assert known or torchvision.looks_like_torch(asked.init_from)
        asked = dataclasses.replace(asked, experiment=known.title if known else torchvision.EXPERIMENT)
    asked = dataclasses.replace(asked, mode="summary", images=[], out=None, init_from=None, fresh=[], profile=False)
    settings, *_ = cli.check(asked)
    assert settings.experiment == asked.experiment


@pytest.mark.parametrize("line", [line for line in lines(README) if line.startswith("--set")])
def test_settings_on_lines_of_their_own_are_sound(line):
    specs = [word for word in shlex.split(line) if word != "--set"]
    overrides.apply(experiments.load("lenet_mnist"), specs)


@pytest.mark.parametrize("line", BENCHMARKS)
def test_a_benchmark_has_its_flags(line):
    _, script, *words = shlex.split(line)
    source = (REPOSITORY / script).read_text(encoding="utf-8")
    flags = {word.split("=")[0] for word in words if word.startswith("--")}
    assert [flag for flag in flags if f'"{flag}"' not in source] == []


def test_what_is_named_is_there():
    targets = re.findall(r"^([a-z]+):", (REPOSITORY / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    named = set(re.findall(r"(?:^    |`)make (?:[A-Z]+=[\w.]+ )?([a-z]+)", README, re.MULTILINE))
    assert {"demo", "test"} <= named <= set(targets)
    table = set(re.findall(r"`(\w+)`", "\n".join(line for line in README.splitlines() if line.startswith("| `"))))
    assert [name for name in experiments.names() if name not in table] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page):
    here = (REPOSITORY / page).parent
    links = [link for link in re.findall(r"\]\(([^)#\s]+)", PAGES[page]) if "://" not in link]
    assert [link for link in links if not (here / link).exists()] == []
    paths = re.findall(r"`((?:cnn_jax|benchmarks|scripts|experiments|tests)/[\w./]*)`", PAGES[page])
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


def test_every_page_is_reached_from_the_first():
    seen, waiting = set(), ["README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page not in PAGES:
            continue
        seen.add(page)
        folder = (REPOSITORY / page).parent
        links = re.findall(r"\]\(([^)#\s]+\.md)", PAGES[page])
        waiting += [str((folder / link).resolve().relative_to(REPOSITORY)) for link in links if "://" not in link]
    assert seen == set(PAGES) - {"docs/index.md"}  # the first page of the site that `make docs` makes


def test_the_first_page_is_short():
    assert len(PAGES["README.md"].splitlines()) < 100
