"""The place a split's images come from: memory, a decoded cache on disk, or their files, decoded at every use.

`data.placement` says "device", "host" or "stream", or "auto":

  device  a set of at most `DEVICE_BYTES` decoded; it is put into device memory (feed.py).
  host    a larger one, if its cache is there or would leave the disk as much room again.
  stream  any other.

A set of that size whose images are stored at their final size is an array, over its cache where there is one; where
none can be written it is decoded into memory at every start.
"""

import os

import numpy as np

from cnn_jax import config, files
from cnn_jax.data.images import cache, workers
from cnn_jax.data.images.reader import ImageSource, LazyImages
from cnn_jax.errors import UsageError, UserError

DEVICE_BYTES = 2**31  # largest decoded set that "auto" puts on the device
COMFORTABLE = 2  # times the size of a cache that must be free before "auto" builds it


def place(data: config.Data, source: ImageSource, rows: np.ndarray, cached: cache.Cache | None):
    """Returns the images of some rows of a source, as `data.placement` asks.

    Args:
      data: the settings.
      source: reads single images.
      rows: int [N], which ones.
      cached: where its decoded images go; None: nowhere, for images that take no reading.

    Returns:
      (images, where, reason): an array or LazyImages, uint8 [N, H, W, C]; "memory", "cache" or "stream"; and why, for
      the log.

    Raises:
      UserError: the disk or the memory has no room for what is asked, or too many images are damaged.
    """
    small = len(rows) * int(np.prod(source.shape)) <= DEVICE_BYTES
    processes = _by_processes(data, small)
    count = data.workers or files.cores()
    by = f"by {count} {'processes' if processes else 'threads'}"
    lazy = lambda each, processes: LazyImages(each, rows, data.workers, data.corrupt, processes)
    images = lazy(source, processes)
    if data.placement == "stream":
        return images, "stream", f"as set; decoded {by}"
    if cached is None:
        if data.placement == "auto" and not small:
            return images, "stream", f"auto: more than {files.gigabytes(DEVICE_BYTES)} decoded, {by}"
        return _in_memory(images, source), "memory", ""
    whole = source.exact and cached.nbytes <= DEVICE_BYTES  # the cache itself is the array
    if data.limit and small and not whole and not cached.is_complete():
        return _in_memory(images, source), "memory", ""
    if (whole or data.placement == "auto") and not cached.is_complete():
        problem = _uncomfortable(cached)
        if problem and whole:
            return _in_memory(images, source), "memory", ""
        if problem:
            return images, "stream", f"auto: {problem}; decoded {by}"
    cached.build(data.workers, processes)
    if whole:
        return _rows_of(_sound(cached, data.workers, processes), rows), "memory", ""
    return lazy(cached.source(), False), "cache", f"decoded in {cached.path}"


def _by_processes(data, small):
    """Tells whether processes decode, and not threads."""
    if data.decoders == "processes" and not workers.are_possible():
        raise UsageError("data.decoders=processes: they need Linux; use threads")
    large = not small and files.cores() >= workers.MANY_CORES and workers.are_possible()
    return data.decoders == "processes" or data.decoders == "auto" and large


def _sound(cached, count, processes):
    """All images of a complete cache, which is made anew where it is damaged."""
    try:
        return cached.images()
    except cache.Damaged as error:
        cached.discard(error)
        cached.build(count, processes)
        return cached.images()


def _rows_of(images, rows):
    """Some rows, ascending; the first ones are no copy."""
    chosen = images[: len(rows)] if len(rows) and rows[-1] == len(rows) - 1 else images[rows]
    chosen.flags.writeable = False
    return chosen


def _in_memory(images, source):
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    if images.nbytes > memory // 2:
        raise UserError(
            f"{source.title} needs {files.gigabytes(images.nbytes)} decoded, and half the memory is "
            f"{files.gigabytes(memory // 2)}: use --set data.placement=stream"
        )
    array = images[:]
    array.flags.writeable = False
    return array


def _uncomfortable(cached):
    """Returns the reason not to build a cache unless asked to; "" if there is none."""
    folder = cached.path.parent
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    free = files.free_bytes(folder)
    if not (nearest.is_dir() and os.access(nearest, os.W_OK)):
        return f"no permission to write the decoded images to {folder}"
    if cached.nbytes * COMFORTABLE > free:
        return (
            f"{files.gigabytes(cached.nbytes)} decoded, {files.gigabytes(free)} free in {folder}; "
            "data.placement=host takes it all the same"
        )
    return ""
