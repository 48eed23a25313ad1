"""Accuracy on corrupted test images, by kind and severity (in the manner of MNIST-C and CIFAR-10-C)."""

import dataclasses
import functools
import io
from collections.abc import Callable, Mapping

import numpy as np
from PIL import Image
from scipy import ndimage, special, stats

from cnn_jax import randomness
from cnn_jax.studies.measurements.base import Column, Context, Measurement, Result, Section
from cnn_jax.studies.measurements.figures import Curves, Figure, LayerTable
from cnn_jax.studies.measurements.shifts import accuracy, shifted

WHITE = 255
COLOUR_OF_SPATTER = 200  # grey, 0 to 255


class Draws:
    """Uniform random numbers that depend on the kind of corruption alone, the same for every severity and arm."""

    def __init__(self, kind: str):
        self._part = randomness.CORRUPTIONS + list(KINDS).index(kind)

    def uniform(self, *shape: int) -> np.ndarray:
        """Numbers between 0 and 1, both left out."""
        words = randomness.words(0, randomness.MEASUREMENT, int(np.prod(shape)), self._part)
        return ((words >> np.uint64(11)).astype(np.float64).reshape(shape) + 0.5) / 2.0**53

    def signs(self, *shape: int) -> np.ndarray:
        """Draws -1 or 1."""
        return np.where(self.uniform(*shape) < 0.5, -1, 1)


def _noise(images, sd, draws):
    return images + WHITE * sd * special.ndtri(draws.uniform(*images.shape))


def _shot(images, photons, draws):
    return stats.poisson.ppf(draws.uniform(*images.shape), images / WHITE * photons) / photons * WHITE


def _blur(images, sd, draws):
    del draws
    return ndimage.gaussian_filter(images, (0, sd, sd, 0), mode="nearest")


def _contrast(images, share, draws):
    del draws
    mean = images.mean((1, 2), keepdims=True)
    return (images - mean) * share + mean


def _brightness(images, more, draws):
    del draws
    return images + WHITE * more


def _rotation(images, degrees, draws):
    turn = functools.partial(ndimage.rotate, axes=(1, 2), reshape=False, order=1, mode="constant")
    left = draws.signs(len(images)) < 0
    turned = np.empty_like(images)
    for chosen, angle in ((left, -degrees), (~left, degrees)):
        turned[chosen] = turn(images[chosen], angle)
    return turned


def _translation(images, share, draws):
    pixels = max(1, round(share * images.shape[1]))
    down, right = pixels * draws.signs(2, len(images))
    return shifted(images, down, right)


def _spatter(images, share, draws):
    drops = ndimage.gaussian_filter(special.ndtri(draws.uniform(*images.shape[:3])), (0, 1.5, 1.5))
    covered = drops > np.quantile(drops, 1 - share, axis=(1, 2), keepdims=True)
    return np.where(covered[..., None], COLOUR_OF_SPATTER, images)


def _jpeg(images, quality, draws):
    del draws
    pixels = images.astype(np.uint8)
    if images.shape[3] == 3:
        return np.stack([_compressed(image, quality) for image in pixels]).astype(np.float64)
    maps = np.moveaxis(pixels, 3, 1)  # of any other number of channels, one by one
    return np.moveaxis([[_compressed(each, quality) for each in image] for image in maps], 1, 3).astype(np.float64)


def _compressed(image, quality):
    file = io.BytesIO()
    Image.fromarray(image).save(file, "jpeg", quality=quality)
    return np.asarray(Image.open(file))


@dataclasses.dataclass(frozen=True)
class Corruption:
    """A kind of corruption.

    Attributes:
      apply: of images float64 [N, H, W, C], 0 to 255, a severity and `Draws`; what leaves 0 to 255 is cut off.
      severities: five, the last the worst; ours, of the order of size of those of ImageNet-C.
      unit: what they are.
    """

    apply: Callable[[np.ndarray, float, Draws], np.ndarray]
    severities: tuple[float, ...]
    unit: str


