"""The same step on one device or many, of one process or many: plain jit, jit over a device mesh, or pmap.

  jit   one device.
  mesh  jit over all devices along one axis: the arithmetic of one device on the global batch, spread by XLA.
  pmap  a replica on each device, gradients averaged, as in the classic Flax examples.

The state is whole (never stacked) in all three, so checkpoints and evaluation do not know the difference. Where several
processes share the devices, every process holds the state in full, and feeds its own devices.
"""

import collections
import contextlib
import functools
import os

import jax
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnn_jax.errors import UsageError

AXIS = "data"


class Parallel:
    """Devices, and how arrays and programs are laid over them.

    Args:
      mode: "auto", "jit", "mesh" or "pmap". auto: jit on one device, mesh on several (see also `run.shares_cores`).
      batch_size: examples per step over all devices, which must share them evenly; None: nothing is trained.
      devices: default: all, of all processes.
      accumulate: parts that each device takes its share of a batch in.

    Raises:
      UsageError: the batch does not divide over the devices and parts, or the processes are not alike.
    """

    def __init__(self, mode: str, batch_size: int | None = None, devices=None, accumulate: int = 1):
        devices = list(jax.devices() if devices is None else devices)
        devices.sort(key=lambda device: device.process_index)  # so that the part of a process is one piece
        counts = collections.Counter(device.process_index for device in devices)
        if len(set(counts.values())) > 1:
            raise UsageError(f"every process must have as many devices as the others; they have {dict(counts)}")
        if mode == "auto":
            mode = "jit" if len(devices) == 1 else "mesh"
        if mode == "jit":
            devices = devices[:1]
        self.mode = mode
        self.devices = devices
        self.processes = len(counts)
        unit = len(devices) * accumulate
        if batch_size is not None and batch_size % unit:
            below, above = batch_size // unit * unit, -(-batch_size // unit) * unit
            near = " or ".join(f"--set train.batch_size={size}" for size in (below, above) if size)
            parts = f" in optimizer.accumulate = {accumulate} parts each" * (accumulate > 1)
            raise UsageError(
                f"train.batch_size = {batch_size} does not divide over {len(devices)} devices{parts} "
                f"under --parallel={mode}: use {near}, or --parallel=jit for one device"
            )
        self._mesh = Mesh(np.array(devices), (AXIS,))
        self.replicated = self._sharded(None)

    def __str__(self):
        kinds = sorted({device.device_kind for device in self.devices})
        devices = f"{len(self.devices)} {' and '.join(kinds)} device{'s' * (len(self.devices) > 1)}"
        return f"{self.mode} on {devices}{f' of {self.processes} processes' * (self.processes > 1)}"

    def _sharded(self, axis):
        return NamedSharding(self._mesh, _spec(axis))

    def replicate(self, tree):
        """Arrays in full on every device; every process gives the same."""
        if self.processes == 1:
            return jax.device_put(tree, self.replicated)
        put = lambda leaf: jax.make_array_from_process_local_data(self.replicated, np.asarray(leaf), np.shape(leaf))
        return jax.tree.map(put, tree)

    def part(self, size: int) -> slice:
        """Which of so many examples, that the processes divide, this process gives to `split`."""
        each = size // self.processes
        start = jax.process_index() * each if self.processes > 1 else 0
        return slice(start, start + each)

    def split(self, tree, axis: int):
        """Arrays cut along an axis, whose length the devices divide, one piece to each device.

        Args:
          tree: each process gives its `part` of the axis.
          axis: from 0.
        """
        sharding = self._sharded(axis)
        if self.processes == 1:
            return jax.device_put(tree, sharding)
        whole = lambda shape: (*shape[:axis], shape[axis] * self.processes, *shape[axis + 1 :])
        put = lambda leaf: jax.make_array_from_process_local_data(sharding, leaf, whole(leaf.shape))
        return jax.tree.map(put, tree)

    def compile_run(self, run, data_axes: dict):
        """`run(state, data, count)` compiled for the devices; the state's buffers are reused.

        Args:
          run: from `step.make_run`.
          data_axes: for each array of the data, the axis that is split over devices, or None.
        """
        if self.mode != "pmap":
            axes = {name: self._sharded(axis) for name, axis in data_axes.items()}
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
        count = len(self.devices) // self.processes

        def stacked(state, data, steps):
            if self.processes > 1:  # pmap takes and gives the arrays of one process; nothing is copied
                axes = {name: _spec(axis) for name, axis in data_axes.items()}
                state, data = multihost_utils.global_array_to_host_local_array(
                    (state, data), self._mesh, (PartitionSpec(), axes)
                )
            # pmap wants an axis as long as the devices are many: [..., batch, ...] becomes [..., devices, part, ...].
            cut = lambda leaf, axis: leaf.reshape(*leaf.shape[:axis], count, -1, *leaf.shape[axis + 1 :])
            parts = {
                name: leaf if data_axes[name] is None else cut(leaf, data_axes[name]) for name, leaf in data.items()
            }
            results = mapped(state, parts, steps)
            if self.processes > 1:
                results = multihost_utils.host_local_array_to_global_array(results, self._mesh, PartitionSpec())
            return results

        return stacked

    def compile_seeds(self, run, state, data: dict, state_axes, data_axes: dict):
        """`run(state, data, count)` of stacked states compiled, each device taking its share of the stack.

        Args:
          run: see `studies.side_by_side`; gives states and an array [seeds].
          state: states of the right shapes; their buffers are reused by each call.
          data: arrays of the right shapes.
          state_axes: 0 for each part of the state that is stacked, else None.
          data_axes: likewise for each array of the data.

        Returns:
          The program, and the bytes that a call of it takes on all devices: arguments, results and all in between.
        """
        count = np.int32(1)
        if self.mode != "pmap":
            spec = lambda axis: PartitionSpec() if axis is None else PartitionSpec(AXIS)
            states = type(state)(*map(spec, state_axes))
            arguments = (states, {name: spec(axis) for name, axis in data_axes.items()}, PartitionSpec())
            # A program of its own on each device: nothing is exchanged. (The check would be of what is.)
            shares = {"mesh": self._mesh, "in_specs": arguments, "out_specs": (states, spec(0)), "check_vma": False}
            program = jax.jit(jax.shard_map(run, **shares), donate_argnums=0).lower(state, data, count).compile()
            return program, self._bytes(program)
        axes = (state_axes, data_axes, None)
        mapped = jax.pmap(run, in_axes=axes, out_axes=(state_axes, 0), donate_argnums=0, devices=self.devices)
        cut = lambda leaf: leaf.reshape(len(self.devices), -1, *leaf.shape[1:])
        join = lambda leaf: leaf.reshape(-1, *leaf.shape[2:])

        def along(change, parts, axes):
            return [part if axis is None else jax.tree.map(change, part) for part, axis in zip(parts, axes)]

        def stacked(state, data, steps):
            state = type(state)(*along(cut, state, state_axes))
            data = dict(zip(data, along(cut, data.values(), [data_axes[name] for name in data])))
            return state, data, steps

        program = mapped.lower(*stacked(state, data, count)).compile()

        def call(state, data, steps):
            state, finite = program(*stacked(state, data, steps))
            return type(state)(*along(join, state, state_axes)), join(finite)

        return call, self._bytes(program)

    def _bytes(self, program):
        used = program.memory_analysis()  # of one device
        kept = used.argument_size_in_bytes + used.output_size_in_bytes - used.alias_size_in_bytes
        return len(self.devices) * (kept + used.temp_size_in_bytes)

    def over_seeds(self, function):
        """`function(stacked, shared)` compiled: each device takes its share of the stack, and nothing is exchanged.

        Args:
          function: gives arrays [seeds, ...].
        """
        spread, whole = PartitionSpec(AXIS), PartitionSpec()
        shares = {"mesh": self._mesh, "in_specs": (spread, whole), "out_specs": spread, "check_vma": False}
        mapped = jax.jit(jax.shard_map(function, **shares))
        return lambda stacked, shared: mapped(self.split(stacked, 0), shared)

    def compile_evaluation(self, function):
        """`function(variables, batches)` compiled; arrays of [batches, examples, ...], examples split over the devices.

        Nothing is exchanged, but that of several processes each gets all results.
        """
        examples, spec = self._sharded(1), _spec(1)
        shares = {"mesh": self._mesh, "in_specs": (PartitionSpec(), spec), "out_specs": spec, "check_vma": False}
        results = examples if self.processes == 1 else self.replicated
        placed = {"in_shardings": (self.replicated, examples), "out_shardings": results}
        return jax.jit(jax.shard_map(function, **shares), **placed)


def a_device_for_each_core(fits) -> None:
    """Makes a CPU as many devices as it has cores, or as fit; to be called before JAX looks for any.

    A number that the user has set, by JAX_NUM_CPU_DEVICES or XLA_FLAGS, stands. Accelerators are left as they are.

    Args:
      fits: whether so many devices can share the work; one always can.
    """
    if jax.config.jax_num_cpu_devices < 0 and "device_count" not in os.environ.get("XLA_FLAGS", ""):
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        with contextlib.suppress(RuntimeError):  # JAX has found its devices, in a notebook say: they stay what they are
            jax.config.update("jax_num_cpu_devices", max([1, *filter(fits, range(2, cores + 1))]))


def _spec(axis):
    """The placement of arrays that are split along an axis; None: not at all."""
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS)
