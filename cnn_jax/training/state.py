"""Everything that training changes, in one pytree of arrays."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx

from cnn_jax import config
from cnn_jax.models import make_model, outline
from cnn_jax.training.optimizer import PlateauState, plateau_init

# What a random number is for. Keys are folded from (seed, purpose, step, example), never from a device or process.
INITIAL_WEIGHTS, AUGMENTATION, DROPOUT = 1, 2, 3


class Totals(NamedTuple):
    """Sums over the steps since the last training row was written; float32 scalars but for the counts.

    They are part of the state, so that a run resumed between two rows writes the same row.
    """

    steps: jax.Array  # int32
    examples: jax.Array  # int32
    loss: jax.Array  # sum over steps of the mean loss of a batch
    correct: jax.Array  # int32, examples whose largest logit is right
    gradient_norm: jax.Array  # of the last step, before clipping


class TrainState(NamedTuple):
    """The state of a run after `step` optimiser steps.

    Attributes:
      seed: int32 scalar, what every random choice of the run starts from.
      step: int32 scalar.
      params: nested dict of float32 arrays, by layer and name.
      optimizer: the optimiser's own state.
      ema: averaged parameters that evaluation uses, or None when averaging is off.
      plateau: what the plateau schedule has seen.
      totals: sums for the next training row.
    """

    seed: jax.Array
    step: jax.Array
    params: dict
    optimizer: Any
    ema: dict | None
    plateau: PlateauState
    totals: Totals

    @property
    def evaluated(self) -> dict:
        """The parameters that evaluation uses."""
        return self.params if self.ema is None else self.ema


def zero_totals() -> Totals:
    """Totals of no steps."""
    # Arrays of their own each: the step gives its buffers back, and none may be given twice.
    return Totals(*(jnp.zeros((), kind) for kind in (jnp.int32, jnp.int32, jnp.float32, jnp.int32, jnp.float32)))


class Network(NamedTuple):
    """A model without its parameters; hashable, so that it can be baked into compiled programs."""

    graph: nnx.GraphDef

    def __call__(self, params: dict, images, keys=None):
        """Logits [N, classes] and named maps of images [N, H, W, C]; `keys` (one per example) switches dropout on."""
        return nnx.merge(self.graph, nnx.State(params), copy=True)(images, keys)


def make_network(settings: config.Config, image_shape, classes: int) -> Network:
    """The network of a config, with `model.layout` resolved.

    Raises:
      UsageError: a layer does not fit its input.
    """
    return Network(nnx.graphdef(outline(settings.model, image_shape, classes)))


def initial_params(settings: config.Config, image_shape, classes: int, seed) -> dict:
    """Initial weights, a function of the seed and the layers' names alone."""
    key = jax.random.fold_in(jax.random.key(seed), INITIAL_WEIGHTS)
    return nnx.to_pure_dict(nnx.state(make_model(settings.model, image_shape, classes, key), nnx.Param))


def initial_state(settings: config.Config, image_shape, classes: int, optimizer, seed) -> TrainState:
    """The state before the first step. Pure; compile it with jax.jit."""
    params = initial_params(settings, image_shape, classes, seed)
    return TrainState(
        seed=jnp.asarray(seed, jnp.int32),
        step=jnp.zeros((), jnp.int32),
        params=params,
        optimizer=optimizer.init(params),
        ema=jax.tree.map(jnp.copy, params) if settings.optimizer.ema else None,
        plateau=plateau_init(),
        totals=zero_totals(),
    )


def named_leaves(state) -> dict[str, jax.Array]:
    """Leaves of a pytree by dotted path, such as "params.conv1.kernel"."""
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {jax.tree_util.keystr(path, simple=True, separator="."): leaf for path, leaf in leaves}
