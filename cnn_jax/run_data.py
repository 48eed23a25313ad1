"""The data of a run or a study, remembered in its folder as data.json."""

import dataclasses
import json
import zlib
from pathlib import Path

from cnn_jax import config, files
from cnn_jax.data.datasets import source
from cnn_jax.data.identity import Identity
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.devices import processes
from cnn_jax.errors import UsageError

MOST_CLASSES = 20  # in the table of what was found


def stored(folder: Path) -> Identity | None:
    """Returns the data of the run or study in a folder; None where that is not known.

    A file that is damaged is named on standard error.
    """
    path = folder / "data.json"
    try:
        if not path.exists():
            return None
        values = files.read_json(path)
        if values.pop("checksum", None) != _checksum(values):
            raise ValueError("its checksum is wrong")
        return Identity.from_dict(values)
    except ValueError as error:
        damage = str(error).removeprefix(f"{path} is damaged: ")
        processes.log(f"{path} is damaged: {damage}; what lies there now counts as the data of the run")
        return None


def store(folder: Path, identity: Identity) -> None:
    """Writes data.json."""
    values = identity.to_dict()
    files.write_json(folder / "data.json", values | {"checksum": _checksum(values)})


def _checksum(values):
    """Of what is written: a bit that was flipped in it must not make other data of them."""
    return zlib.crc32(json.dumps(values, sort_keys=True).encode())


def same(folder: Path, data: config.Data) -> Identity | None:
    """Lets training begin or go on in a folder, with the data that it began with.

    Args:
      folder: of a run or study.
      data: which data, wherever they lie.

    Returns:
      What they are; None where they are not prepared yet.

    Raises:
      UsageError: they are others.
    """
    known = stored(folder)
    now = source.identity(data) if source.of(data).is_prepared() else None
    changed = known.differences(now) if known and now else []
    if changed:
        raise UsageError(
            f"{folder} was begun with other data than those that are there now:\n  "
            + "\n  ".join(changed)
            + "\nput them back, measure the network on these with --mode=eval, or train on them in another --workdir"
        )
    return known or now


def note_unreadable(folder: Path, *datasets: Dataset) -> None:
    """Adds to data.json which images of a run could not be decoded, and says how many there are."""
    found = {name: reason for each in datasets for name, reason in each.unreadable.items()}
    known = stored(folder) if found and processes.is_first() else None
    if known:
        every = known.unreadable | found
        processes.log(f"{len(every)} images could not be decoded; others of their class stood in: {folder}/data.json")
        store(folder, dataclasses.replace(known, unreadable=every))


def told(identity: Identity) -> list[str]:
    """Returns what was found in a folder of images, a line each; nothing of other data."""
    if not identity.splits:
        return []
    splits = identity.splits
    counts = identity.counts()
    width = max(len("class"), *map(len, identity.class_names[:MOST_CLASSES]))
    lines = [f"{'class':<{width}}  " + "  ".join(f"{split:>10}" for split in splits)]
    for name in identity.class_names[:MOST_CLASSES]:
        lines.append(f"{name:<{width}}  " + "  ".join(f"{counts[split].get(name, 0):>10,}" for split in splits))
    if len(identity.class_names) > MOST_CLASSES:
        lines.append(f"and {len(identity.class_names) - MOST_CLASSES:,} classes more")
    lines.append(f"{'all':<{width}}  " + "  ".join(f"{len(names):>10,}" for names in splits.values()))
    if identity.left_out:
        lines.append("left out: " + ", ".join(f"{what} ({count:,})" for what, count in identity.left_out.items()))
    return lines + identity.notes
