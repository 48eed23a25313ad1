"""Pictures in a row, for notebooks."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure

from cnn_jax.errors import UsageError
from cnn_jax.reports.figures import SIGNED_MAP

SIDE = 1.35  # inches


def show(
    pictures: Sequence[np.ndarray],
    titles: Sequence[str] = (),
    columns: int = 8,
    signed: bool = False,
    together: bool = False,
    side: float = SIDE,
) -> Figure:
    """Draws pictures side by side; as the last line of a cell it shows them.

    Args:
      pictures: each [height, width] or [height, width, 1], in grey; or [height, width, 3], in colour: bytes, or floats
        from 0 to 1.
      titles: above each.
      columns: in a row.
      signed: whether grey ones are drawn in orange below 0, white at 0 and blue above.
      together: whether grey ones share one scale, from the smallest to the largest of all; if not, each has its own.
      side: of one picture, inches.

    Raises:
      UsageError: there are none, one has another shape, or there are not as many titles.
    """
    found = [np.asarray(picture) for picture in pictures]
    found = [each[:, :, 0] if each.ndim == 3 and each.shape[2] == 1 else each for each in found]
    wrong = [each.shape for each in found if each.ndim != 2 and not (each.ndim == 3 and each.shape[2] == 3)]
    if not found or wrong:
        raise UsageError(f"pictures must be [height, width] or [height, width, 3]: {wrong[0] if wrong else 'none'}")
    if titles and len(titles) != len(found):
        raise UsageError(f"there are {len(titles)} titles and {len(found)} pictures")
    columns = min(columns, len(found))
    rows = -(-len(found) // columns)
    tall = max(each.shape[0] / each.shape[1] for each in found)
    title_height = 0.28 * (1 + max((title.count("\n") for title in titles), default=0)) if titles else 0.06
    figure, axes = plt.subplots(
        rows, columns, figsize=(columns * (side + 0.1), rows * (side * tall + title_height)), squeeze=False,
        layout="constrained",
    )  # fmt: skip
    grey = [each for each in found if each.ndim == 2]
    limits = (min(map(np.min, grey)), max(map(np.max, grey))) if grey else (0, 1)
    for place, picture in enumerate(found):
        axis = axes.flat[place]
        low, high = limits if together else (picture.min(), picture.max())
        if signed:
            high = max(abs(low), abs(high)) or 1
            axis.imshow(picture, cmap=SIGNED_MAP, vmin=-high, vmax=high)
        else:
            axis.imshow(picture, cmap="gray", vmin=low, vmax=high if high > low else low + 1)
        if titles:
            axis.set_title(titles[place], fontsize=8, parse_math=False)
    for axis in axes.flat:
        axis.set_axis_off()
    plt.close(figure)  # a notebook would show it twice
    return figure
