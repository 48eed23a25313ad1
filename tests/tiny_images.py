"""Small photographs-to-be in the forms that large datasets come in, for tests."""

import io
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from cnn_jax.data.datasets import imagenet

SIZES = ((48, 64), (64, 40), (33, 33), (90, 51), (40, 41))  # height, width


def photo(seed: int) -> Image.Image:
    """A smooth random picture, RGB, of one of `SIZES`."""
    height, width = SIZES[seed % len(SIZES)]
    small = np.random.default_rng(seed).integers(0, 256, (5, 6, 3), np.uint8)
    return Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)


def encoded(image: Image.Image, kind: str = "jpeg") -> bytes:
    """The picture as a file."""
    file = io.BytesIO()
    image.save(file, kind, **({"quality": 92} if kind == "jpeg" else {}))
    return file.getvalue()


def write_class_folders(folder: Path, counts: dict[str, int], seed: int = 0) -> None:
    """JPEGs in one folder for each class; a name may have slashes, such as "train/cat"."""
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for number in range(count):
            seed += 1
            (folder / name / f"{number:03d}.jpg").write_bytes(encoded(photo(seed)))


def write_imagenet(folder: Path, train: int = 30, validation: int = 6, classes: int = 10) -> dict:
    """Miniatures of ImageNet's two official archives, with a PNG, a CMYK and a greyscale image among them.

    Args:
      folder: for the archives; created.
      train: training images, dealt to the first classes.
      validation: validation images, whose classes follow from their number.
      classes: how many of the classes.

    Returns:
      Split name to file name to content.
    """
    folder.mkdir(parents=True, exist_ok=True)
    contents = {"train": {}, "validation": {}}
    for number in range(train):
        name = f"{imagenet.synsets()[number % classes]}_{number + 1}.JPEG"
        contents["train"][name] = encoded(photo(number))
    names = list(contents["train"])
    contents["train"][names[1]] = encoded(photo(1), "png")
    contents["train"][names[2]] = encoded(photo(2).convert("CMYK"))
    contents["train"][names[3]] = encoded(photo(3).convert("L"))
    for number in range(validation):
        contents["validation"][f"ILSVRC2012_val_{number + 1:08d}.JPEG"] = encoded(photo(1000 + number))
    inner = {}
    for synset in imagenet.synsets()[:classes]:
        inner[f"{synset}.tar"] = tar({k: v for k, v in contents["train"].items() if k.startswith(synset)})
    (folder / "ILSVRC2012_img_train.tar").write_bytes(tar(inner))
    (folder / "ILSVRC2012_img_val.tar").write_bytes(tar(contents["validation"]))
    return contents


def tar(members: dict[str, bytes]) -> bytes:
    """An archive of files, by name."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return file.getvalue()
