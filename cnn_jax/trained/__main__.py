"""Makes one of the networks that are already trained: its parameters as float16, measured on the test images as such.

python -m cnn_jax.trained WORKDIR NAME --note="MNIST, http://..., 60,000 images"
"""

import argparse
import contextlib
import dataclasses

import numpy as np

from cnn_jax import api, run, run_data, trained, weights
from cnn_jax.errors import UserError
from cnn_jax.training.state import named_leaves


def make(folder: str, name: str, note: str) -> str:
    """Writes the weight file and its card; returns how many of the test images it gets right, in words.

    Args:
      folder: workdir of the run, whose test images are there.
      name: what --init_from will call it.
      note: where its data come from.

    Raises:
      UserError: there is no such run, or no data.
    """
    this = api.Run(workdir=folder)
    with contextlib.closing(this.learner.checkpoints(this.folder)) as checkpoints:
        variables, step, rule = this.learner.chosen(checkpoints)
    arrays = weights.rounded({name: np.asarray(leaf) for name, leaf in named_leaves(variables).items()})
    known = run.about(this.settings, this.folder, run_data.stored(this.folder), step, rule)
    known = dataclasses.replace(known, note=note, test={})
    path = trained.path(name)
    weights.save(path, weights.content(arrays, known), arrays, known)
    found = {name: value for name, value in this.evaluate(init_from=str(path)).items() if np.ndim(value) == 0}
    test = {name: float(value) for name, value in found.items() if value is not None}
    known = dataclasses.replace(known, test={"examples": len(this.dataset().labels)} | test)
    card = weights.save(path, weights.content(arrays, known), arrays, known)
    return f"{card}: {100 * test['accuracy']:.2f} % of {known.test['examples']:,} test images right"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workdir")
    parser.add_argument("name")
    parser.add_argument("--note", default="", help="where the data come from")
    asked = parser.parse_args()
    try:
        print(make(asked.workdir, asked.name, asked.note))
    except UserError as error:
        parser.exit(error.exit_code, f"error: {error}\n")
