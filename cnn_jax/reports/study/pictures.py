"""The sections of a study's report that show pictures: filters, maps, and an image after each pooling."""

import jax
import numpy as np

from cnn_jax.errors import UsageError
from cnn_jax.layers.pooling import make_pool
from cnn_jax.layers.windows import geometry
from cnn_jax.reports import figures
from cnn_jax.reports.page import filter_pictures, shape, stage_pictures
from cnn_jax.reports.parts import Stage
from cnn_jax.reports.study.prose import listed
from cnn_jax.reports.study.sections import section
from cnn_jax.studies.arm import GREY
from cnn_jax.studies.results import Results

CHANNELS = 8  # filters and maps drawn of an arm
PIECE = 12  # pixels along the side of the piece of an image that is shown padded
WIDE = 4  # pixels of padding there


def _filters(results):
    rows, convolutional = [], [each for each in results.arms if "filters" in each.pictures]
    if not convolutional:
        return section("filters", "First filters", "")
    for each in convolutional:
        found = filter_pictures(each.pictures["filters"], CHANNELS)
        rows.append((each.arm.name, f"±{found['limit']:.2g}", [[source] for source in found["pictures"]]))
    colour = convolutional[0].pictures["filters"].shape[2] == 3
    ends = "mid-grey is 0" if colour else "orange is negative, white 0, blue positive"
    caption = f"First-layer filters, seed {convolutional[0].seeds[0]}; all arms started from the same weights where "
    caption += f"their shapes agree; {ends}, each arm on the scale that stands beside its name."
    return section("filters", "First filters", "", {"kind": "rows", "rows": rows, "caption": caption, "title": ""})


def _maps(results):
    names = [name.removeprefix("after ") for each in results.arms for name in each.pictures if "after " in name]
    blocks = []
    for pool in dict.fromkeys(names):
        rows = []
        for each in results.arms:
            before, after = (each.pictures.get(f"{when} {pool}") for when in ("before", "after"))
            if before is None or before.ndim != 3:
                continue
            stage = stage_pictures(Stage(name=pool, maps=before, pooled=after if after.ndim == 3 else None), CHANNELS)
            note = f"{' → '.join(shape(size[:2]) for size in stage['sizes'])}, ±{stage['limit']:.2g}"
            rows.append((each.arm.name, note, stage["pictures"]))
        caption = f"Before {pool} and, below, after it: one test image, the first seed, up to {CHANNELS} maps, each "
        caption += "arm on its own scale; orange is negative, white 0, blue positive."
        if rows:
            blocks.append({"kind": "rows", "rows": rows, "caption": caption, "title": pool})
    return section("maps", "Feature maps", "What does pooling keep?", *blocks)


def _pooled(results):
    """The image itself, pooled by each of the arms' poolings as they begin."""
    image = results.arms[0].pictures["image"]
    users = {}
    for each in results.arms:
        pool = getattr(results.study.settings(each.arm).model, "pool", None)
        if pool is not None:
            users.setdefault(pool, []).append(each.arm.name)
    tiles = [("the image", [figures.picture(image)], shape(image.shape[:2]))]
    for pool, arms in users.items():
        found = _apply(pool, image)
        if found is not None:
            low, high = min(0.0, float(found.min())), max(1.0, float(found.max()))
            grey = np.round(255 * (found - low) / (high - low)).astype(np.uint8)
            note = f"{shape(found.shape[:2])}, {found.min():.2g} to {found.max():.2g}"
            tiles.append((listed(arms), [figures.picture(grey)], note))
    caption = (
        "One test image, pooled directly by each arm's first pooling layer, before any training. Random poolings show "
        "one random draw. White is 1, or the largest value where that is above 1; black is 0, or the lowest where that "
        "is below; the image's own pixels go from 0 to 1."
    )
    blocks = [{"kind": "maps", "tiles": tiles, "caption": caption, "low": None}] if len(tiles) > 2 else []
    return section("pooled", "The same image, pooled", "", *blocks)


def _padded(results):
    """A piece of the image under each padding, and what each makes of a plain grey image."""
    users = {}
    for each in results.arms:
        padding = getattr(results.study.settings(each.arm).model, "padding", None)
        if padding is not None:
            users.setdefault((getattr(padding, "mode", "") == "valid", padding.fill), []).append(each)
    if len(users) < 2:
        return section("padded", "Padding", "")
    image = results.arms[0].pictures["image"]
    top, left = ((side - min(PIECE, side)) // 2 for side in image.shape[:2])
    piece = image[top : top + PIECE, left : left + PIECE]
    tiles = [("the piece", [figures.picture(piece)], shape(piece.shape[:2]))]
    for (is_valid, fill), arms in users.items():
        found = piece if is_valid else _pad(piece, fill)
        tiles.append((listed([each.arm.name for each in arms]), [figures.picture(found)], shape(found.shape[:2])))
    caption = (
        f"A piece from the middle of a test image, with {WIDE} pixels of padding on each side where the arm pads, more "
        "than its convolutions add, so that it can be seen."
    )
    blocks = [{"kind": "maps", "tiles": tiles, "caption": caption, "low": None}]
    grey = [(each.arm.name, each.pictures[GREY]) for each in results.arms if GREY in each.pictures]
    if grey:
        limit = max(float(np.max(values)) for _, values in grey) or 1.0
        tiles = [
            (name, [figures.signed_picture(values, limit)], f"{shape(values.shape)}, up to {values.max():.2g}")
            for name, values in grey
        ]
        caption = (
            "A plain grey image after each arm's last convolution, trained, seed "
            f"{results.arms[0].seeds[0]}: the mean size of its maps. What is not the same everywhere comes from the "
            "padding alone."
        )
        blocks.append({"kind": "maps", "tiles": tiles, "caption": caption, "low": None})
    return section("padded", "Padding", "What does a convolution see beyond the edge?", *blocks)


def _pad(piece, fill):
    """The piece with padding, uint8."""
    window = 2 * WIDE + 1
    placed = geometry("piece", piece.shape, window, padding=WIDE, fill=fill)
    pixels = np.asarray(piece, np.float32)[None]
    if fill == "random":
        found = placed.pad_at_random(pixels, jax.random.split(jax.random.key(0), 1))
    else:
        found = placed.pad(pixels, fill)
    return np.clip(np.round(np.asarray(found)[0]), 0, 255).astype(np.uint8)


def _apply(pool, image):
    """The pooled image, [height, width, channels]; None for a pooling that cannot read a picture, or leaves it be."""
    key = jax.random.key(0)
    try:
        layer = make_pool("pool", image.shape, pool, key=key)
    except UsageError:
        return None
    if len(layer.output_shape) != 3 or min(layer.output_shape[:2]) < 2 or layer.output_shape == image.shape:
        return None
    pixels = np.asarray(image, np.float32)[None] / 255
    found = np.asarray(layer(pixels, jax.random.split(key, 1))[0], np.float32)
    return found if np.isfinite(found).all() else None


def sections(results: Results) -> list[dict]:
    """Returns the sections, in the order of the page."""
    return [_filters(results), _maps(results), _pooled(results), _padded(results)]
