"""Trained networks in a file: the arrays, and in the file's metadata all that is needed to use them. Without jax.

A .safetensors file holds the arrays under their dotted names, such as "params.conv1.kernel", as float32 or float16, and
in its metadata, as JSON under "cnn_jax", what `About` says. Beside it lies a model card for people, in Markdown.
"""

import dataclasses
import hashlib
import json
import os
import shlex
import textwrap
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from cnn_jax import config, files
from cnn_jax.config import experiments, fields
from cnn_jax.data.identity import Identity
from cnn_jax.errors import UsageError, UserError

SUFFIX = ".safetensors"
ENTRY = "cnn_jax"  # of the metadata
FORMAT = 1
# Of an exported file, and how its name ends; of those that end alike the first is meant unless one is named.
FORMATS = {"cnn_jax": SUFFIX, "torchvision": SUFFIX, "stablehlo": ".stablehlo", "onnx": ".onnx"}


# What a model card tells its reader to do with the file.
USE = {
    SUFFIX: """\
python launch.py --mode=predict --init_from={name} --images=a.png
logits, maps = cnn_jax.load("{name}")(images)  # uint8 [N, height, width, channels]""",
    ".stablehlo": """\
program = jax.export.deserialize(bytearray(pathlib.Path("{name}").read_bytes()))
logits, probabilities = program.call(images)  # uint8 [N, height, width, channels]""",
    ".onnx": """\
session = onnxruntime.InferenceSession("{name}")
logits, probabilities = session.run(None, {{"images": images}})  # uint8 [N, height, width, channels]""",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class About:
    """What a weight file says of its network.

    Attributes:
      settings: those that it was trained with, without the places of its data.
      identity: its data, without their files.
      step: of the parameters.
      rule: why that step.
      commit: of the code that trained it; "" where that is not known.
      test: how many test images it was measured on, "examples", and what was found, as in results.json: "accuracy" (0
        to 1), "loss"; empty where it was not measured.
      note: what else a reader of the card must know, such as where the data come from.
    """

    settings: config.Config
    identity: Identity
    step: int
    rule: str
    commit: str = ""
    test: dict[str, float] = dataclasses.field(default_factory=dict)
    note: str = ""

    @property
    def title(self) -> str:
        """The name of its experiment."""
        return experiments.title(self.settings.experiment)

    def to_dict(self) -> dict[str, Any]:
        """Returns a dict of what JSON knows; no path of this machine is in it."""
        known = self.identity
        return {
            "format": FORMAT,
            "config": fields.to_dict(self.settings, places=False) | {"experiment": self.title},
            "data": {
                "name": known.name,
                "shape": known.shape,
                "class_names": known.class_names,
                "validated": known.validated,
            },
            **{name: getattr(self, name) for name in ("step", "rule", "commit", "test", "note")},
        }

    @classmethod
    def from_dict(cls, values: Mapping) -> "About":
        """Returns what `to_dict` made the dict from.

        Raises:
          ValueError: it is no such dict, or was written by a later version.
        """
        try:
            if values["format"] != FORMAT:
                raise ValueError(f"its format is {values['format']!r:.80}, and this version reads {FORMAT}")
            nothing: dict[str, Any] = {"files": {}, "splits": {}, "left_out": {}, "notes": [], "unreadable": {}}
            return cls(
                settings=config.from_dict(values["config"]),
                identity=Identity.from_dict(nothing | values["data"]),
                step=int(values["step"]),
                **{name: str(values[name]) for name in ("rule", "commit", "note")},
                test={str(name): float(value) for name, value in values["test"].items()},
            )
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"it does not say what the network is ({type(error).__name__}: {error})") from error


def about(path: Path) -> About | None:
    """Returns what a weight file says of its network; None where it is no file of this project's.

    Raises:
      UserError: it is damaged, or was written by a later version.
    """
    if path.suffix != SUFFIX:
        return None
    with files.on_disk(path) as near:
        said = _metadata(near).get(ENTRY)
    if said is None:
        return None
    try:
        return About.from_dict(json.loads(said))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be used: {files.reason(error)}") from error


