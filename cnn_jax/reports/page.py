"""The parts that all reports share: the page, numbers in words, and pictures of filters, maps, settings and records."""

import math
import os
from pathlib import Path

import jinja2
import numpy as np

from cnn_jax import files
from cnn_jax.errors import UserError
from cnn_jax.reports import figures
from cnn_jax.reports.parts import Stage, settings

DIFF_LINES = 2000  # of uncommitted changes, printed per start
APART = ("git", "time", "config")  # of a record: shown elsewhere; the settings stand in full in the recipe


def write_page(path: str | os.PathLike, text: str) -> None:
    """Writes an HTML file, wholly or not at all.

    Raises:
      UserError: the file cannot be written.
    """
    path = files.place(os.fspath(path), f"the report {path}")
    try:
        files.make_folder(path.parent)
        files.write_text(path, text)
    except OSError as error:
        raise UserError(
            f"cannot write the report {path}: {error.strerror or error}; "
            "choose a folder you may write to, with space left"
        ) from error


def page_template(name: str, *folders: Path) -> jinja2.Template:
    """Returns a page's template, which may include the parts that all reports share.

    Args:
      name: of the template.
      folders: where it lies, and what it includes.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([*folders, Path(__file__).parent]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters |= {
        "large": large,
        "number": "{:,}".format,
        "percent": percent,
        "picture": figures.picture,
        "shape": shape,
        "share": share,
    }
    environment.globals |= {"colours": figures.COLOURS, "signed": ", ".join(figures.SIGNED)}
    return environment.get_template(name)


def large(number: int) -> str:
    """Writes 61,706 or 1.43 million."""
    for size, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if abs(number) >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,}"


def percent(value: float, digits: int = 1) -> str:
    """Returns a share of 0 to 1 as "98.9%"; a dash for NaN. Only the whole is 100%, only nothing 0%."""
    if math.isnan(value):
        return "–"
    step = 10.0**-digits
    shown = 100 * value
    if 0 < shown < step / 2:
        return f"<{step:.{digits}f}%"
    if 100 - step / 2 <= shown < 100:
        return f">{100 - step:.{digits}f}%"
    return f"{shown:.{digits}f}%"


def share(part: float, whole: float) -> str:
    """Returns a CSS width: the part's share of the whole."""
    return f"{100 * part / whole if whole else 0:.2f}%"


def shape(sizes: tuple[int, ...]) -> str:
    """Writes 28 × 28 × 6, with narrow spaces that do not break."""
    return "\u202f×\u202f".join(f"{size:,}" for size in sizes)


def paragraphs(text: str) -> list[tuple[str, str]]:
    """Returns a docstring's paragraphs as (tag, text).

    Returns:
      "pre" for a paragraph with an indented line (a command, a table), line for line; "p" for any other, on one line.
      Where lines of a paragraph begin with a title and hold a command, each is a paragraph of its own.
    """
    found = []
    for block in "\n".join(line.rstrip() for line in text.strip("\n").splitlines()).split("\n\n"):
        lines = [line for line in block.splitlines() if line]
        if any(line[0].isspace() for line in lines):
            margin = min(len(line) - len(line.lstrip()) for line in lines)
            found.append(("pre", "\n".join(line[margin:] for line in lines)))
        elif any("launch.py" in line for line in lines):
            found += [("p", line) for line in lines]
        elif lines:
            found.append(("p", " ".join(lines)))
    return found


def without_command(card: list[tuple[str, str]]) -> list[tuple[str, str]]:
    """Returns a recipe card's paragraphs but for the plain command, which a report shows as it was typed."""
    return [(tag, text) for tag, text in card if not text.startswith("Command: ")]


def setting_rows(config: dict) -> list[tuple[str, str, str]]:
    """Returns all settings as (name, value, default) in words, but the experiment's name, which is the title."""
    return [(name, _plain(value), _plain(default)) for name, value, default in settings(config) if name != "experiment"]


def _plain(value):
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "()"
    return str(value) if value != "" else '""'


def filter_pictures(kernels: np.ndarray, most: int) -> dict:
    """Draws the first layer as pictures: over RGB in colour, otherwise signed, with input channels below each other.

    Args:
      kernels: [height, width, inputs, outputs].
      most: filters drawn.
    """
    limit = float(np.max(np.abs(np.nan_to_num(kernels)), initial=0.0))
    height, width, inputs, count = kernels.shape
    shown = kernels[..., :most]
    colour = inputs == 3
    if colour:
        drawn = [figures.colour_picture(shown[..., k], limit) for k in range(shown.shape[-1])]
    else:
        stacked = shown.transpose(3, 2, 0, 1).reshape(-1, inputs * height, width)
        drawn = [figures.signed_picture(kernel, limit) for kernel in stacked]
    return {"pictures": drawn, "limit": limit, "count": count, "colour": colour, "size": (height, width, inputs)}


def stage_pictures(stage: Stage, most: int) -> dict:
    """Returns a layer's maps as pictures, each with what pooling keeps of it, all on one scale.

    Args:
      stage: the layer.
      most: maps drawn.
    """
    both = [stage.maps] if stage.pooled is None else [stage.maps, stage.pooled]
    limit = max(float(np.max(np.abs(np.nan_to_num(maps)), initial=0.0)) for maps in both)
    strip = stage.pooled is None and stage.maps.shape[:2] == (1, 1)
    if strip:
        both = [stage.maps.reshape(1, -1, 1)]  # maps of one pixel: all of them in one picture
    channels = both[0].shape[-1]
    pictures = [[figures.signed_picture(maps[..., k], limit) for maps in both] for k in range(min(channels, most))]
    return {
        "name": stage.name,
        "pooling": stage.pooling,
        "sizes": [stage.maps.shape] + ([] if stage.pooled is None else [stage.pooled.shape]),
        "limit": limit,
        "pictures": pictures,
        "hidden": channels > most,
        "strip": strip,
    }


def record_rows(record: dict) -> dict:
    """Returns a line of starts.jsonl, in words."""
    git = record.get("git") or {}
    diff = (git.get("diff") or "").splitlines()
    rows = [(key.replace("_", " "), _words(value)) for key, value in record.items() if key not in APART]
    return {
        "time": str(record.get("time") or ""),
        "commit": str(git.get("commit") or ""),
        "dirty": bool(git.get("dirty")),
        "rows": [row for row in rows if row[1]],
        "diff": "\n".join(diff[:DIFF_LINES]),
        "hidden_lines": max(0, len(diff) - DIFF_LINES),
    }


def _words(value):
    if isinstance(value, dict):
        return ", ".join(f"{key} {_words(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_words, value))
    return "" if value is None else str(value)
