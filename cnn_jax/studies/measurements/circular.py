"""Decisions at two random circular shifts agree."""

from cnn_jax.studies.measurements.base import Column
from cnn_jax.studies.measurements.consistency import Consistency

MEASUREMENT = Consistency(
    name="circular",
    title="circular consistency",
    columns=(
        Column("circular_consistency", "circular consistency", lambda found: found.agreement, "%", latex="circular"),
        Column("circular_stability", "circular, and correct", lambda found: found.stability, "%"),
    ),
    manner="circular",
)
