"""Feeds: where the training set is kept, and how a stretch of steps gets its batches.

  device  the whole set in device memory; a stretch is only its indices. A set larger than `DEVICE_BYTES` is spread
          over the devices of a mesh, each of which has some of the images; a smaller one is whole on each.
  host    the set in the host's memory, or decoded in a file; the images of a stretch are sent to the device.
  stream  the set still encoded; the images of the next steps are decoded in threads while the device works.

All give the same batches: dicts of images uint8 [B, H, W, C], labels int32 [B], index int32 [B].
"""

import collections
import functools

import numpy as np

from cnn_jax import files
from cnn_jax.data.batches.order import BatchOrder
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.data.images.placement import DEVICE_BYTES
from cnn_jax.data.images.reader import LazyImages, PendingRead
from cnn_jax.errors import UsageError

MOST_STEPS = 1000  # of a stretch on the device
STRETCH_BYTES = 32 * 2**20  # of a stretch sent from the host


class Feed:
    """Base of the feeds: the batches of one seed or, where several are trained together, of each seed.

    Attributes:
      axes: for each array of a stretch, the axis split over devices, or None.
      most_steps: the longest stretch.

    Args:
      dataset: the training set.
      orders: which examples each step sees, of each seed.
      parallel: the devices.
    """

    most_steps: int
    shared: tuple[str, ...] = ()  # arrays that are the same in every stretch and for all seeds

    def __init__(self, dataset: Dataset, orders: list[BatchOrder], parallel):
        own = parallel.part(orders[0].batch_size)  # of each batch, what this process feeds
        self._batches = [functools.partial(_part_of_batches, order, own) for order in orders]
        self._parallel = parallel
        self._dataset = dataset

    @property
    def _axis(self):
        return 1 if len(self._batches) == 1 else 0

    @property
    def axes(self) -> dict:
        return {name: None if name in self.shared else self._axis for name in ("images", "labels", "index")}

    def stretch(self, start: int, stop: int) -> dict:
        """Returns the data of steps start..stop-1, ready on the device; its shapes do not depend on how many they are.

        Raises:
          UserError: too many images cannot be decoded.
        """
        parts = [self._arrays(seed, start, stop) for seed in range(len(self._batches))]
        own = parts[0] if len(parts) == 1 else {name: np.stack([part[name] for part in parts]) for name in parts[0]}
        return self._set | self._parallel.split(own, self._axis)

    @functools.cached_property
    def _set(self) -> dict:
        """The shared arrays, on the device."""
        return {}

    def _arrays(self, seed: int, start: int, stop: int) -> dict:
        """Returns the arrays that change from stretch to stretch, [most_steps, batch, ...] each, on the host."""
        raise NotImplementedError

    @staticmethod
    def pick(data: dict, i) -> dict:
        """Returns the batch of the stretch's i-th step, for one seed; runs on the device."""
        raise NotImplementedError

    def close(self) -> None:
        """Stops what is done in the background."""


class DeviceFeed(Feed):
    """The set on the device. Arguments as `Feed`."""

    most_steps = MOST_STEPS
    shared = ("images", "labels")

    @functools.cached_property
    def _set(self):
        whole = {"images": np.asarray(self._dataset.images), "labels": self._dataset.labels}
        return self._parallel.replicate(whole)

    def _arrays(self, seed, start, stop):
        return {"index": _lengthened(self._batches[seed](start, stop).astype(np.int32), self.most_steps)}

    @staticmethod
    def pick(data, i):
        index = data["index"][i]
        return {"images": data["images"][index], "labels": data["labels"][index], "index": index}


class SpreadFeed(DeviceFeed):
    """The set spread over the memory of the devices, each with some of its images. Arguments as `Feed`; of one seed."""

    def __init__(self, dataset: Dataset, orders: list[BatchOrder], parallel):
        super().__init__(dataset, orders, parallel)
        self._batches = [functools.partial(_part_of_batches, orders[0], slice(None))]  # all of a batch, everywhere

    @property
    def axes(self) -> dict:
        return {"images": 0, "labels": None, "index": None}

    @functools.cached_property
    def _set(self):
        images = self._parallel.spread(self._dataset.images)
        return {"images": images, "labels": self._parallel.replicate(self._dataset.labels)}

    def stretch(self, start: int, stop: int) -> dict:
        return self._set | self._parallel.replicate(self._arrays(0, start, stop))

    def pick(self, data: dict, i) -> dict:
        index = data["index"][i]
        images = self._parallel.gather(data["images"], index)
        return {"images": images, **self._parallel.scatter({"labels": data["labels"][index], "index": index})}


