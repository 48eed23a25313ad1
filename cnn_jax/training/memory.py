"""The memory that a training step takes, told by the compiler."""

import functools

import jax
import jax.numpy as jnp

from cnn_jax import config
from cnn_jax.data.datasets import source
from cnn_jax.training import state as states
from cnn_jax.training.optimizer import make_optimizer, make_schedule
from cnn_jax.training.step import make_train_step


def step_memory(settings: config.Config, batch_size: int) -> int:
    """Returns the bytes of a training step on one device: weights, optimiser, batch and all in between.

    The step is compiled and not run. Images that are kept on the device beside the batch are not counted.

    Args:
      settings: the config, its layout resolved.
      batch_size: images of the step.
    """
    facts = source.facts(settings.data)
    shape = config.image_shape(settings.data, facts.shape)
    optimizer = make_optimizer(settings.optimizer)
    # Of the schedule only the form counts, and any length of the run has that.
    schedule = make_schedule(settings.schedule, settings.optimizer.learning_rate, 10**6, batch_size, batch_size)
    step = make_train_step(settings, states.make_network(settings, shape, facts.classes), schedule, optimizer)
    initial = functools.partial(states.initial_state, settings, shape, facts.classes, optimizer)
    batch = {
        "images": jax.ShapeDtypeStruct((batch_size, *facts.shape), jnp.uint8),
        "labels": jax.ShapeDtypeStruct((batch_size,), jnp.int32),
        "index": jax.ShapeDtypeStruct((batch_size,), jnp.int32),
    }
    used = jax.jit(step, donate_argnums=0).lower(jax.eval_shape(initial, 0), batch).compile().memory_analysis()
    return used.argument_size_in_bytes + used.output_size_in_bytes - used.alias_size_in_bytes + used.temp_size_in_bytes
