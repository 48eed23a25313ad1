"""What accelerators can do at most is known by the names that JAX gives them."""

import types

import pytest

from cnn_jax.devices.peaks import peak


@pytest.mark.parametrize(
    "kind, narrow, wide",
    [
        ("NVIDIA H100 80GB HBM3", 989.4, 494.7),
        ("NVIDIA H100 PCIe", 756, 378),
        ("NVIDIA H200", 989.4, 494.7),
        ("NVIDIA A100-SXM4-80GB", 312, 156),
        ("NVIDIA A10", 125, 62.5),
        ("NVIDIA A10G", 0, 0),
        ("NVIDIA L4", 121, 60.5),
        ("NVIDIA L40S", 362, 183),
        ("Tesla T4", 8.1, 8.1),
        ("Tesla V100-SXM2-16GB", 15.7, 15.7),
        ("TPU v4", 275, 275),
        ("TPU v5 lite", 197, 197),
        ("TPU v5e", 197, 197),
        ("TPU v5", 459, 459),
        ("TPU v5p", 459, 459),
        ("TPU v6 lite", 918, 918),
        ("cpu", 0, 0),
    ],
)
def test_peaks(kind, narrow, wide):
    devices = [types.SimpleNamespace(device_kind=kind)] * 4
    assert peak(devices, "bfloat16") == pytest.approx(4e12 * narrow)
    assert peak(devices, "float32") == pytest.approx(4e12 * wide)
