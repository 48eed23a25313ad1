"""One run as one HTML file: no script, nothing fetched from elsewhere, the same bytes for the same contents."""

import math
import os
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from cnn_jax.errors import UserError
from cnn_jax.reports import figures
from cnn_jax.reports.run.contents import (
    Contents,
    Stage,
    calibration,
    recall_precision,
    settings,
    top_confusions,
    wilson,
)

PICTURES = 24  # mistakes shown
CHANNELS = 32  # maps shown of one layer
FILTERS = 96  # AlexNet's first layer, shown whole
MATRIX_CLASSES = 30  # a larger confusion matrix is unreadable; its most frequent mistakes are listed instead
BINS = 10  # of the reliability diagram
DIFF_LINES = 2000  # of uncommitted changes, printed per start


def write_report(path: str | os.PathLike, contents: Contents) -> None:
    """Writes the report, wholly or not at all.

    Args:
      path: the HTML file; its folder is made if missing, a file of that name replaced.
      contents: what to show.

    Raises:
      UserError: the file cannot be written.
    """
    write_page(path, render(contents))


def write_page(path: str | os.PathLike, text: str) -> None:
    """Writes an HTML file, wholly or not at all.

    Raises:
      UserError: the file cannot be written.
    """
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            temporary.write_text(text, encoding="utf-8", newline="\n")
            os.replace(temporary, path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UserError(
            f"cannot write the report {path}: {error.strerror or error}; "
            "choose a folder you may write to, with space left"
        ) from error


def render(contents: Contents) -> str:
    """The report as HTML text."""
    count = len(contents.labels)
    return page_template("report.html.jinja", Path(__file__).parent).render(
        c=contents,
        count=count,
        digits=min(3, max(0, math.ceil(math.log10(count)) - 2)),  # as many as one image can change
        interval=wilson(count - contents.errors, count),
        trained=_trained(contents),
        duration=duration(contents.seconds),
        recipe=paragraphs(contents.description),
        settings=setting_rows(contents.config),
        curves=_curves(contents),
        samples=_samples(contents),
        classes=_classes(contents),
        lowest=_lowest(contents),
        matrix=_matrix(contents) if len(contents.class_names) <= MATRIX_CLASSES else None,
        confusions=top_confusions(contents.confusion, 10),
        mistakes=[_answer(contents, index) for index in contents.mistakes(PICTURES)],
        doubtful=[_answer(contents, index) for index in contents.doubtful(PICTURES // 2)],
        reliability=_reliability(contents),
        filters=filter_pictures(contents.filters, FILTERS),
        stages=[stage_pictures(stage, CHANNELS) for stage in contents.stages],
        records=[record_rows(record) for record in contents.records],
    )


def page_template(name: str, folder: Path) -> jinja2.Template:
    """A page's template, which may include the parts that all reports share.

    Args:
      name: of the template.
      folder: where it lies.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader([folder, Path(__file__).parent]),
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
    """61,706 or 1.43 million."""
    for size, word in ((10**12, "trillion"), (10**9, "billion"), (10**6, "million")):
        if abs(number) >= size:
            return f"{number / size:.3g} {word}"
    return f"{number:,}"


def percent(value: float, digits: int = 1) -> str:
    """A share of 0 to 1 as "98.9%"; a dash for NaN. Only the whole is 100%, only nothing 0%."""
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
    """A CSS width: the part's share of the whole."""
    return f"{100 * part / whole if whole else 0:.2f}%"


def shape(sizes: tuple[int, ...]) -> str:
    """28 × 28 × 6, with narrow spaces that do not break."""
    return "\u202f×\u202f".join(f"{size:,}" for size in sizes)


def duration(seconds: float | None) -> str:
    """41.3 s, 3 min 20 s or 2 h 05 min; "" for None."""
    if seconds is None:
        return ""
    if seconds < 59.5:
        return f"{seconds:.3g} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60:,} h {minutes % 60:02d} min"


def paragraphs(text: str) -> list[tuple[str, str]]:
    """A docstring's paragraphs as (tag, text).

    Returns:
      "pre" for a paragraph with an indented line (a command, a table), line for line; "p" for any other, on one line.
    """
    found = []
    for block in "\n".join(line.rstrip() for line in text.strip("\n").splitlines()).split("\n\n"):
        lines = [line for line in block.splitlines() if line]
        if any(line[0].isspace() for line in lines):
            margin = min(len(line) - len(line.lstrip()) for line in lines)
            found.append(("pre", "\n".join(line[margin:] for line in lines)))
        elif lines:
            found.append(("p", " ".join(lines)))
    return found


def _trained(contents):
    last = max(contents.metrics, key=lambda row: row["step"], default={})
    step, epoch = max(last.get("step", 0), contents.checkpoint_step), last.get("epoch")
    return {"steps": step, "passes": "" if epoch is None else f"{epoch:.3g} passes over the data"}


def setting_rows(config: dict) -> list[tuple[str, str, str]]:
    """All settings as (name, value, default) in words, but the experiment's name, which is the title."""
    return [(name, _plain(value), _plain(default)) for name, value, default in settings(config) if name != "experiment"]


def _plain(value):
    if isinstance(value, tuple):
        return ", ".join(map(str, value)) or "()"
    return str(value) if value != "" else '""'


def _curves(contents):
    rates = {row["learning_rate"] for row in contents.metrics if row.get("learning_rate") is not None}
    constant = bool(rates) and max(rates) <= 1.0001 * min(rates)
    drawn = [("loss", "Loss"), ("accuracy", "Accuracy")] + [("learning_rate", "Learning rate")] * (not constant)
    figures = [
        (title, Markup(figures.curves(contents.metrics, quantity, contents.checkpoint_step, quantity)))
        for quantity, title in drawn
    ]
    return {
        "figures": [figure for figure in figures if figure[1]],
        "constant_rate": f"{min(rates):.6g}" if constant else "",
        "marked": 0 < contents.checkpoint_step <= max((row["step"] for row in contents.metrics), default=0),
        "held_out": any(row.get("split") != "train" for row in contents.metrics),
    }


def _samples(contents):
    """One image of each class, the first in the split."""
    occurring, first = np.unique(contents.labels, return_index=True)
    return [(contents.class_names[k], contents.images[i]) for k, i in zip(occurring, first)][:MATRIX_CLASSES]


def _classes(contents):
    recall, precision = recall_precision(contents.confusion)
    return [
        {
            "name": name,
            "count": int(contents.confusion[k].sum()),
            "missed": int(contents.confusion[k].sum() - contents.confusion[k, k]),
            "recall": float(recall[k]),
            "precision": float(precision[k]),
        }
        for k, name in enumerate(contents.class_names)
    ]


def _lowest(contents):
    """The lowest recall and precision, which the table points out; None where every class has all of it."""
    both = zip(("recall", "precision"), recall_precision(contents.confusion))
    return {name: None if np.nanmin(values) == 1 else float(np.nanmin(values)) for name, values in both}


def _matrix(contents):
    """Rows of (name, cells of (count, shade)); the shade is None on the diagonal and 0 where nothing was confused."""
    wrong = contents.confusion.copy()
    np.fill_diagonal(wrong, 0)
    most = max(1, wrong.max())
    shades = np.where(wrong > 0, 0.10 + 0.60 * np.sqrt(wrong / most), 0.0)
    rows = []
    for i, name in enumerate(contents.class_names):
        cells = zip(contents.confusion[i].tolist(), shades[i].tolist())
        rows.append((name, [(n, None if i == j else round(shade, 2)) for j, (n, shade) in enumerate(cells)]))
    return rows


def _answer(contents, index):
    answer, label = contents.predictions[index], contents.labels[index]
    return {
        "image": contents.images[index],
        "answer": contents.class_names[answer],
        "sure": float(contents.confidence[index]),
        "label": contents.class_names[label],
        "label_sure": float(np.nan_to_num(contents.probabilities[index, label])),
        "number": int(index),
    }


def _reliability(contents):
    bins, error = calibration(contents.confidence, contents.correct, BINS)
    return {
        "figure": Markup(figures.reliability(bins, "reliability")),
        "error": error,
        "confidence": float(contents.confidence.mean()),
    }


def filter_pictures(kernels: np.ndarray, most: int) -> dict:
    """The first layer as pictures: over RGB in colour, otherwise signed, with the input channels below each other.

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
    """A layer's maps as pictures, each with what pooling keeps of it, all on one scale.

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
    """A line of starts.jsonl, in words."""
    git = record.get("git") or {}
    diff = (git.get("diff") or "").splitlines()
    rows = [(key.replace("_", " "), _words(value)) for key, value in record.items() if key not in ("git", "time")]
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
