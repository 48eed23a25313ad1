"""Metrics of each layer in training: gradient and weight norms, and the share of dead ReLUs; computed beside the run.

They are taken when a training row is written, from the batch of the step before it and the parameters after it, by a
program of their own: the run's own steps stay what they are, to the bit.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cnn_jax import config
from cnn_jax.data.images.dataset import Dataset
from cnn_jax.devices import processes
from cnn_jax.layers.activations import Activation
from cnn_jax.training.learner import Learner
from cnn_jax.training.state import Network, TrainState
from cnn_jax.training.step import compute_dtype, make_gradients, prepare_images


def measure_layers(settings: config.Config, network: Network, state: TrainState, batch) -> dict[str, dict]:
    """Returns the norms of each layer's gradient and weights, and the share of ReLUs that are dead, by activation.

    A ReLU is one unit of a dense layer or one map of a convolution, in all its places. It is dead if it gives 0 for
    every image of the batch.

    Args:
      settings: the run's config.
      network: the model.
      state: of one network.
      batch: as of a training step.
    """
    _, gradient = make_gradients(settings, network)(state, batch)
    norms = lambda tree: {name: optax.tree.norm(leaves) for name, leaves in tree.items()}
    found = {"gradient_norm": norms(gradient), "weight_norm": norms(state.params), "dead": {}}
    if settings.model.activation == "relu":
        images = prepare_images(settings, batch["images"]).astype(compute_dtype(settings))
        for name, values in network.activations(state.evaluated, images).items():
            alive = (values > 0).reshape(-1, values.shape[-1]).any(axis=0)
            found["dead"][name] = jnp.mean(~alive, dtype=jnp.float32)
    return found


class LayerMetrics:
    """Rows of layers.jsonl.

    Args:
      learner: the networks.
      dataset: the training set.
    """

    def __init__(self, learner: Learner, dataset: Dataset):
        self._learner, self._dataset = learner, dataset
        self._measure = jax.jit(functools.partial(measure_layers, learner.settings, learner.network))
        weighted, self._owners = "", {}  # the layer with weights that each activation follows
        for layer in learner.model.parts():
            if isinstance(layer, Activation):
                self._owners[layer.name] = weighted
            elif layer.multiply_adds:
                weighted = layer.name

    def rows(self, place: int, state: TrainState, step: int) -> list[dict]:
        """Returns one row for each layer that has weights.

        Args:
          place: of the network among the learner's seeds.
          state: of all networks, after the step.
          step: at least 1.
        """
        index = self._learner.orders[place].batch(step - 1)
        batch = {
            "images": np.asarray(self._dataset.images[index]),
            "labels": self._dataset.labels[index],
            "index": index,
        }
        own = self._learner.each(processes.local_copy(state._replace(optimizer=())))[place]
        found = jax.device_get(self._measure(own, batch))
        dead = {self._owners[name]: float(share) for name, share in found["dead"].items()}
        return [
            {
                "step": step,
                "layer": name,
                "gradient_norm": float(found["gradient_norm"][name]),
                "weight_norm": float(found["weight_norm"][name]),
                "dead": dead.get(name),
            }
            for name in found["gradient_norm"]
        ]


class NoLayerMetrics:
    """Measures nothing."""

    def rows(self, place: int, state: TrainState, step: int) -> list[dict]:
        return []