KINDS = {
    "noise": Corruption(_noise, (0.05, 0.1, 0.15, 0.2, 0.3), "standard deviation, white 1"),
    "shot": Corruption(_shot, (60, 25, 12, 5, 3), "photons of a white pixel"),
    "blur": Corruption(_blur, (0.5, 0.75, 1.0, 1.5, 2.0), "standard deviation, pixels"),
    "contrast": Corruption(_contrast, (0.75, 0.5, 0.4, 0.3, 0.15), "of the contrast left"),
    "brightness": Corruption(_brightness, (0.1, 0.2, 0.3, 0.4, 0.5), "added, white 1"),
    "rotation": Corruption(_rotation, (10, 20, 30, 40, 50), "degrees, either way"),
    "translation": Corruption(_translation, (0.05, 0.1, 0.15, 0.2, 0.25), "of the side, along both axes"),
    "spatter": Corruption(_spatter, (0.05, 0.1, 0.15, 0.2, 0.3), "of the image covered"),
    "jpeg": Corruption(_jpeg, (50, 30, 20, 10, 5), "quality"),
}
SEVERITIES = 5


def corrupted(images: np.ndarray, kind: str, severity: int) -> np.ndarray:
    """Returns images with one corruption; the same ones every time.

    Args:
      images: uint8 [N, H, W, C].
      kind: one of `KINDS`.
      severity: 1 to 5.

    Returns:
      uint8 of the same shape.
    """
    found = KINDS[kind]
    changed = found.apply(images.astype(np.float64), found.severities[severity - 1], Draws(kind))
    return np.clip(np.rint(changed), 0, WHITE).astype(np.uint8)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Corruptions(Measurement):
    """Accuracy on the same test images under nine corruptions of five severities each."""

    section = Section("corruptions", "Corruptions", "What becomes of accuracy when images are worse than in training?")

    @property
    def columns(self):
        """The mean, and each kind."""
        latex = {"latex": "corrupted"}
        return (
            Column("corrupted_accuracy", "corrupted images", lambda found: found.accuracy.mean((1, 2)), "%", **latex),
            *(
                Column(f"corrupted_{kind}", f"under {kind}", functools.partial(_of_kind, place), "%")
                for place, kind in enumerate(KINDS)
            ),
        )

    def measure(self, context: Context) -> Result:
        """Measures accuracy by 45 predictions.

        Returns:
          accuracy: [seeds, kinds, severities], 0 to 1.
          clean: [seeds], of the images as they are.
        """
        score = lambda images: accuracy(context.predict(images), context.labels)
        found = [
            [score(corrupted(context.images, kind, severity)) for severity in range(1, SEVERITIES + 1)]
            for kind in KINDS
        ]
        return Result(accuracy=np.moveaxis(np.array(found), 2, 0), clean=score(context.images))

    def protocol(self, found: Result) -> str:
        """Returns one sentence."""
        del found
        listed = "; ".join(
            f"{kind} {', '.join(map('{:g}'.format, each.severities))} ({each.unit})" for kind, each in KINDS.items()
        )
        return f"The same test images and the same random numbers for every arm, severity 1 to 5: {listed}."

    def figures(self, found: Mapping[str, Result], protocol: str) -> list[Figure]:
        """Draws accuracy by severity, and by kind."""
        with_clean = lambda each: np.concatenate([each.clean[:, None], each.accuracy.mean(1)], axis=1)
        by_kind = lambda each: {kind: 100 * _of_kind(place, each) for place, kind in enumerate(KINDS)}
        return [
            Curves(
                name="severity",
                values={arm: 100 * with_clean(each) for arm, each in found.items()},
                unit="%",
                axis="severity",
                caption="Accuracy by severity, mean over the kinds of corruption; 0: the images as they are.",
            ),
            LayerTable(
                values={arm: by_kind(each) for arm, each in found.items()},
                digits=1,
                caption=f"Accuracy by kind of corruption, in %, mean over severities and seeds. {protocol}",
            ),
        ]


def _of_kind(place, found):
    return found.accuracy[:, place].mean(1)


MEASUREMENT = Corruptions()
