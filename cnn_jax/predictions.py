"""The answers of a network to some images, and the files that they are written to."""

import csv
import dataclasses
import io
import os

import numpy as np

from cnn_jax import files
from cnn_jax.data.images.pictures import Picture
from cnn_jax.errors import UserError

TABLES = (".csv", ".json")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Predictions:
    """The classes that a network gives some images.

    Attributes:
      probabilities: float32 [N, classes].
      class_names: of the classes.
      parameters: which ones of the run, in words.
      files: names of the image files; empty for arrays.
      pictures: the files as they were made ready; empty for arrays.
      unreadable: why other files could not be read, by name.
    """

    probabilities: np.ndarray
    class_names: tuple[str, ...]
    parameters: str
    files: tuple[str, ...] = ()
    pictures: tuple[Picture, ...] = ()
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def names(self) -> list[str]:
        """The most probable class of each image."""
        return [self.class_names[label] for label in self.probabilities.argmax(-1)]

    @property
    def changes(self) -> tuple[str, ...]:
        """What was done to each image file before, in words; empty for arrays."""
        return tuple(picture.changes for picture in self.pictures)

    def write_table(self, path: str | os.PathLike) -> None:
        """Writes the answers to image files: each file, its answer, and the probability of every class.

        Args:
          path: ends in .csv or .json; the latter also has what was done to each file, and which could not be read.

        Raises:
          UserError: it ends otherwise, or cannot be written.
        """
        path = files.place(os.fspath(path), f"--out={path}")
        if path.suffix not in TABLES:
            raise UserError(f"{path} must end in {' or '.join(TABLES)}")
        rows = []
        for file, name, row in zip(self.files, self.names, self.probabilities, strict=True):
            each = dict(zip(self.class_names, row.tolist()))
            rows.append(
                {
                    "file": files.printable(file),
                    "answer": name,
                    "probability": max(each.values()),
                    "probabilities": each,
                }
            )
        try:
            if path.suffix == ".csv":
                files.write_text(path, _csv(rows))
                return
            details = [{"changes": each.changes, "warnings": list(each.warnings)} for each in self.pictures]
            answers = [row | detail for row, detail in zip(rows, details, strict=True)]
            unreadable = {files.printable(name): reason for name, reason in self.unreadable.items()}
            files.write_json(path, {"parameters": self.parameters, "answers": answers, "unreadable": unreadable})
        except OSError as error:
            raise UserError(
                f"{path} cannot be written: {error.strerror or error}; choose another with --out"
            ) from error


def _csv(rows):
    text = io.StringIO()
    heads = [name for name in rows[0] if name != "probabilities"]
    table = csv.writer(text, lineterminator="\n")
    table.writerow([*heads, *rows[0]["probabilities"]])
    table.writerows([*(row[name] for name in heads), *row["probabilities"].values()] for row in rows)
    return text.getvalue()
