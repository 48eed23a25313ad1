"""The steps at which a run evaluates, saves and writes rows."""

import bisect
import math

from cnn_jax import config


class Timetable:
    """The steps of a repeated event: round(k * interval) for k = 1, 2, ..., and always the last step.

    An interval of one epoch need not be a whole number of steps; the event then falls on the nearest one. An interval
    shorter than a step is one step.

    Args:
      every: the interval, as a duration.
      total: steps of the run.
      examples: size of the training set.
      batch_size: examples per step.
    """

    def __init__(self, every: str, total: int, examples: int, batch_size: int):
        # Steps in a million intervals: what one interval is, without rounding it to a whole step.
        amount, unit = config.DURATION.fullmatch(every.strip()).groups()
        interval = max(1.0, config.duration_steps(f"{float(amount) * 1e6:f} {unit}", examples, batch_size) / 1e6)
        steps = {min(round(k * interval), total) for k in range(1, math.ceil(total / interval) + 1)}
        self._steps = sorted(steps | {total})

    def __contains__(self, step: int) -> bool:
        place = bisect.bisect_left(self._steps, step)
        return place < len(self._steps) and self._steps[place] == step

    def after(self, step: int) -> int | None:
        """Returns the first event after a step, or None."""
        place = bisect.bisect_right(self._steps, step)
        return self._steps[place] if place < len(self._steps) else None
