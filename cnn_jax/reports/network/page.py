"""A network as one HTML file, with no test set: filters, a reader's pictures on their way through it, layers."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cnn_jax.config import experiments
from cnn_jax.models.summary import Row, summarise
from cnn_jax.reports.network.collect import Followed, bitmaps, example, filters
from cnn_jax.reports.network.show import inside
from cnn_jax.reports.page import page_template, percent, write_page
from cnn_jax.reports.parts import Example, Filters
from cnn_jax.training.learner import Learner
from cnn_jax.training.state import Variables
from cnn_jax.weights import About


@dataclasses.dataclass(frozen=True, kw_only=True)
class Contents:
    """What the page shows; a `show.Network`.

    Attributes:
      title: of the network.
      summary: the first line of its recipe card; "" where there is none.
      facts: title, value and note of what is known of its weights.
    """

    title: str
    summary: str
    facts: list[tuple[str, str, str]]
    class_names: tuple[str, ...]
    layers: list[Row]
    filters: list[Filters]
    examples: list[Example]
    bitmaps: np.ndarray | None
    searched: int = 0


def write_network(
    path: str | os.PathLike, learner: Learner, variables: Variables, about: About, followed: Sequence[Followed]
) -> None:
    """Writes the page, wholly or not at all.

    Args:
      path: the HTML file.
      learner: the network.
      variables: its weights.
      about: what is known of them.
      followed: images to follow through the network.

    Raises:
      UserError: the file cannot be written.
    """
    facts = []
    if about.test:
        shown = percent(about.test["accuracy"], 2)
        facts = [("Test accuracy", shown, f"of {about.test['examples']:,.0f} images, as its weight file says")]
    contents = Contents(
        title=about.title,
        summary=experiments.recipe(about.settings.experiment).partition("\n")[0],
        facts=facts,
        class_names=learner.facts.class_names,
        layers=summarise(learner.model),
        filters=filters(learner, variables, np.zeros((0, *learner.facts.shape), np.uint8)),
        examples=[example(learner, variables, each) for each in followed],
        bitmaps=bitmaps(learner),
    )
    write_page(path, page_template("page.html.jinja", Path(__file__).parent).render(c=contents, **inside(contents)))
