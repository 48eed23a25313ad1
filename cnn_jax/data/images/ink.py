"""The ink of a photographed drawing: whatever the light, on ruled paper, with specks and a strip of table beside it."""

import dataclasses

import numpy as np
from PIL import Image
from scipy import ndimage

WORK = 300  # pixels of the shorter side that ink is looked for at; the lengths below are of it
LONGEST = 1200  # of the longer side
GROUND = 0.3  # of the shorter side: what is wider than this is ground and no stroke
STROKE = 4  # pixels; rules and specks are thinner
GAP = 4  # pixels; what is nearer than twice this is one piece
NEAR = 45  # pixels; pieces as near as this belong together, if they are no specks
SPECK = 0.03  # of the largest piece
FULL = 0.8  # of the strong ink of a drawing: as much is as white as any
MUCH = 0.3  # of the picture: more ink than a drawing has
LARGE = 0.25  # of the largest piece: another as large may belong to the drawing


@dataclasses.dataclass(frozen=True)
class Ink:
    """What is drawn on a picture.

    Attributes:
      strength: float32 [height, width], 0 where there is no ink.
      changes: what was done to find it, in words.
      warnings: why it may be something else.
    """

    strength: np.ndarray
    changes: tuple[str, ...]
    warnings: tuple[str, ...]


def find(grey: np.ndarray) -> Ink | None:
    """Finds the ink on a picture: its largest piece that does not touch the border.

    The ground is what a closing leaves, a window wider than a stroke; the picture divided by it has no light and no
    shadow left. What an opening removes is a rule or a speck.

    Args:
      grey: uint8 [height, width], dark on bright or bright on dark.

    Returns:
      The ink at the size that it was looked for; None where nothing stands out.
    """
    scale = min(WORK / min(grey.shape), LONGEST / max(grey.shape))
    size = [max(1, round(side * scale)) for side in grey.shape[::-1]]
    method = Image.Resampling.BOX if scale < 1 else Image.Resampling.BICUBIC
    smooth = ndimage.gaussian_filter(np.asarray(Image.fromarray(grey).resize(size, method), np.float32), 1)
    changes, warnings = [], []
    if _is_dark_on_bright(smooth):
        changes.append("dark on bright: inverted")
    else:
        changes.append("bright on dark")
        smooth = 255 - smooth
    ground = ndimage.grey_closing(smooth, (round(GROUND * WORK) | 1,) * 2)
    strength = np.clip(1 - smooth / np.maximum(ground, 1), 0, 1)
    top = max(np.percentile(strength, 99.5), strength.max() / 2)  # the latter of a pen that is thin for the sheet
    if top < 0.02:
        return None
    mask = strength > 0.5 * top
    opened = ndimage.binary_opening(mask, np.ones((STROKE, STROKE)))
    if opened.sum() > 0.3 * mask.sum():  # else the pen was as thin as a rule
        mask = opened
    if mask.mean() > MUCH:
        warnings.append(f"ink covers {100 * mask.mean():.0f} % of it")
    pieces, count = ndimage.label(ndimage.binary_dilation(mask, iterations=GAP))
    sizes = ndimage.sum_labels(mask, pieces, range(1, count + 1))
    outer = set(np.unique(np.concatenate([pieces[0], pieces[-1], pieces[:, 0], pieces[:, -1]])).tolist()) - {0}
    inner = [number for number in range(1, count + 1) if number not in outer]
    chosen = max(inner or outer, key=lambda number: sizes[number - 1])
    if chosen in outer:
        warnings.append("ink touches the border")
    away = ndimage.minimum(ndimage.distance_transform_edt(pieces != chosen), pieces, range(1, count + 1))
    share = sizes / sizes[chosen - 1]
    parts = [number for number in inner if share[number - 1] >= SPECK and away[number - 1] <= NEAR] or [chosen]
    others = [number for number in inner if number not in parts and share[number - 1] > LARGE]
    if others:
        warnings.append(f"{len(others) + 1} large pieces of ink far from each other, of which the largest counts")
    left = count - len(parts) - len(others)
    changes.append("ground flattened")
    if left:
        changes.append(f"{left} small or outer piece{'s' * (left > 1)} left out")
    belongs = np.isin(pieces, parts)
    white = FULL * np.percentile(strength[belongs & mask], 90)
    found = np.where(belongs, np.minimum(strength / white, 1), 0).astype(np.float32)
    return Ink(found, tuple(changes), tuple(warnings))


def _is_dark_on_bright(picture):
    """Tells whether what differs most from its surroundings is darker than they are."""
    around = ndimage.gaussian_filter(picture, WORK / 5)
    differences = picture - around
    low, high = np.percentile(differences, (1, 99))
    return -low > high
