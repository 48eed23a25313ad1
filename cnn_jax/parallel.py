"""The same step on one device or many: plain jit, jit over a device mesh, or pmap.

  jit   one device.
  mesh  jit over all devices along one axis: the arithmetic of one device on the global batch, spread by XLA.
  pmap  a replica on each device, gradients averaged, as in the classic Flax examples.

The state is whole (never stacked) in all three, so checkpoints and evaluation do not know the difference.
"""

import functools

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnn_jax.errors import UsageError

AXIS = "data"


class Parallel:
    """Devices, and how arrays and programs are laid over them.

    Args:
      mode: "auto", "jit", "mesh" or "pmap". auto: jit on one device, mesh on several.
      batch_size: examples per step over all devices, which must share them evenly; None: nothing is trained.
      devices: default: all of the process.
      accumulate: parts that each device takes its share of a batch in.

    Raises:
      UsageError: the batch does not divide over the devices and parts.
    """

    def __init__(self, mode: str, batch_size: int | None = None, devices=None, accumulate: int = 1):
        devices = list(jax.devices() if devices is None else devices)
        if mode == "auto":
            mode = "jit" if len(devices) == 1 else "mesh"
        if mode == "jit":
            devices = devices[:1]
        self.mode = mode
        self.devices = devices
        unit = len(devices) * accumulate
        if batch_size is not None and batch_size % unit:
            below, above = batch_size // unit * unit, -(-batch_size // unit) * unit
            near = " or ".join(f"--set train.batch_size={size}" for size in (below, above) if size)
            parts = f" in optimizer.accumulate = {accumulate} parts each" * (accumulate > 1)
            raise UsageError(
                f"train.batch_size = {batch_size} does not divide over {len(devices)} devices{parts} "
                f"under --parallel={mode}: use {near}, or --parallel=jit for one device"
            )
        mesh = Mesh(np.array(devices), (AXIS,))
        self.replicated = NamedSharding(mesh, PartitionSpec())
        self._sharded = lambda axis: NamedSharding(mesh, PartitionSpec(*[None] * axis, AXIS))

    def __str__(self):
        kinds = sorted({device.device_kind for device in self.devices})
        return f"{self.mode} on {len(self.devices)} {' and '.join(kinds)} device{'s' * (len(self.devices) > 1)}"

    def replicate(self, tree):
        """Arrays in full on every device."""
        return jax.device_put(tree, self.replicated)

    def split(self, tree, axis: int):
        """Arrays cut along an axis, whose length the devices divide, one part to each device."""
        return jax.device_put(tree, self._sharded(axis))

    def compile_run(self, run, data_axes: dict):
        """`run(state, data, count)` compiled for the devices; the state's buffers are reused.

        Args:
          run: from `step.make_run`.
          data_axes: for each array of the data, the axis that is split over devices, or None.
        """
        if self.mode != "pmap":
            axes = {name: self.replicated if axis is None else self._sharded(axis) for name, axis in data_axes.items()}
            shardings = (self.replicated, axes, self.replicated)
            return jax.jit(run, in_shardings=shardings, out_shardings=self.replicated, donate_argnums=0)
        mapped = jax.pmap(
            functools.partial(run, axis=AXIS),
            axis_name=AXIS,
            in_axes=(None, data_axes, None),
            out_axes=None,
            donate_argnums=0,
            devices=self.devices,
        )
        count = len(self.devices)

        def stacked(state, data, steps):
            # pmap wants an axis as long as the devices are many: [..., batch, ...] becomes [..., devices, part, ...].
            cut = lambda leaf, axis: leaf.reshape(*leaf.shape[:axis], count, -1, *leaf.shape[axis + 1 :])
            parts = {
                name: leaf if data_axes[name] is None else cut(leaf, data_axes[name]) for name, leaf in data.items()
            }
            return mapped(state, parts, steps)

        return stacked

    def compile_evaluation(self, function):
        """`function(params, batches)` compiled; arrays of [batches, examples, ...], examples split over the devices."""
        examples = self._sharded(1)
        return jax.jit(function, in_shardings=(self.replicated, examples), out_shardings=examples)
