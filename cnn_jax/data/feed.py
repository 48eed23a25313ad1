"""Where the decoded training set lives, and how a stretch of steps gets its batches.

  device  the whole set in device memory; a stretch is only its indices.
  host    the set in the host's memory; the images of a stretch are sent to the device.

Both give the same batches: dicts of images uint8 [B, H, W, C], labels int32 [B], index int32 [B].
"""

import numpy as np

from cnn_jax.data.plan import IndexPlan
from cnn_jax.data.source import Dataset

MOST_STEPS = 1000  # of a stretch on the device
STRETCH_BYTES = 32 * 2**20  # of a stretch sent from the host
DEVICE_BYTES = 2**31  # largest set that "auto" puts on the device


class DeviceFeed:
    """The set on the device.

    Attributes:
      axes: for each array of a stretch, the axis split over devices.
      most_steps: the longest stretch.

    Args:
      dataset: the decoded training set.
      plan: which examples each step sees.
      parallel: the devices.
    """

    axes = {"images": None, "labels": None, "index": 1}
    most_steps = MOST_STEPS

    def __init__(self, dataset: Dataset, plan: IndexPlan, parallel):
        self._plan = plan
        self._parallel = parallel
        self._set = parallel.replicate({"images": np.asarray(dataset.images), "labels": dataset.labels})

    def stretch(self, start: int, stop: int) -> dict:
        """The data of steps start..stop-1, ready on the device; its shapes do not depend on how many they are."""
        index = np.zeros((self.most_steps, self._plan.batch_size), np.int32)
        index[: stop - start] = self._plan.batches(start, stop)
        return self._set | {"index": self._parallel.split(index, 1)}

    @staticmethod
    def pick(data: dict, i) -> dict:
        """The batch of the stretch's i-th step; runs on the device."""
        index = data["index"][i]
        return {"images": data["images"][index], "labels": data["labels"][index], "index": index}


class HostFeed:
    """The set on the host. Arguments and attributes as `DeviceFeed`."""

    axes = {"images": 1, "labels": 1, "index": 1}

    def __init__(self, dataset: Dataset, plan: IndexPlan, parallel):
        self._plan = plan
        self._parallel = parallel
        self._dataset = dataset
        batch_bytes = plan.batch_size * int(np.prod(dataset.images.shape[1:]))
        self.most_steps = max(1, min(MOST_STEPS, STRETCH_BYTES // batch_bytes))

    def stretch(self, start: int, stop: int) -> dict:
        """The data of steps start..stop-1, ready on the device; its shapes do not depend on how many they are."""
        index = self._plan.batches(start, stop)
        arrays = {"images": self._dataset.images[index], "labels": self._dataset.labels[index], "index": index}
        spare = self.most_steps - (stop - start)
        full = {name: np.pad(array, [(0, spare)] + [(0, 0)] * (array.ndim - 1)) for name, array in arrays.items()}
        return self._parallel.split(full, 1)

    @staticmethod
    def pick(data: dict, i) -> dict:
        """The batch of the stretch's i-th step; runs on the device."""
        return {name: array[i] for name, array in data.items()}


def make_feed(placement: str, dataset: Dataset, plan: IndexPlan, parallel) -> tuple[DeviceFeed | HostFeed, str]:
    """The feed that the setting asks for, and a sentence that says why.

    Args:
      placement: "auto", "device" or "host". auto: the device, if the set has at most `DEVICE_BYTES`.
      dataset: the decoded training set.
      plan: which examples each step sees.
      parallel: the devices.
    """
    size = dataset.images.nbytes
    chosen = placement if placement != "auto" else "device" if size <= DEVICE_BYTES else "host"
    reason = "as set" if placement != "auto" else f"auto: the device up to {DEVICE_BYTES / 2**20:.0f} MiB"
    feed = {"device": DeviceFeed, "host": HostFeed}[chosen](dataset, plan, parallel)
    return feed, f"{chosen} ({size / 2**20:.1f} MiB decoded; {reason})"
