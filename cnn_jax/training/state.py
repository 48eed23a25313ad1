"""Everything that training changes, in one pytree of arrays."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from cnn_jax import config, randomness
from cnn_jax.models import make_model, outline
from cnn_jax.models.network import Layers
from cnn_jax.training.optimizer import PlateauState, plateau_init


class Totals(NamedTuple):
    """Sums over the steps since the last training row was written; float32 scalars but for the counts.

    They are part of the state, so that a run resumed between two rows writes the same row.
    """

    steps: jax.Array  # int32
    examples: jax.Array  # int32
    loss: jax.Array  # sum over steps of the mean loss of a batch
    correct: jax.Array  # int32, examples whose largest logit is right
    gradient_norm: jax.Array  # of the last step, before clipping


class Variables(NamedTuple):
    """The parameters and statistics of a network: nested dicts of float32 arrays, by layer and name.

    Attributes:
      params: what the optimiser trains.
      batch_stats: running means and variances of batch normalisation; empty without it.
    """

    params: dict
    batch_stats: dict


class TrainState(NamedTuple):
    """The state of a run after `step` optimiser steps.

    Attributes:
      seed: int32 scalar, what every random choice of the run starts from.
      step: int32 scalar.
      params: nested dict of float32 arrays, by layer and name.
      batch_stats: running means and variances of batch normalisation, likewise; empty without it.
      optimizer: the optimiser's own state.
      ema: averaged parameters that evaluation uses, or None when averaging is off.
      plateau: what the plateau schedule has seen.
      totals: sums for the next training row.
    """

    seed: jax.Array
    step: jax.Array
    params: dict
    batch_stats: dict
    optimizer: Any
    ema: dict | None
    plateau: PlateauState
    totals: Totals

    @property
    def evaluated(self) -> Variables:
        """The variables that evaluation uses: the averaged parameters where there are any, and the statistics."""
        return Variables(self.params if self.ema is None else self.ema, self.batch_stats)


class Report(NamedTuple):
    """What a stretch of steps leaves to be read while the next one is computed, which uses up the state itself.

    Attributes:
      counts: int32 [4] or, of several networks, [R, 4]: steps, examples and right answers of the totals, and whether
        loss and gradient were finite.
      values: float32 [2] or [R, 2]: the loss of the totals, and the norm of the last gradient.
    """

    counts: jax.Array
    values: jax.Array

    @classmethod
    def of(cls, state: "TrainState") -> "Report":
        """Returns the report of one network."""
        totals = state.totals
        counts = totals.steps, totals.examples, totals.correct, is_finite(state).astype(jnp.int32)
        return cls(jnp.stack(counts), jnp.stack((totals.loss, totals.gradient_norm)))

    @property
    def finite(self) -> np.ndarray:
        """Tells whether loss and gradient were finite; bool, a scalar or [R]. Waits for the devices."""
        return np.asarray(self.counts)[..., 3] > 0

    def totals(self) -> list[Totals]:
        """Returns the totals of each network, on the host. Waits for the devices."""
        pairs = zip(np.asarray(self.counts).reshape(-1, 4), np.asarray(self.values).reshape(-1, 2))
        return [Totals(steps, examples, loss, correct, norm) for (steps, examples, correct, _), (loss, norm) in pairs]


def is_finite(state: "TrainState") -> jax.Array:
    """Returns whether loss and gradient were finite in all steps so far, as far as the totals know; bool scalar."""
    return jnp.isfinite(state.totals.loss) & jnp.isfinite(state.totals.gradient_norm)


def zero_totals() -> Totals:
    """Totals of no steps."""
    # Arrays of their own each: the step gives its buffers back, and none may be given twice.
    return Totals(*(jnp.zeros((), kind) for kind in (jnp.int32, jnp.int32, jnp.float32, jnp.int32, jnp.float32)))


class Network(NamedTuple):
    """A model without its variables; hashable, so that it can be baked into compiled programs.

    Attributes:
      graph: its structure.
      classes: number of logits.
    """

    graph: nnx.GraphDef
    classes: int

    def __call__(self, variables: Variables, images, keys=None, training: bool = False):
        """Logits [N, classes], named maps, and the statistics afterwards, of images [N, H, W, C].

        Args:
          variables: what the network computes with.
          images: [N, H, W, C].
          keys: one PRNG key per example; random pooling draws with them and, in training, dropout.
          training: batch normalisation uses the statistics of the batch, and moves the running ones.
        """
        model = self.model(variables)
        logits, maps = model(images, keys, training)
        return logits, maps, nnx.to_pure_dict(nnx.state(model, nnx.BatchStat))

    def activations(self, variables: Variables, images) -> dict[str, jax.Array]:
        """Returns the output of each activation in evaluation; see `Layers.activations`."""
        return self.model(variables).activations(images)

    def model(self, variables: Variables) -> Layers:
        """Returns the model with its variables."""
        return nnx.merge(self.graph, *map(nnx.State, variables), copy=True)


def make_network(settings: config.Config, image_shape, classes: int) -> Network:
    """Returns the network of a config, with `model.layout` resolved.

    Raises:
      UsageError: a layer does not fit its input.
    """
    graph, *_ = nnx.split(outline(settings.model, image_shape, classes), nnx.Param, nnx.BatchStat)
    return Network(graph, classes)


def initial_variables(settings: config.Config, image_shape, classes: int, seed) -> Variables:
    """Draws initial weights, a function of the seed and the layers' names alone."""
    key = jax.random.fold_in(jax.random.key(seed), randomness.INITIAL_WEIGHTS)
    model = make_model(settings.model, image_shape, classes, key)
    return Variables(*(nnx.to_pure_dict(nnx.state(model, kind)) for kind in (nnx.Param, nnx.BatchStat)))


def initial_state(settings: config.Config, image_shape, classes: int, optimizer, seed) -> TrainState:
    """Returns the state before the first step. Pure; compile it with jax.jit."""
    params, batch_stats = initial_variables(settings, image_shape, classes, seed)
    return TrainState(
        seed=jnp.asarray(seed, jnp.int32),
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        optimizer=optimizer.init(params),
        ema=jax.tree.map(jnp.copy, params) if settings.optimizer.ema else None,
        plateau=plateau_init(),
        totals=zero_totals(),
    )


def named_leaves(state) -> dict[str, jax.Array]:
    """Leaves of a pytree by dotted path, such as "params.conv1.kernel"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