def _metadata(path):
    try:
        with safetensors.safe_open(path, "numpy") as file:
            return file.metadata() or {}
    except Exception as error:  # whatever a damaged file makes of it
        raise UserError(f"{path} is not a readable {SUFFIX} file: {files.reason(error)}") from error


def read(path: Path) -> dict[str, np.ndarray]:
    """Returns the arrays of a .safetensors file by name.

    Raises:
      UserError: it cannot be read, or holds something else than floating-point numbers.
    """
    try:
        stored = safetensors.numpy.load_file(path)
    except Exception as error:  # types that NumPy lacks, and whatever a damaged file makes of the rest
        raise UserError(f"{path} is not a readable {SUFFIX} file: {files.reason(error)}") from error
    for name, tensor in stored.items():
        if tensor.dtype.kind != "f" and tensor.dtype.name != "bfloat16":
            raise UserError(f"{path}: {name} is of {tensor.dtype}; parameters are floating-point numbers")
    return stored


def check(
    path: Path, stored: Mapping[str, np.ndarray], wanted: Mapping[str, tuple[int, ...]], known: Iterable[str], hint: str
) -> None:
    """Refuses the arrays of a file that are not those of a network.

    Args:
      path: of the file, for the message.
      stored: its arrays, by name.
      wanted: the shapes of the arrays that are taken, by name.
      known: names that the file may have besides.
      hint: what the message ends with.

    Raises:
      UserError: arrays are missing, unexpected or of another shape, or numbers are not finite.
    """
    shapes = [
        f"{name} {list(stored[name].shape)}, not {list(shape)}"
        for name, shape in wanted.items()
        if name in stored and stored[name].shape != tuple(shape)
    ]
    faults = {
        "missing": sorted(wanted.keys() - stored.keys()),
        "unexpected": sorted(stored.keys() - wanted.keys() - set(known)),
        "of another shape": shapes,
    }
    if any(faults.values()):
        listed = "; ".join(f"{fault}: {', '.join(names)}" for fault, names in faults.items() if names)
        raise UserError(f"{path} does not fit the network. {listed}. {hint}")
    for name in wanted:
        if not np.isfinite(stored[name]).all():
            raise UserError(
                f"{path}: {name} holds numbers that are not finite; train the network that it was saved from anew"
            )


FRESH = "layers that differ are left out with --fresh=LAYER, such as --fresh=output"


def load(path: Path, wanted: Mapping[str, tuple[int, ...]], known: Iterable[str] = ()) -> dict[str, np.ndarray]:
    """Returns arrays of a weight file by name, as float32.

    Args:
      path: the file, on a disk.
      wanted: their shapes by name.
      known: names that the file may have besides.

    Raises:
      UserError: it is damaged, or is not of this network.
    """
    stored = read(path)
    check(path, stored, wanted, known, f"The network must be the one that was saved; {FRESH}")
    return {name: stored[name].astype(np.float32) for name in wanted}


