"""Where the training set lives, and how a stretch of steps gets its batches.

  device  the whole set in device memory; a stretch is only its indices.
  host    the set in the host's memory, or decoded in a file; the images of a stretch are sent to the device.
  stream  the set still encoded; the images of the next steps are decoded in threads while the device works.

All give the same batches: dicts of images uint8 [B, H, W, C], labels int32 [B], index int32 [B].
"""

import collections

import numpy as np

from cnn_jax.data.lazy import LazyImages, Reading
from cnn_jax.data.placement import DEVICE_BYTES
from cnn_jax.data.plan import IndexPlan
from cnn_jax.data.source import Dataset

MOST_STEPS = 1000  # of a stretch on the device
STRETCH_BYTES = 32 * 2**20  # of a stretch sent from the host
AHEAD_EXAMPLES = 1024  # that are read before they are asked for: 192 MiB at 256x256, 2 s of decoding on 2 cores


class DeviceFeed:
    """The set on the device.

    Attributes:
      axes: for each array of a stretch, the axis split over devices.
      most_steps: the longest stretch.

    Args:
      dataset: the training set.
      plan: which examples each step sees.
      parallel: the devices.
    """

    axes = {"images": None, "labels": None, "index": 1}
    most_steps = MOST_STEPS

    def __init__(self, dataset: Dataset, plan: IndexPlan, parallel):
        self._batches = _own_batches(plan, parallel)
        self._parallel = parallel
        self._set = parallel.replicate({"images": np.asarray(dataset.images), "labels": dataset.labels})

    def stretch(self, start: int, stop: int) -> dict:
        """The data of steps start..stop-1, ready on the device; its shapes do not depend on how many they are."""
        batches = self._batches(start, stop)
        index = np.zeros((self.most_steps, batches.shape[1]), np.int32)
        index[: stop - start] = batches
        return self._set | {"index": self._parallel.split(index, 1)}

    @staticmethod
    def pick(data: dict, i) -> dict:
        """The batch of the stretch's i-th step; runs on the device."""
        index = data["index"][i]
        return {"images": data["images"][index], "labels": data["labels"][index], "index": index}

    def close(self) -> None:
        """Stops what is done in the background."""


class HostFeed:
    """The set on the host. Arguments and attributes as `DeviceFeed`."""

    axes = {"images": 1, "labels": 1, "index": 1}

    def __init__(self, dataset: Dataset, plan: IndexPlan, parallel):
        self._batches = _own_batches(plan, parallel)
        self._parallel = parallel
        self._dataset = dataset
        self._reader = _Ahead(dataset.images) if isinstance(dataset.images, LazyImages) else _Array(dataset.images)
        batch_bytes = plan.batch_size * int(np.prod(dataset.images.shape[1:]))
        self.most_steps = max(1, min(MOST_STEPS, STRETCH_BYTES // batch_bytes))
        self._ahead = max(1, AHEAD_EXAMPLES // plan.batch_size)  # steps

    def stretch(self, start: int, stop: int) -> dict:
        """The data of steps start..stop-1, ready on the device; its shapes do not depend on how many they are.

        Raises:
          UserError: too many images cannot be decoded.
        """
        arrays = self._arrays(start, stop)
        spare = self.most_steps - (stop - start)
        if spare:
            arrays = {name: np.pad(array, [(0, spare)] + [(0, 0)] * (array.ndim - 1)) for name, array in arrays.items()}
        return self._parallel.split(arrays, 1)

    def _arrays(self, start, stop):
        """The steps' examples on the host, [steps, batch, ...] each; those of the steps after are begun."""
        images = self._reader.read(start, stop, stop + self._ahead, self._batches)
        index = self._batches(start, stop)
        return {"images": images, "labels": self._dataset.labels[index], "index": index}

    @staticmethod
    def pick(data: dict, i) -> dict:
        """The batch of the stretch's i-th step; runs on the device."""
        return {name: array[i] for name, array in data.items()}

    def close(self) -> None:
        """Stops what is done in the background."""
        self._reader.close()


class _Array:
    """Images in memory."""

    def __init__(self, images: np.ndarray):
        self._images = images

    def read(self, start: int, stop: int, ahead: int, batches) -> np.ndarray:
        """The images of steps start..stop-1, whose indices `batches(start, stop)` knows."""
        return self._images[batches(start, stop)]

    def close(self):
        pass


class _Ahead:
    """Images that are read, or decoded, in threads, and begun before they are asked for."""

    def __init__(self, images: LazyImages):
        self._images = images
        self._next = 0  # step after the last one begun
        self._begun: collections.deque[Reading] = collections.deque()

    def read(self, start: int, stop: int, ahead: int, batches) -> np.ndarray:
        """As `_Array.read`; and begins those up to, not including, step `ahead`."""
        if self._next - len(self._begun) != start:  # the first call, or a jump
            self.close()
            self._next = start
        for step in range(self._next, ahead):
            self._begun.append(self._images.begin(batches(step, step + 1)[0]))
            self._next = step + 1
        read = [self._begun.popleft().result() for _ in range(start, stop)]
        return read[0][None] if len(read) == 1 else np.stack(read)

    def close(self):
        for reading in self._begun:
            reading.cancel()
        self._begun.clear()


def _own_batches(plan, parallel):
    """`plan.batches`, of each batch the part that this process feeds."""
    own = parallel.part(plan.batch_size)
    return lambda start, stop: plan.batches(start, stop)[:, own]


def make_feed(placement: str, dataset: Dataset, plan: IndexPlan, parallel) -> tuple[DeviceFeed | HostFeed, str]:
    """The feed that the setting asks for, and a sentence that says why.

    Args:
      placement: "auto", "device", "host" or "stream". auto: the device, if the set has at most `DEVICE_BYTES`; a set
        that source.load found too large to decode is streamed.
      dataset: the training set.
      plan: which examples each step sees.
      parallel: the devices.
    """
    size = dataset.images.nbytes
    reason = dataset.reason if placement == "auto" else "as set"
    if dataset.where == "stream":
        chosen = "stream"
    elif placement == "auto":
        chosen = "device" if size <= DEVICE_BYTES else "host"
        reason = "; ".join(filter(None, [f"auto: the device up to {DEVICE_BYTES / 2**20:.0f} MiB", reason]))
    else:
        chosen = placement
        reason = "; ".join(filter(None, [reason, dataset.reason]))
    feed = {"device": DeviceFeed, "host": HostFeed, "stream": HostFeed}[chosen](dataset, plan, parallel)
    return feed, f"{chosen} ({size / 2**20:.1f} MiB decoded; {reason})"
