"""What the data of a run are: kept in its workdir, so that it neither goes on with others nor is measured on images
that it was trained on, and so that its classes are known where the images no longer are."""

import collections
import dataclasses
from collections.abc import Sequence

import numpy as np

from cnn_jax.data.facts import Facts
from cnn_jax.errors import UserError
from cnn_jax.files import printable

SHOWN = 3  # names in a message

Files = dict[str, tuple[int, str]]  # by name: bytes, and a digest of the content or ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Identity:
    """The data of a run; times and places are no part of it.

    Attributes:
      name: of the dataset.
      shape: height, width and channels of a stored image.
      class_names: what each label, from 0, stands for.
      validated: whether there are validation images of its own.
      files: by stored split, its files: of a folder the images, such as "cat/1.png", of a prepared set its shards,
        with a digest of their examples. Empty where the settings say everything. Digests are there below `LARGE`.
      splits: the names of the images of "train", "validation" and "test"; empty where examples have numbers alone.
      left_out: of a folder, what is no image or lies outside the class folders, in words, and how many.
      notes: what else is worth saying of them.
      unreadable: images that could not be decoded, and why, by name.
    """

    name: str
    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    validated: bool = False
    files: dict[str, Files] = dataclasses.field(default_factory=dict)
    splits: dict[str, list[str]] = dataclasses.field(default_factory=dict)
    left_out: dict[str, int] = dataclasses.field(default_factory=dict)
    notes: list[str] = dataclasses.field(default_factory=list)
    unreadable: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def facts(self) -> Facts:
        """The fixed properties of the data."""
        return Facts(self.shape, self.class_names, {}, "", exact=False, validated=self.validated)

    def part(self, split: str) -> str:
        """Returns the stored split that a split is taken from."""
        return split if split in self.files else "train"

    def rows(self, split: str, names: Sequence[str]) -> np.ndarray:
        """Returns where the images of a split stand in a list of names, ascending.

        Raises:
          UserError: some are not in it.
        """
        places = {name: row for row, name in enumerate(names)}
        gone = [name for name in self.splits[split] if name not in places]
        if gone:
            raise UserError(f"of the run's {split} images {_counted(gone, 'file')} cannot be found: put them back")
        return np.sort(np.array([places[name] for name in self.splits[split]], np.int64))

    def differences(self, now: "Identity") -> list[str]:
        """Returns how other data differ from these, a line each."""
        lines = []
        # ImageNet's classes are always the same; until November 2026 they were known by their ids.
        if not self.name == now.name == "imagenet2012":
            lines = [f"class {name} is gone" for name in self.class_names if name not in now.class_names]
            lines += [f"class {name} is new" for name in now.class_names if name not in self.class_names]
            if not lines and self.class_names != now.class_names:
                lines.append("the classes are in another order")
        if self.shape != now.shape:
            lines.append(f"images are stored as {'x'.join(map(str, now.shape))}, not {'x'.join(map(str, self.shape))}")
        for part in dict.fromkeys([*self.files, *now.files]):
            ours, theirs = self.files.get(part, {}), now.files.get(part, {})
            found = {
                "gone": [name for name in ours if name not in theirs],
                "added": [name for name in theirs if name not in ours],
                "changed": [name for name in ours if name in theirs and _differ(ours[name], theirs[name])],
            }
            said = [f"{_counted(names, 'file')} {what}" for what, names in found.items() if names]
            if said:
                lines.append(f"{part}: {'; '.join(said)}")
        return lines

    def check(self, split: str, now: dict[str, Files]) -> None:
        """Refuses images of a split that are no longer those of the run.

        Args:
          split: which.
          now: the files that are there, by stored split.

        Raises:
          UserError: some have another content.
        """
        part = self.part(split)
        ours, theirs = self.files.get(part, {}), now.get(part, {})
        names = self.splits.get(split, ours)
        changed = [name for name in names if name in theirs and _differ(ours[name], theirs[name])]
        if changed:
            raise UserError(
                f"of the run's {split} images {_counted(changed, 'file')} have another content: put them back"
            )

    def seen(self) -> tuple[set[str], set[str]]:
        """Returns the digests, and the names, of the images that the run was trained on or chosen by."""
        digests, names = set(), set()
        for split in ("train", "validation"):
            found = self.files.get(self.part(split), {})
            for name in self.splits.get(split, ()):
                names.add(name)
                digests.add(found.get(name, (0, ""))[1])
        return digests - {""}, names

    def counts(self) -> dict[str, dict[str, int]]:
        """Returns how many images of each class a split has, by split and class."""
        of = lambda names: collections.Counter(printable(name.partition("/")[0]) for name in names)
        return {split: dict(of(names)) for split, names in self.splits.items()}

    def to_dict(self) -> dict:
        """Returns a dict of what JSON knows."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> "Identity":
        """Returns what `to_dict` made the dict from.

        Raises:
          ValueError: it is no such dict.
        """
        try:
            files = {
                str(part): {str(name): (int(size), str(digest)) for name, (size, digest) in found.items()}
                for part, found in values["files"].items()
            }
            height, width, channels = map(int, values["shape"])
            return cls(
                name=str(values["name"]),
                shape=(height, width, channels),
                class_names=tuple(map(str, values["class_names"])),
                validated=bool(values["validated"]),
                files=files,
                splits={str(split): [*map(str, names)] for split, names in values["splits"].items()},
                left_out={str(what): int(count) for what, count in values["left_out"].items()},
                notes=[*map(str, values["notes"])],
                unreadable={str(name): str(reason) for name, reason in values["unreadable"].items()},
            )
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            raise ValueError(f"it does not say what the data are ({type(error).__name__}: {error})") from error


def _differ(ours, theirs):
    """Tells whether two files differ, by their bytes and, where both were made in the same way, their digests."""
    kinds = {digest.rpartition(":")[0] for _, digest in (ours, theirs)}  # of prepared sets, of examples or, once, bytes
    known = ours[1] and theirs[1] and len(kinds) == 1
    return ours[0] != theirs[0] or bool(known) and ours[1] != theirs[1]


def _counted(names, what):
    """Such as "2 files (cat/1.png, cat/2.png)"; `what` in the singular."""
    some = ", ".join(map(printable, names[:SHOWN])) + ", ..." * (len(names) > SHOWN)
    return f"{len(names):,} {what}{'s' * (len(names) != 1)} ({some})"
