"""Decisions at two random crops of the stored image agree: real pixels come in (Zhang 2019, as published)."""

from cnn_jax.studies.measurements.base import Column
from cnn_jax.studies.measurements.consistency import Consistency

NEEDS = "data.crop"  # with 224 of 256 stored pixels the offsets are 0 to 31

MEASUREMENT = Consistency(
    name="crops",
    title="consistency of crops",
    columns=(
        Column("crop_consistency", "consistency of crops", lambda found: found.agreement, "%", latex="crops"),
        Column("crop_stability", "alike, and correct", lambda found: found.stability, "%"),
    ),
    manner="crops",
)
