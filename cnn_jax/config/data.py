"""The datasets, each with its settings, and what is made of their images. The classes that read them are in
data/datasets/."""

import dataclasses
import re
from typing import Any, Self

from cnn_jax.config.fields import Group, Kind, choice, setting


class DatasetKind(Kind):
    """Base of the datasets.

    Attributes:
      shape: height, width and channels of a stored image; None where files say it.
      classes: how many; None where files say it.
    """

    shape: Any = None
    classes: Any = None

    def passed_on(self, kind: Kind) -> dict[str, Any]:
        if not isinstance(kind, Folder) or isinstance(self, Folder):
            return {}
        # A network made for small images is given small ones when it is given a person's own; and these are not read by
        # the rules of a published set.
        size = {"side": self.shape[0]} if self.shape else {}
        return size | {"exif": kind.exif, "ground": kind.ground}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Digits(DatasetKind):
    """scikit-learn's 1,797 handwritten digits on the canvas of MNIST."""

    name = "digits"
    shape = (28, 28, 1)
    classes = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Mnist(DatasetKind):
    """Handwritten digits."""

    name = "mnist"
    shape = (28, 28, 1)
    classes = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class FashionMnist(DatasetKind):
    """Clothing in the format of MNIST."""

    name = "fashion_mnist"
    shape = (28, 28, 1)
    classes = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class Cifar10(DatasetKind):
    """Small colour photographs of ten kinds of things."""

    name = "cifar10"
    shape = (32, 32, 3)
    classes = 10


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Squares(DatasetKind):
    side: int = setting(256, low=8, high=4096)  # images are stored at this side, pixels

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width and channels of a stored image."""
        return (self.side, self.side, 3)


GROUNDS = ("white", "black", "none")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Encoded(DatasetKind):
    exif: bool = False  # whether images are turned as their EXIF data say; the recipes of 2012 and TFDS do not
    ground: str = setting("none", choices=GROUNDS)  # what transparent images are laid on, the other one where nothing
    # would show on it; none: transparency is dropped, and the colours below it show


@dataclasses.dataclass(frozen=True, kw_only=True)
class ImageNet(_Encoded, _Squares):
    """ILSVRC 2012."""

    name = "imagenet2012"
    classes = 1000


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tfds(_Encoded):
    """Any image set of TFDS with an image and a label, such as tfds:kmnist or tfds:emnist/letters."""

    name: str = "tfds:NAME"  # type: ignore[misc]  # NAME as in TFDS, with the configuration of a set that has several
    side: int = setting(256, low=8, high=4096)  # images that differ in size are stored at this side, pixels

    @classmethod
    def named(cls, text: str) -> Self | None:
        """Returns the declaration of any set of TFDS."""
        return cls(name=text) if re.fullmatch(r"tfds:\w+(/[\w.-]+)?", text) else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Folder(_Encoded):
    """A person's own images, a folder for each class."""

    name = "folder"
    path: str = setting("", identity=False)  # where the class folders lie
    side: int = setting(256, low=8, high=4096)  # images are stored at this side, pixels; where another dataset is
    # replaced by a folder, the side of its images
    channels: int = setting(0, choices=(0, 1, 3))  # of the stored images: 3, or 1 for shades of grey; 0: 1 where the
    # files are all in shades of grey, unless data.mean or data.std are of three colours
    exif: bool = True  # whether images are turned as their EXIF data say
    ground: str = setting("white", choices=GROUNDS)  # what transparent images are laid on, the other one where nothing
    # would show on it; none: transparency is dropped, and the colours below it show

    @property
    def shape(self) -> tuple[int, int, int] | None:
        """Height, width and channels of a stored image; None where the files say it."""
        return (self.side, self.side, self.channels) if self.channels else None


@dataclasses.dataclass(frozen=True, kw_only=True)
class Fake(_Squares):
    """Made-up images."""

    name = "fake"
    classes: int = setting(10, low=2, high=100_000)  # number of classes
    examples: int = setting(1000, low=1, high=10**7)  # training examples; a fifth as many test it


@dataclasses.dataclass(frozen=True, kw_only=True)
class RedGreen(DatasetKind):
    """A red and a green square, in one order or the other."""

    name = "red_green"
    shape = (32, 32, 3)
    classes = 2
    examples: int = setting(1000, low=1, high=10**7)  # training examples; a fifth as many test it


@dataclasses.dataclass(frozen=True, kw_only=True)
class Quadrants(DatasetKind):
    """A patch of noise in one of four places on black: the class is the place."""

    name = "quadrants"
    classes = 4
    border: int = setting(0, low=0, high=512)  # black pixels between the places and the edge of the image
    examples: int = setting(1000, low=1, high=10**7)  # training examples; a fifth as many test it

    @property
    def shape(self) -> tuple[int, int, int]:
        """Height, width, channels."""
        side = 32 + 2 * self.border
        return (side, side, 3)


