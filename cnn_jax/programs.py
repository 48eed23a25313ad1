"""Networks as programs that other tools run: StableHLO, which JAX and XLA read, and ONNX.

Both take images uint8 [N, height, width, channels] as the dataset stores them, for any N, and return logits and
probabilities float32 [N, classes]: what is done to the pixels first is part of the program, in one view of an image
where an evaluation may have several. They compute in float32.
"""

import dataclasses
import importlib
import json
import logging
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import export

from cnn_jax import config
from cnn_jax.data.facts import Facts
from cnn_jax.errors import UserError
from cnn_jax.training import state as states
from cnn_jax.training.state import Variables
from cnn_jax.training.step import forward, prepare_images

PLATFORMS = ("cpu", "cuda", "tpu")
OUTPUTS = ("logits", "probabilities")


def stablehlo(settings: config.Config, variables: Variables, facts: Facts, about: dict) -> bytes:
    """Returns a program of `jax.export`, for CPU, CUDA and TPU: `jax.export.deserialize(content).call(images)`.

    Args:
      settings: of the network.
      variables: its weights.
      facts: of its data.
      about: ignored; such a program has no room for it.

    Raises:
      UserError: a package is missing.
    """
    del about
    _needed("flatbuffers")
    compute, shape = _program(settings, variables, facts)
    (size,) = export.symbolic_shape("batch")
    images = jax.ShapeDtypeStruct((size, *shape), jnp.uint8)
    return bytes(export.export(jax.jit(compute), platforms=PLATFORMS)(images).serialize())


def onnx(settings: config.Config, variables: Variables, facts: Facts, about: dict) -> bytes:
    """Returns an ONNX model; arguments as `stablehlo`. It says what it is in its metadata, under "cnn_jax".

    Raises:
      UserError: a package is missing, or a layer has no counterpart in ONNX.
    """
    for name in ("onnx_ir.serde", "jax2onnx"):
        logging.getLogger(name).setLevel(logging.ERROR)  # shapes of constants that it leaves out, harmless
    jax2onnx = _needed("jax2onnx")
    compute, shape = _program(settings, variables, facts)
    images = jax.ShapeDtypeStruct(("batch", *shape), jnp.uint8)
    try:
        made = jax2onnx.to_onnx(
            compute, [images], model_name="network", input_names=["images"], output_names=[*OUTPUTS]
        )
    except (NotImplementedError, KeyError, ValueError) as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"this network cannot be written as ONNX: {reason}; --format=stablehlo has all") from error
    entry = made.metadata_props.add()
    entry.key, entry.value = "cnn_jax", json.dumps(about)
    return made.SerializeToString()


def _program(settings, variables, facts) -> tuple[Callable, tuple[int, int, int]]:
    """The function of images, in the common layout, and the shape of an image."""
    settings = dataclasses.replace(
        settings,
        model=dataclasses.replace(settings.model, layout="NHWC"),
        train=dataclasses.replace(settings.train, precision="float32"),
    )
    network = states.make_network(settings, config.image_shape(settings.data, facts.shape), facts.classes)
    variables = jax.device_get(variables)

    def compute(images):
        logits = forward(settings, network, variables, prepare_images(settings, images))[0].astype(jnp.float32)
        return logits, jax.nn.softmax(logits)

    return compute, facts.shape


def _needed(name):
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(
            f"this format needs the package {name}, which is not installed: pip install 'cnn_jax[export]', or in a "
            "checkout pip install -e '.[export]'"
        ) from error