def rounded(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Returns arrays as float16, half the size.

    Raises:
      UserError: a number is too large for it.
    """
    with np.errstate(over="ignore"):
        found = {name: np.asarray(array).astype(np.float16) for name, array in arrays.items()}
    too_large = [name for name, array in found.items() if not np.isfinite(array).all()]
    if too_large:
        raise UserError(f"{', '.join(too_large)} cannot be kept as float16, whose largest number is 65,504")
    return found


def format_of(path: str | os.PathLike, format: str = "") -> str:
    """Returns the format that a file is written in.

    Args:
      path: of the file.
      format: one of `FORMATS`; "": by the name of the file.

    Raises:
      UsageError: the name ends as that of no format, or of another one.
    """
    suffix = Path(os.fspath(path)).suffix
    fitting = [name for name, ending in FORMATS.items() if ending == suffix and format in ("", name)]
    if format not in ("", *FORMATS):
        raise UsageError(f"format = {format!r} must be one of {', '.join(FORMATS)}")
    if not fitting:
        endings = FORMATS[format] if format else ", ".join(dict.fromkeys(FORMATS.values()))
        raise UsageError(f"--out={path} must end in {endings}")
    return fitting[0]


def content(arrays: Mapping[str, np.ndarray], known: About) -> bytes:
    """Returns the content of a weight file.

    Args:
      arrays: parameters and statistics by dotted name, float32 or float16.
      known: what the file says of them.
    """
    metadata = {"format": "np", ENTRY: json.dumps(known.to_dict(), sort_keys=True)}
    return safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in arrays.items()}, metadata)


def save(path: str | os.PathLike, content: bytes, arrays: Mapping[str, np.ndarray], known: About) -> Path:
    """Writes a file and, as its name with .md, its model card; existing ones are replaced.

    Args:
      path: of the file.
      content: of the file.
      arrays: the network's parameters and statistics by dotted name.
      known: what there is to say of them.

    Returns:
      The path of the card.

    Raises:
      UserError: it cannot be written.
    """
    place = files.place(os.fspath(path), f"--out={path}")
    beside = place.with_name(f"{place.name}.md")
    text = card(place.name, content, arrays, known)
    try:
        files.replace(place, lambda file: file.write(content))
        files.write_text(beside, text)
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; choose another file with --out") from error
    return beside


def card(name: str, content: bytes, arrays: Mapping[str, np.ndarray], known: About) -> str:
    """Returns the model card of a file.

    Args:
      name: of the file.
      content: of the file.
      arrays: see `save`.
      known: likewise.
    """
    settings, identity = known.settings, known.identity
    count = sum(array.size for name, array in arrays.items() if name.startswith("params."))
    kinds = ", ".join(sorted({array.dtype.name for array in arrays.values()}))
    height, width, channels = identity.shape
    data = settings.data
    steps = [f"{height} x {width} pixels, {channels} channel{'s' * (channels > 1)}, 0 black to 255 white"]
    if data.size:
        steps.append(f"centred on a canvas of {data.size} x {data.size}")
    if data.crop:
        steps.append(f"its middle {data.crop} x {data.crop} cut out")
    steps.append(f"0 becomes {data.low:g}, 255 becomes {data.high:g}")
    if data.mean:
        steps.append(f"minus {', '.join(f'{value:g}' for value in data.mean)}")
    if data.std:
        steps.append(f"divided by {', '.join(f'{value:g}' for value in data.std)}")
    rows = {
        "network": f"{settings.model.name}, {count:,} parameters, {kinds}",
        "classes": ", ".join(identity.class_names),
        "an image": "; ".join(steps),
        "data": known.note or identity.name,
        "command": f"`python launch.py {shlex.join(experiments.words(settings))}`",
        "parameters of": f"step {known.step:,}, {known.rule}",
    }
    if known.commit:
        rows["code"] = f"commit {known.commit}"
    if known.test:
        examples = known.test["examples"]
        rows["test accuracy"] = f"{100 * known.test['accuracy']:.2f} % of {examples:,.0f} images"
    rows["SHA-256"] = f"`{hashlib.sha256(content).hexdigest()}`"
    rows["bytes"] = f"{len(content):,}"
    table = "\n".join(["| | |", "|---|---|", *(f"| {name} | {value} |" for name, value in rows.items())])
    summary = experiments.recipe(settings.experiment).partition("\n")[0]
    use = f"To use it:\n\n{textwrap.indent(USE[Path(name).suffix].format(name=name), '    ')}"
    return "\n\n".join(filter(None, [f"# {Path(name).stem}", summary, table, use])) + "\n"
