"""The arithmetic that accelerators can do at most, as their makers publish it."""

import re
from collections.abc import Sequence

# TFLOP/s of one device as JAX counts them: in bfloat16 and in float32 as JAX multiplies it by default, which is
# TensorFloat-32 on GPUs since Ampere and bfloat16 on TPUs. Dense, with float32 sums.
# GPUs: NVIDIA's data sheets of V100 (2020), T4 (2019), A10 and A100 (2021), L4, L40S and H100 (2023), H200 and HGX B200
# (2024), and its white paper on the architecture Ada (2022). TPUs: cloud.google.com/tpu/docs, the page of each version;
# v2 and v3 have two devices on a chip.
PEAKS = {
    r"V100": (15.7, 15.7),  # has no bfloat16
    r"Tesla T4": (8.1, 8.1),  # likewise
    r"A100": (312, 156),
    r"NVIDIA A10": (125, 62.5),
    r"NVIDIA L4": (121, 60.5),
    r"NVIDIA L40S": (362, 183),
    r"RTX 4090": (165.2, 82.6),
    r"H100 PCIe": (756, 378),
    r"H100 80GB HBM3|H200": (989.4, 494.7),
    r"NVIDIA B200": (2250, 1125),
    r"TPU v2": (22.5, 22.5),
    r"TPU v3": (61.5, 61.5),
    r"TPU v4": (275, 275),
    r"TPU v5 lite|TPU v5e": (197, 197),
    r"TPU v5|TPU v5p": (459, 459),
    r"TPU v6 lite|TPU v6e": (918, 918),
}


def peak(devices: Sequence, precision: str) -> float:
    """Returns the operations per second that some devices can do together; 0 where that is not known.

    Args:
      devices: JAX's, all of one kind.
      precision: "float32" or "bfloat16".
    """
    kind = devices[0].device_kind
    for pattern, (narrow, wide) in PEAKS.items():
        if re.search(rf"(?:{pattern})(?![0-9A-Za-z])(?! lite)", kind):
            return 1e12 * len(devices) * (narrow if precision == "bfloat16" else wide)
    return 0.0
