"""The live page, and the page on windows, which is also one of the site's."""

from pathlib import Path
from typing import Any

from cnn_jax.reports.page import page_template

HERE = Path(__file__).parent


def live(scene: dict[str, Any]) -> str:
    """Returns the live page as HTML.

    Args:
      scene: from `Scene.describe`.
    """
    return page_template("live.html.jinja", HERE).render(scene=scene)


def windows() -> str:
    """Returns the page on windows and padding as HTML, which stands by itself."""
    return page_template("windows.html.jinja", HERE).render()