DATASETS = (
    Digits,
    Mnist,
    FashionMnist,
    Cifar10,
    ImageNet,
    Tfds,
    Folder,
    Fake,
    RedGreen,
    Quadrants,
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(Group):
    """The images, where they lie, and what the network sees of them."""

    kind: DatasetKind = choice(DATASETS, Digits(), "name")
    data_dir: str = setting("", identity=False)  # prepared TFDS data; "": $TFDS_DATA_DIR, else ~/tensorflow_datasets
    manual_dir: str = setting("", identity=False)  # folder of downloaded files, for --mode=prepare
    validation: int = setting(
        0, low=0, high=10**9
    )  # training examples held out for selection, the same ones in every run
    limit: int = setting(0, low=0, high=10**9)  # use at most this many examples of each split; 0: all
    subsets: str = setting("digest", choices=("digest", "first"))  # what chooses the examples of these two, of
    # study.images, and of a folder's test images. digest: a digest of class and file name, class by class; first: those
    # that come first, and a folder's by their places in its list, as in runs begun before this setting existed
    size: int = setting(0, low=0, high=4096)  # side of the canvas an image is centred on, pixels; 0: as stored
    crop: int = setting(
        0, low=0, high=4096
    )  # side of the square cut from it, at random in training, else the centre; 0: all
    low: float = 0.0  # what black (0) becomes
    high: float = 1.0  # what white (255) becomes
    mean: tuple[float, ...] = ()  # then subtracted, one for each channel
    std: tuple[float, ...] = ()  # then divided by, one for each channel
    placement: str = setting(
        "auto", identity=False, choices=("auto", "device", "host", "stream")
    )  # see data/batches/feed.py
    workers: int = setting(
        0, identity=False, low=0, high=1024
    )  # threads or processes that decode; 0: one for each core
    decoders: str = setting("auto", identity=False, choices=("auto", "threads", "processes"))  # auto: processes on
    # Linux, from 8 cores on, for sets above 2 GiB decoded
    corrupt: int = setting(10, low=0, high=10**9)  # images that cannot be decoded before a run refuses to go on

    @property
    def name(self) -> str:
        """The dataset's name."""
        return self.kind.name


@dataclasses.dataclass(frozen=True, kw_only=True)
class Augment(Group):
    """Random changes of each training image, drawn anew at every step. All off by default."""

    shift: int = setting(
        0, low=0, high=512
    )  # whole pixels along each axis, uniform in [-shift, shift]; the edge fills with black
    flip: bool = False  # mirror left-right with probability 1/2
    rotation: float = setting(0.0, low=0.0, high=180.0)  # degrees, uniform in [-rotation, rotation]
    scale: float = setting(0.0, low=0.0, high=0.9)  # factor, uniform in [1 - scale, 1 + scale]
    shear: float = setting(0.0, low=0.0, high=1.0)  # horizontal shear, uniform in [-shear, shear] columns per row
    area: float = setting(0.0, low=0.0, high=1.0)  # crop: of a random area, uniform in [area, 1] of the image; 0: off
    aspect: float = setting(4 / 3, low=1.0, high=4.0)  # with area: width / height, log-uniform in [1 / aspect, aspect]
    pca: float = setting(0.0, low=0.0, high=10.0)  # noise along the principal components of ImageNet's colours: the
    # standard deviation of its normal numbers; 2012: 0.1
    pca_reading: str = setting("community", choices=("community", "2012"))  # community: they are multiplied by the
    # eigenvalues, as in fb.resnet.torch and since; 2012: as in the code of that year, by their square roots, the
    # standard deviations of the colours, and the normalised image is then divided by 1 + pca
    brightness: float = setting(0.0, low=0.0, high=1.0)  # factor, uniform in [1 - brightness, 1 + brightness]
    contrast: float = setting(0.0, low=0.0, high=1.0)  # likewise, about the mean grey of the image
    saturation: float = setting(0.0, low=0.0, high=1.0)  # likewise, between the image and its greyscale
    hue: float = setting(0.0, low=0.0, high=0.5)  # turn of the hue circle, uniform in [-hue, hue] of a full turn
    mixup: float = setting(0.0, low=0.0, high=100.0)  # blend pairs of images and labels; share from Beta(mixup, mixup)
    cutmix: float = setting(
        0.0, low=0.0, high=100.0
    )  # paste a box of another image, labels by area from Beta(cutmix, cutmix)
