"""The fixed properties of a dataset, known before an image is read. Imports nothing heavy."""

import dataclasses


@dataclasses.dataclass(frozen=True)
class Files:
    """The published files of a dataset that has to be fetched once.

    Attributes:
      url: where its authors, or the mirror TFDS uses, publish them; ends in a slash.
      megabytes: size of all of them together.
      sha256: checksum of each file, by file name.
      unpacked: whether the checksum is of the decompressed bytes. Copies of MNIST in circulation were compressed
        anew, so only what is inside them can be compared.
    """

    url: str
    megabytes: int
    sha256: dict[str, str]
    unpacked: bool


@dataclasses.dataclass(frozen=True)
class Facts:
    """The fixed properties of a dataset.

    Attributes:
      shape: height, width and channels of an image as the project keeps it.
      class_names: what each label, from 0, stands for.
      splits: examples in each stored split.
      version: version of the TFDS dataset.
      files: what it is prepared from; None where nothing has to be fetched.
      tested: the stored split that is the project's "test".
      exact: whether every image is stored at that shape. Of others the square from the middle is taken and scaled.
      validated: whether it has validation images of its own.
    """

    shape: tuple[int, int, int]
    class_names: tuple[str, ...]
    splits: dict[str, int]
    version: str
    files: Files | None = None
    tested: str = "test"
    exact: bool = True
    validated: bool = False

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.class_names)
