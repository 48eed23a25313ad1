"""Measurements by name: stored and read whole."""

import numpy as np
import pytest
import tiny_measuring as tiny

from cnn_jax.studies import measurements, measuring
from cnn_jax.studies.measurements import storing
from cnn_jax.studies.measurements.base import Result


def test_measurements_are_stored_and_joined_over_groups_of_seeds(tmp_path):
    def group(*values):
        values = np.array(values)
        layers = {"conv1": values, "pool1": 2 * values}
        return {
            "consistency": Result(
                agreement=values, stability=values / 2, accuracy=values / 3, reach=3, circular=False, draws=5
            ),
            "edges": Result(edge=layers, centre=layers, blank_edge=layers, blank_centre=layers, images=64),
        }

    whole = storing.joined([group(0.5, 0.25), group(0.75)])
    storing.store(tmp_path / "measurements.npz", whole)
    found = storing.load(tmp_path / "measurements.npz")
    np.testing.assert_array_equal(found["consistency"].agreement, [0.5, 0.25, 0.75])
    np.testing.assert_array_equal(found["edges"].blank_edge["pool1"], [1, 0.5, 1.5])
    protocol = measurements.find("consistency").protocol
    assert protocol(found["consistency"]) == protocol(group(1)["consistency"])
    assert found["edges"].images == 64
    columns = storing.columns(found)
    assert columns.keys() == {"consistency", "stability", "shifted_accuracy"}
    np.testing.assert_allclose(columns["stability"], [0.25, 0.125, 0.375])


@pytest.mark.parametrize("seconds, said", [(0.0, 10), (1000.0, 0)])
def test_a_long_measurement_says_how_far_it_is(monkeypatch, seconds, said):
    monkeypatch.setattr(measuring, "EVERY", seconds)
    lines = []
    context = tiny.context(tiny.noise(4), np.arange(4) % 3, predict=tiny.linear)
    found = measuring.measure(["consistency"], context, lines.append)
    assert lines[0] == "measuring consistency"
    assert len(lines) == 1 + said
    if said:
        assert lines[-1].startswith("measuring consistency: 40 images so far")
    np.testing.assert_array_equal(
        found["consistency"].agreement, measurements.find("consistency").measure(context).agreement
    )
