"""The same step on one device or many, of one process or many: plain jit, jit over a device mesh, or pmap.

  jit   one device.
  mesh  jit over all devices along one axis: the arithmetic of one device on the global batch, spread by XLA.
  pmap  a replica on each device, gradients averaged, as in the classic Flax examples.

Along the axis lie the examples of a batch or, where several seeds are trained together, the seeds: each device then has
its share of them, and nothing is exchanged. With one seed the state is whole (never stacked) in all three, so
checkpoints and evaluation do not know the difference. Where several processes share the devices, every process holds
the state in full, and feeds its own devices.
"""

import collections
import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnn_jax.errors import UsageError, UserError
from cnn_jax.files import gigabytes

AXIS = "data"
PIECE_BYTES = 2**29  # of an array that goes to a device piece by piece
# What XLA is told for a GPU: each start would choose anew among operations, by how long they take.
DETERMINISTIC = {"xla_gpu_deterministic_ops": True, "xla_gpu_autotune_level": 0}


class Parallel:
    """Devices, and how arrays and programs are laid over them.

    Args:
      mode: "auto", "jit", "mesh" or "pmap". auto: jit on one device, mesh on several (see also `choice.mode_for`).
      batch_size: examples per step over all devices, which must share them evenly; None: nothing is trained.
      devices: default: all, of all processes.
      accumulate: parts that each device takes its share of a batch in.
      seeds: trained together; with more than one, devices share the seeds instead of the batch.
      deterministic: whether programs give the same bits at every start, on GPUs too.

    Raises:
      UsageError: the batch or the seeds do not divide over the devices, or the processes are not alike.
    """

    def __init__(
        self,
        mode: str,
        batch_size: int | None = None,
        devices=None,
        accumulate: int = 1,
        seeds: int = 1,
        deterministic: bool = False,
    ):
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
        self.seeds = seeds
        self._options = DETERMINISTIC if deterministic and devices[0].platform == "gpu" else {}
        if self._options and mode == "pmap" and self.processes > 1:
            raise UsageError("train.deterministic does not go with --parallel=pmap of several processes: use mesh")
        if seeds > 1:
            _check_seeds(seeds, len(devices))
        elif batch_size is not None:
            _check_batch(batch_size, len(devices), accumulate, mode)
        self._mesh = Mesh(np.array(devices), (AXIS,))
        self.replicated = self._sharded(None)
        self.of_state = self._sharded(0) if seeds > 1 else self.replicated

    def __str__(self):
        kinds = sorted({device.device_kind for device in self.devices})
        devices = f"{len(self.devices)} {' and '.join(kinds)} device{'s' * (len(self.devices) > 1)}"
        return f"{self.mode} on {devices}{f' of {self.processes} processes' * (self.processes > 1)}"

    @property
    def free_memory(self) -> int | None:
        """Bytes left in the memory of each of this process's devices, the least of them; None where that is unknown."""
        own = [device for device in self.devices if device.process_index == jax.process_index()]
        found = [free_memory(device) for device in own]
        return None if None in found else min(found)

    def _sharded(self, axis):
        return NamedSharding(self._mesh, _spec(axis))

    def replicate(self, tree):
        """Arrays in full on every device; every process gives the same."""
        if self.processes == 1:
            return jax.device_put(tree, self.replicated)
        put = lambda leaf: jax.make_array_from_process_local_data(self.replicated, np.asarray(leaf), np.shape(leaf))
        return jax.tree.map(put, tree)

    def part(self, size: int) -> slice:
        """Returns the slice of `size` examples, divided among the processes, that this process gives to `split`."""
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

    def spread(self, rows: np.ndarray) -> jax.Array:
        """Returns an array of which each device has some rows, in order; zeros at its end make them alike.

        It goes to the devices piece by piece: no copy of it is made in the host's memory.

        Args:
          rows: uint8 [N, ...], or what gives that when it is sliced; the same in every process.

        Raises:
          UserError: the devices have not enough memory left.
        """
        each = -(-rows.shape[0] // len(self.devices))
        row_bytes = int(np.prod(rows.shape[1:]))
        local = [device for device in self.devices if device.process_index == jax.process_index()]
        count = min(each, max(1, PIECE_BYTES // row_bytes))
        for device in local:
            _check_memory(device, (each + count) * row_bytes, len(self.devices))
        write = jax.jit(jax.lax.dynamic_update_slice_in_dim, static_argnums=3, donate_argnums=0)
        found = []
        for device in local:
            first = self.devices.index(device) * each
            with jax.default_device(device):
                own = jnp.zeros((each, *rows.shape[1:]), np.uint8)
            for start in range(0, each, count):
                piece = np.asarray(rows[first + start : min(first + start + count, first + each, rows.shape[0])])
                if len(piece):
                    own = write(own, jax.device_put(piece, device), np.int32(start), 0)
            found.append(own)
        shape = (each * len(self.devices), *rows.shape[1:])
        return jax.make_array_from_single_device_arrays(shape, self._sharded(0), found)

    def gather(self, spread, index):
        """Rows of a `spread` array, one piece of them to each device; runs on the devices.

        Each device picks the rows it has, with zeros for the others, and the sum over the devices is split among them:
        what is exchanged is as large as the rows that are asked for, and not as the array.

        Args:
          spread: [N, ...].
          index: int32 [B], in full on each device.
        """
        specs = {"in_specs": (_spec(0), _spec(None)), "out_specs": _spec(0)}
        return jax.shard_map(_own_rows, mesh=self._mesh, check_vma=False, **specs)(spread, index)

    def scatter(self, tree):
        """Arrays [B, ...] that are in full on each device, cut along their first axis; runs on the devices."""
        return jax.tree.map(lambda leaf: lax.with_sharding_constraint(leaf, self._sharded(0)), tree)

    def place(self, state):
        """Places a state where the step wants it: whole on every device, or each device with its share of the seeds."""
        return self.split(state, 0) if self.seeds > 1 else self.replicate(state)

    def compile_run(self, run, data_axes: dict) -> "Program":
        """Compiles `run(state, data, count) -> (state, report)` for the devices; the state's buffers are reused.

        Args:
          run: from `step.make_run`; with several seeds of stacked states, see `each_seed`.
          data_axes: for each array of the data, the axis that is split over devices, or None.
        """
        if self.seeds > 1:
            return self._compile_seeds(run, data_axes)
        if self.mode != "pmap":
            axes = {name: self._sharded(axis) for name, axis in data_axes.items()}
            shardings = (self.replicated, axes, self.replicated)
            jitted = jax.jit(run, in_shardings=shardings, out_shardings=self.replicated, donate_argnums=0)
            return self._program(jitted)
        mapped = jax.pmap(
            functools.partial(run, axis=AXIS),
            axis_name=AXIS,
            in_axes=(None, data_axes, None),
            out_axes=None,
            donate_argnums=0,
            devices=self.devices,
        )
        count = len(self.devices) // self.processes

        def before(state, data, steps):
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
            return state, parts, steps

        def after(results):
            if self.processes == 1:
                return results
            return multihost_utils.host_local_array_to_global_array(results, self._mesh, PartitionSpec())

        # What pmap compiles ahead for several processes asks for the arrays of all of them (jax 0.10 and 0.12).
        return self._program(mapped, before, after, ahead=self.processes == 1)

    def _program(self, function, *around, **how):
        return Program(function, len(self.devices), *around, options=self._options, **how)

    def _compile_seeds(self, run, data_axes):
        """`compile_run` of stacked states: each device takes its share of the stack."""
        if self.mode != "pmap":
            own, whole = PartitionSpec(AXIS), PartitionSpec()
            arguments = own, {name: whole if axis is None else own for name, axis in data_axes.items()}, own
            # A program of its own on each device: nothing is exchanged. (The check would be of what is.)
            shares = {"mesh": self._mesh, "in_specs": arguments, "out_specs": own, "check_vma": False}
            return self._program(jax.jit(jax.shard_map(run, **shares), donate_argnums=0))
        mapped = jax.pmap(run, in_axes=(0, data_axes, 0), out_axes=0, donate_argnums=0, devices=self.devices)
        cut = lambda leaf: leaf.reshape(len(self.devices), -1, *leaf.shape[1:])
        join = lambda leaf: leaf.reshape(-1, *leaf.shape[2:])

        def before(state, data, steps):
            parts = {name: leaf if data_axes[name] is None else cut(leaf) for name, leaf in data.items()}
            return jax.tree.map(cut, state), parts, cut(steps)

        return self._program(mapped, before, lambda results: jax.tree.map(join, results))

    def compile_evaluation(self, function):
        """`function(variables, batches)` compiled, for arrays of [batches, examples, ...].

        Examples are split over the devices or, with several seeds, variables and results [seeds, ...]. Nothing is
        exchanged, but that of several processes each gets all results.
        """
        whole = PartitionSpec()
        if self.seeds > 1:
            own = PartitionSpec(AXIS)
            shares = {"mesh": self._mesh, "in_specs": (own, whole), "out_specs": own, "check_vma": False}
            return jax.jit(jax.shard_map(function, **shares), compiler_options=self._options or None)
        examples, spec = self._sharded(1), _spec(1)
        shares = {"mesh": self._mesh, "in_specs": (whole, spec), "out_specs": spec, "check_vma": False}
        return self._evaluation(jax.shard_map(function, **shares), (self.replicated, examples))

    def compile_spread_evaluation(self, function):
        """Compiles the same of one network for `(variables, spread, index, (labels, ...))`: images are in `spread`.

        Args:
          function: as for `compile_evaluation`.
        """
        whole, spec = PartitionSpec(), _spec(1)

        def fetched(variables, rows, index, rest):
            return function(variables, (_own_rows(rows, index), *rest))

        parts = whole, _spec(0), whole, spec
        shared = jax.shard_map(fetched, mesh=self._mesh, in_specs=parts, out_specs=spec, check_vma=False)
        return self._evaluation(shared, (self.replicated, self._sharded(0), self.replicated, self._sharded(1)))

    def _evaluation(self, shared, arguments):
        results = self._sharded(1) if self.processes == 1 else self.replicated
        placed = {"in_shardings": arguments, "out_shardings": results}
        return jax.jit(shared, **placed, compiler_options=self._options or None)


def _own_rows(rows, index):
    """On each device, its piece of the rows of a spread array that all ask for, split along the index's last axis."""
    place = index - lax.axis_index(AXIS) * rows.shape[0]
    mine = (place >= 0) & (place < rows.shape[0])
    found = rows[jnp.clip(place, 0, rows.shape[0] - 1)]
    found = jnp.where(mine.reshape(*mine.shape, *[1] * (rows.ndim - 1)), found, 0)
    return lax.psum_scatter(found, AXIS, scatter_dimension=index.ndim - 1, tiled=True)


def _check_memory(device, needed, devices):
    """Refuses to begin what does not fit into a device's memory, where that is known."""
    free = free_memory(device)
    if free is not None and needed > free:
        limit = device.memory_stats()["bytes_limit"]
        raise UserError(
            f"data.placement=device needs {gigabytes(needed)} on each of {devices} devices, and {device.device_kind} "
            f"has {gigabytes(free)} left of the {gigabytes(limit)} that JAX takes: XLA_PYTHON_CLIENT_MEM_FRACTION=.95 "
            "in the environment lets it take more than three quarters of a GPU; data.side=160 stores smaller images; "
            "data.placement=host keeps them on the host"
        )


def free_memory(device) -> int | None:
    """Bytes left of a device's memory that JAX takes; None where the device does not say, as a CPU's."""
    known = device.memory_stats() or {}
    return known["bytes_limit"] - known.get("bytes_in_use", 0) if "bytes_limit" in known else None


class Program:
    """A program that is compiled at its first call.

    Attributes:
      memory: bytes that a call takes on all devices: arguments, results and all in between; None before the first, and
        where the program is not compiled ahead.

    Args:
      function: jitted or mapped.
      devices: how many run it.
      before: what becomes of the arguments.
      after: what becomes of the results.
      ahead: whether it is compiled before it is called, which tells its memory.
      options: of the compiler; only ahead.
    """

    def __init__(
        self,
        function,
        devices: int,
        before=lambda *arguments: arguments,
        after=lambda results: results,
        ahead: bool = True,
        options: dict | None = None,
    ):
        self._function, self._devices, self._before, self._after = function, devices, before, after
        self._options = options or {}
        self._compiled = None if ahead else function
        self.memory: int | None = None

    def __call__(self, *arguments):
        arguments = self._before(*arguments)
        if self._compiled is None:
            self._compiled = self._function.lower(*arguments).compile(self._options or None)
            used = self._compiled.memory_analysis()  # of one device
            kept = used.argument_size_in_bytes + used.output_size_in_bytes - used.alias_size_in_bytes
            self.memory = self._devices * (kept + used.temp_size_in_bytes)
        return self._after(self._compiled(*arguments))


def each_seed(function, stacked, *shared):
    """Computes `function(one, *shared)` for each seed; results are stacked.

    An accelerator computes its seeds together, by vmap. A CPU takes one after the other: a step fills its caches, and
    under vmap it is half as fast (benchmarks/seeds.py). It is one program all the same, compiled once.

    Args:
      function: of one seed.
      stacked: what each seed has of its own, [seeds, ...].
      shared: what all have in common.
    """
    ways = {name: functools.partial(way, function) for name, way in WAYS.items()}
    return lax.platform_dependent(stacked, *shared, **ways)


def _together(function, stacked, *shared):
    return jax.vmap(function, in_axes=(0, *[None] * len(shared)))(stacked, *shared)


def _one_by_one(function, stacked, *shared):
    return lax.map(lambda one: function(one, *shared), stacked)


WAYS = {"cpu": _one_by_one, "default": _together}


def _check_batch(size, devices, accumulate, mode):
    unit = devices * accumulate
    if size % unit == 0:
        return
    below, above = size // unit * unit, -(-size // unit) * unit
    near = " or ".join(f"--set train.batch_size={size}" for size in (below, above) if size)
    parts = f" in optimizer.accumulate = {accumulate} parts each" * (accumulate > 1)
    raise UsageError(
        f"train.batch_size = {size} does not divide over {devices} devices{parts} "
        f"under --parallel={mode}: use {near}, or --parallel=jit for one device"
    )


def _check_seeds(seeds, devices):
    if seeds % devices:
        raise UsageError(
            f"{seeds} seeds do not divide over {devices} devices: set study.seeds or study.together to a multiple of "
            f"{devices}, or use --parallel=jit for one device"
        )


def _spec(axis):
    """The placement of arrays that are split along an axis; None: not at all."""
    return PartitionSpec() if axis is None else PartitionSpec(*[None] * axis, AXIS)
