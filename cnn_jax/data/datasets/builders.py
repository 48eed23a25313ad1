"""TFDS builders that write what the stock TFDS classes read, without TensorFlow.

`mnist`, `fashion_mnist` and `cifar10` have the name, version, features and supervised keys of TFDS's own, so that
`tfds.data_source("mnist", data_dir=...)` reads them; `digits` is scikit-learn's set of 8x8 digits on MNIST's canvas.
Images are encoded by Pillow: handed an array, TFDS would import TensorFlow to encode it.
"""

import contextlib
import io
from pathlib import Path

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from cnn_jax import randomness
from cnn_jax.data import subsets
from cnn_jax.data.datasets import catalog

Arrays = dict[str, tuple[np.ndarray, np.ndarray]]

DIGIT_SIDE = 20  # pixels; MNIST's own digits were fitted into 20x20 and centred on 28x28 (LeCun et al. 1998, III.A)
DIGITS_MAXIMUM = 16  # load_digits counts ink in 4x4 blocks


class _LabelledImages(tfds.core.GeneratorBasedBuilder, skip_registration=True):
    """Labelled images that are already in memory.

    Args:
      arrays: split name to (uint8 images [N, H, W, C], labels [N]).
      data_dir: root of the prepared datasets.
    """

    HAS_ID = False  # whether examples carry their number as a text

    def __init__(self, *, arrays: Arrays, data_dir: str):
        self._arrays = arrays
        super().__init__(data_dir=data_dir)

    def _info(self):
        facts = catalog.DATASETS[self.name]
        features = {
            "image": tfds.features.Image(shape=facts.shape),
            "label": tfds.features.ClassLabel(names=facts.class_names),
        }
        if self.HAS_ID:
            features["id"] = tfds.features.Text()
        return tfds.core.DatasetInfo(
            builder=self,
            description=self.__doc__,
            features=tfds.features.FeaturesDict(features),
            supervised_keys=("image", "label"),
            homepage=self.HOMEPAGE,
        )

    def _split_generators(self, dl_manager):
        return {split: self._generate_examples(split, *arrays) for split, arrays in self._arrays.items()}

    def _generate_examples(self, split, images, labels):
        for index, (image, label) in enumerate(zip(images, labels, strict=True)):
            encoded = io.BytesIO()
            Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image).save(encoded, "png")
            encoded.seek(0)
            named = {"id": f"{split}_{index:05d}"} if self.HAS_ID else {}
            yield index, {"image": encoded, "label": int(label)} | named


class Mnist(_LabelledImages, skip_registration=True):
    """The MNIST database of handwritten digits."""

    name = "mnist"
    VERSION = tfds.core.Version(catalog.DATASETS["mnist"].version)
    HOMEPAGE = "http://yann.lecun.com/exdb/mnist/"


class FashionMnist(_LabelledImages, skip_registration=True):
    """Fashion-MNIST: Zalando's article images in the format of MNIST."""

    name = "fashion_mnist"
    VERSION = tfds.core.Version(catalog.DATASETS["fashion_mnist"].version)
    HOMEPAGE = "https://github.com/zalandoresearch/fashion-mnist"


class Digits(_LabelledImages, skip_registration=True):
    """The 1,797 handwritten digits of scikit-learn, enlarged to the canvas of MNIST."""

    name = "digits"
    VERSION = tfds.core.Version(catalog.DATASETS["digits"].version)
    HOMEPAGE = "https://archive.ics.uci.edu/dataset/80/optical+recognition+of+handwritten+digits"


class Cifar10(_LabelledImages, skip_registration=True):
    """CIFAR-10: 60,000 colour photographs of ten kinds of things."""

    name = "cifar10"
    VERSION = tfds.core.Version(catalog.DATASETS["cifar10"].version)
    HOMEPAGE = "https://www.cs.toronto.edu/~kriz/cifar.html"
    HAS_ID = True


BUILDERS = {builder.name: builder for builder in (Mnist, FashionMnist, Digits, Cifar10)}


def digits_arrays() -> Arrays:
    """scikit-learn's digits as MNIST would show them, in a fixed stratified split.

    Each 8x8 image is enlarged to 20x20 by bicubic interpolation and centred on 28x28.

    Returns:
      Split name to (uint8 images [N, 28, 28, 1], int64 labels [N]): 1,437 for training and 360 for testing.
    """
    from sklearn.datasets import load_digits  # a second to import, needed once per data_dir

    bunch = load_digits()
    facts = catalog.DATASETS["digits"]
    small = np.round(bunch.images * (255 / DIGITS_MAXIMUM)).astype(np.uint8)
    images = np.zeros((len(small), *facts.shape), np.uint8)
    margin = (facts.shape[0] - DIGIT_SIDE) // 2
    inner = slice(margin, margin + DIGIT_SIDE)
    for canvas, image in zip(images, small):
        canvas[inner, inner, 0] = Image.fromarray(image).resize((DIGIT_SIDE, DIGIT_SIDE), Image.Resampling.BICUBIC)
    digests = subsets.digests_of_numbers(len(bunch.target), randomness.DIGITS_TEST_SPLIT)
    test = subsets.stratified(bunch.target, facts.splits["test"], digests)
    train = np.setdiff1d(np.arange(len(images)), test)
    return {split: (images[chosen], bunch.target[chosen]) for split, chosen in (("train", train), ("test", test))}


def build(name: str, data_dir: str | Path, arrays: Arrays) -> None:
    """Writes a dataset as ArrayRecord, unless its folder exists.

    The folder appears under its name only once it is complete, so processes that build at the same time do no harm:
    the first to finish wins.

    Args:
      name: dataset, one of BUILDERS.
      data_dir: root of the prepared datasets; the files go to <data_dir>/<name>/<version>.
      arrays: split name to (uint8 images [N, H, W, C], labels [N]).

    Raises:
      OSError: the folder cannot be written.
    """
    tfds.disable_progress_bar()
    builder = BUILDERS[name](arrays=arrays, data_dir=str(data_dir))
    settings = tfds.download.DownloadConfig(try_download_gcs=False)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # TFDS announces a download that does not take place
            builder.download_and_prepare(download_config=settings, file_format="array_record")
    except OSError:
        if not (Path(builder.data_dir) / "dataset_info.json").is_file():
            raise