class HostFeed(Feed):
    """The set on the host. Arguments as `Feed`."""

    def __init__(self, dataset: Dataset, orders: list[BatchOrder], parallel):
        super().__init__(dataset, orders, parallel)
        lazy = isinstance(dataset.images, LazyImages)
        kind, ahead = (_Ahead, dataset.images.ahead) if lazy else (_Array, 0)
        self._readers = [kind(dataset.images) for _ in orders]
        own = parallel.part(orders[0].batch_size)
        size = own.stop - own.start  # of the batch's images, those that this process feeds
        batch_bytes = size * int(np.prod(dataset.images.shape[1:]))
        self.most_steps = max(1, min(MOST_STEPS, STRETCH_BYTES // batch_bytes))
        self._ahead = max(1, ahead // size)  # steps

    def _arrays(self, seed, start, stop):
        """Returns the arrays of a stretch, and begins reading the examples of the steps after it."""
        batches = self._batches[seed]
        images = self._readers[seed].read(start, stop, stop + self._ahead, batches)
        index = batches(start, stop)
        arrays = {"images": images, "labels": self._dataset.labels[index], "index": index}
        return {name: _lengthened(array, self.most_steps) for name, array in arrays.items()}

    @staticmethod
    def pick(data, i):
        return {name: array[i] for name, array in data.items()}

    def close(self) -> None:
        """Stops what is done in the background."""
        for reader in self._readers:
            reader.close()


class _Array:
    """Images in memory."""

    def __init__(self, images: np.ndarray):
        self._images = images

    def read(self, start: int, stop: int, ahead: int, batches) -> np.ndarray:
        """Returns the images of steps start..stop-1, whose indices `batches(start, stop)` knows."""
        return self._images[batches(start, stop)]

    def close(self):
        pass


class _Ahead:
    """Images that are read, or decoded, in threads, and begun before they are asked for."""

    def __init__(self, images: LazyImages):
        self._images = images
        self._next = 0  # step after the last one begun
        self._begun: collections.deque[PendingRead] = collections.deque()

    def read(self, start: int, stop: int, ahead: int, batches) -> np.ndarray:
        """Returns the images of steps start..stop-1, and begins reading those up to, not including, step `ahead`."""
        if self._next - len(self._begun) != start:  # the first call, or a jump
            self.close()
            self._next = start
        for step in range(self._next, ahead):
            self._begun.append(self._images.begin(batches(step, step + 1)[0], ahead=True))
            self._next = step + 1
        read = [self._begun.popleft().result() for _ in range(start, stop)]
        return read[0][None] if len(read) == 1 else np.stack(read)

    def close(self):
        for reading in self._begun:
            reading.cancel()
        self._begun.clear()


def _lengthened(array, length):
    """The array with zeros added along its first axis; as it is where it is so long already."""
    spare = length - len(array)
    return np.pad(array, [(0, spare)] + [(0, 0)] * (array.ndim - 1)) if spare else array


def _part_of_batches(order, own, start, stop):
    return order.batches(start, stop)[:, own]


def make_feed(placement: str, dataset: Dataset, orders: list[BatchOrder], parallel) -> tuple[Feed, str]:
    """Returns the feed that the setting asks for, and a sentence that says why. Arguments as `choose` and `Feed`."""
    kind, why = choose(placement, dataset, parallel)
    return kind(dataset, orders, parallel), why


def choose(placement: str, dataset: Dataset, parallel) -> tuple[type[Feed], str]:
    """Returns the kind of feed that the setting asks for, and a sentence that says why.

    Args:
      placement: "auto", "device", "host" or "stream". auto: the device, if the set has at most `DEVICE_BYTES`, with all
        its copies where devices are cores of one CPU; a set that source.load found too large to decode is streamed.
      dataset: the training set.
      parallel: the devices.
    """
    size = dataset.images.nbytes
    copies = len(parallel.devices) // parallel.processes if parallel.devices[0].platform == "cpu" else 1
    reason = dataset.reason if placement == "auto" else "as set"
    if dataset.where == "stream":
        chosen, reason = "stream", dataset.reason
    elif placement == "auto":
        chosen = "device" if copies * size <= DEVICE_BYTES else "host"
        reason = "; ".join(filter(None, [f"auto: the device up to {DEVICE_BYTES / copies / 2**20:.0f} MiB", reason]))
    else:
        chosen = placement
        reason = "; ".join(filter(None, [reason, dataset.reason]))
    kind = {"device": DeviceFeed, "host": HostFeed, "stream": HostFeed}[chosen]
    if kind is DeviceFeed and size > DEVICE_BYTES:
        if parallel.seeds > 1 or parallel.mode == "pmap":
            raise UsageError(
                f"data.placement=device: a set of {files.gigabytes(size)} decoded is spread over the devices, which "
                "goes with one seed and --parallel=mesh; use data.placement=host"
            )
        kind = SpreadFeed
        count, free = len(parallel.devices), parallel.free_memory
        if count > 1 or free is not None:
            left = "" if free is None else f" of {files.gigabytes(free)} free"
            where = f" on each of {count} devices" if count > 1 else " of the device"
            reason = f"{files.gigabytes(size / count)}{left}{where}; {reason}"
    return kind, f"{chosen} ({size / 2**20:.1f} MiB decoded; {reason})"
