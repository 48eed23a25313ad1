"""The lessons run as they stand, each cell; their cells are short; the answers that they give are right."""

import time

import pytest
from launching import REPOSITORY, environment

import cnn_jax
from cnn_jax import exercises

LESSONS = sorted((REPOSITORY / "docs" / "lessons").glob("*.md"))
MINUTES = 2  # on two idle cores; three times that where others use them


def read(path):
    return pytest.importorskip("jupytext", reason="needs the extra docs: pip install '.[docs]'").read(path)


def code(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_a_lesson_runs(path, tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs the extra docs: pip install '.[docs]'")
    for name, value in environment(tmp_path / "cache", PYTHONPATH=str(REPOSITORY)).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    notebook = read(path)
    begun = time.perf_counter()
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    assert time.perf_counter() - begun < 3 * 60 * MINUTES
    outputs = [output for cell in code(notebook) for output in cell.outputs]
    said = "".join(output["text"] for output in outputs if output.get("name") == "stdout")
    complained = [output["text"] for output in outputs if output.get("name") == "stderr"]
    assert [line for line in complained if "IPKernelApp" not in line] == []
    number = path.name[0]
    ours = [name for name in exercises.EXERCISES if name.startswith(number)]
    assert len(ours) >= 5
    for name in ours:
        assert f"{name}: put your answer in place of the dots" in said and f"{name}: right" in said
    assert sum("image/png" in output.get("data", {}) for output in outputs) >= 5


@pytest.mark.slow
@pytest.mark.parametrize("path", LESSONS, ids=lambda path: path.stem)
def test_cells_are_short(path):
    """As long as a phone or a projector shows."""
    for cell in code(read(path)):
        lines = cell.source.splitlines()
        assert len(lines) <= 14 and max(map(len, lines)) <= 84, cell.source


def test_there_are_three_lessons():
    assert [path.name[0] for path in LESSONS] == ["1", "2", "3"]


@pytest.mark.parametrize("name", exercises.EXERCISES)
def test_an_exercise_tells_right_from_wrong(name, capsys):
    right = exercises.EXERCISES[name].answer()
    wrong = tuple(value + 1 for value in right) if isinstance(right, tuple) else right + 1
    exercises.check(name, right)
    exercises.check(name, wrong)
    exercises.check(name, "three")
    exercises.check(name, ...)
    first, *rest = capsys.readouterr().out.splitlines()
    assert "right" in first and [("not yet" in line or "dots" in line) for line in rest] == [True] * 3


def test_another_exercise_is_refused():
    with pytest.raises(cnn_jax.UserError, match="no exercise '9.9': they are 1.1"):
        exercises.check("9.9", 1)
