"""Builds every table and figure of this folder anew, from the rows of each arm and seed that are kept.

    python docs/results/rebuild.py

Each folder has a study's study.json and results.csv, as the study wrote them, and of one with a sweep its sweep.csv.
From these are written summary.csv (without McNemar's tests, which need the answers to each image), figures.csv,
comparisons.csv, table.tex, differences.svg and seeds.svg: the same bytes every time.
"""

import pathlib
import sys

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent.parent))

from cnn_jax import workdir  # noqa: E402
from cnn_jax.reports import figures  # noqa: E402
from cnn_jax.reports.study import plots  # noqa: E402
from cnn_jax.studies import results  # noqa: E402

DIGITS = 2  # after the point of an accuracy in %, of 10,000 test images


def main() -> None:
    """Builds all folders that have a study."""
    for folder in sorted(path.parent for path in HERE.glob("*/study.json")):
        rebuild(folder)
        print(folder.relative_to(HERE))


def rebuild(folder: pathlib.Path) -> None:
    """Builds what is derived in one folder."""
    study = workdir.stored_study(folder)
    assert study is not None
    found = results.from_table(study, folder / "results.csv")
    for name, text in results.written(found, results.FOLLOWING).items():
        (folder / name).write_text(text, encoding="utf-8")
    accuracy = {each.arm.name: 100 * each.accuracy for each in found.arms}
    drawn = {
        "differences": plots.forest(found.comparisons, DIGITS, "forest"),
        "seeds": plots.strip(accuracy, study.references, "accuracy, %", DIGITS, "strip"),
    }
    for name, svg in drawn.items():
        (folder / f"{name}.svg").write_text(figures.alone(svg), encoding="utf-8")


if __name__ == "__main__":
    main()
