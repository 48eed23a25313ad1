"""Exchange of weights with PyTorch: the state dict of torchvision's AlexNet, which is `alexnet_owt` here.

PyTorch keeps convolution kernels as [features, channels, height, width], here [height, width, channels, features];
dense kernels as [units, inputs], here [inputs, units]. The first dense layer reads the last map flattened: there
channel by channel, here pixel by pixel.
"""

import json
import math
import os
import pathlib
from collections.abc import Sequence

import numpy as np
import safetensors
import safetensors.numpy

from cnn_jax import files, weights
from cnn_jax.errors import UserError

EXPERIMENT = "alexnet_owt_imagenet"  # whose network this is
SUFFIXES = (".safetensors", ".pth", ".pt")
# Torchvision's names; it numbers all modules, those without parameters too.
NAMES = {
    "conv1": "features.0",
    "conv2": "features.3",
    "conv3": "features.6",
    "conv4": "features.8",
    "conv5": "features.10",
    "dense1": "classifier.1",
    "dense2": "classifier.4",
    "output": "classifier.6",
}


def looks_like_torch(path) -> bool:
    """Tells by its suffix whether a file may hold a PyTorch state dict."""
    return str(path).endswith(SUFFIXES)


def load_torch(path, params_like: dict, fresh: Sequence[str] = ()) -> dict:
    """Returns the parameters of an `alexnet_owt` from a state dict of torchvision's AlexNet.

    Args:
      path: a .safetensors file, or .pth or .pt, which needs PyTorch to be installed.
      params_like: the network's parameters, nested dicts by layer and name, of arrays or anything with a shape.
      fresh: layers that are not taken from the file.

    Returns:
      The same nested dicts of NumPy float32 arrays, without the layers that are `fresh`.

    Raises:
      UserError: the file cannot be read, or is not of this network; the message lists the names that are missing,
        unexpected or of another shape.
    """
    # DataParallel puts "module." before all names or, in the training script of PyTorch's examples, after "features.".
    stored = {name.replace("module.", "", 1): value for name, value in _read(pathlib.Path(path)).items()}
    wanted = _shapes(params_like)
    if {layer for layer, _ in wanted} != set(NAMES):
        raise UserError(
            f"{path} holds weights for torchvision's AlexNet, and this network has the layers "
            f"{', '.join(params_like)}: use an experiment whose model is alexnet_owt"
        )
    names = {_torch_name(*key): (key, _torch_shape(shape)) for key, shape in wanted.items()}
    expected = {name: found for name, found in names.items() if found[0][0] not in fresh}
    shapes = {name: shape for name, (_, shape) in expected.items()}
    hint = (
        "It must be a state dict of torchvision's AlexNet, with as many classes as the data, and images of a size that "
        f"makes the last map as large; {weights.FRESH}"
    )
    weights.check(path, stored, shapes, names, hint)
    params = {layer: {} for layer in params_like if layer not in fresh}
    for name, (key, _) in expected.items():
        params[key[0]][key[1]] = _to_ours(key, stored[name].astype(np.float32), wanted)
    return params


def class_names(path) -> tuple[str, ...]:
    """Returns what each logit of a network that `save_torch` wrote stands for; empty where the file does not say it."""
    if not str(path).endswith(".safetensors"):
        return ()
    try:
        with safetensors.safe_open(path, "numpy") as file:
            return tuple(json.loads((file.metadata() or {}).get("class_names", "[]")))
    except Exception:  # whatever a damaged file makes of it; `load_torch` says so
        return ()


def save_torch(params: dict, path, class_names: Sequence[str] = ()) -> None:
    """Writes the parameters of an `alexnet_owt` as a state dict with torchvision's names.

    PyTorch reads it with `model.load_state_dict(safetensors.torch.load_file(path))`.

    Args:
      params: nested dict of arrays by layer and name.
      path: of the .safetensors file; an existing one is replaced.
      class_names: what each logit stands for; kept as JSON in the file's metadata.

    Raises:
      UserError: the parameters are not of an `alexnet_owt`, or the name does not end in .safetensors.
    """
    if not str(path).endswith(".safetensors"):
        raise UserError(f"{path} must end in .safetensors, the format that is written")
    if set(params) != set(NAMES):
        raise UserError(
            f"only networks of the model alexnet_owt have a counterpart in torchvision; this one has the layers "
            f"{', '.join(params)}"
        )
    shapes = _shapes(params)
    tensors = {_torch_name(*key): _to_torch(key, np.asarray(params[key[0]][key[1]]), shapes) for key in shapes}
    content = safetensors.numpy.save(tensors, metadata={"format": "pt", "class_names": json.dumps(class_names)})
    try:
        files.replace(files.place(os.fspath(path), f"--out={path}"), lambda file: file.write(content))
    except OSError as error:
        raise UserError(f"{path} cannot be written: {error.strerror}; choose another file with --out") from error


def _shapes(params):
    return {(layer, name): tuple(leaf.shape) for layer, leaves in params.items() for name, leaf in leaves.items()}


def _torch_name(layer, name):
    return f"{NAMES[layer]}.{'weight' if name == 'kernel' else name}"


def _torch_shape(shape):
    return (*shape[:1:-1], *shape[:2]) if len(shape) == 4 else shape[::-1]


def _last_map(shapes):
    """Height, width and channels of the map that the first dense layer reads, which torchvision has square."""
    channels, inputs = shapes["conv5", "kernel"][-1], shapes["dense1", "kernel"][0]
    side = math.isqrt(inputs // channels)
    if side * side * channels != inputs:
        raise UserError(f"dense1 reads {inputs // channels} pixels of {channels} channels; torchvision reads a square")
    return side, side, channels


def _to_ours(key, tensor, shapes):
    if tensor.ndim == 4:
        return tensor.transpose(2, 3, 1, 0)
    if key == ("dense1", "kernel"):
        height, width, channels = _last_map(shapes)
        return tensor.reshape(-1, channels, height, width).transpose(2, 3, 1, 0).reshape(-1, tensor.shape[0])
    return tensor.T


def _to_torch(key, leaf, shapes):
    if leaf.ndim == 4:
        tensor = leaf.transpose(3, 2, 0, 1)
    elif key == ("dense1", "kernel"):
        tensor = leaf.reshape(*_last_map(shapes), -1).transpose(3, 2, 0, 1).reshape(leaf.shape[1], -1)
    else:
        tensor = leaf.T
    return np.ascontiguousarray(tensor)


def _read(path):
    """Arrays by name."""
    if not path.is_file():
        raise UserError(f"{path}: there is no such file")
    if path.suffix == ".safetensors":
        return weights.read(path)
    try:
        import torch
    except ImportError:
        raise UserError(
            f"{path}: reading this format needs PyTorch, which is not installed. Install it (pip install torch), or "
            "convert the file where it is: safetensors.torch.save_file(torch.load(file), 'alexnet.safetensors')"
        ) from None
    try:
        stored = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # what a damaged file makes of the archive, the pickle and the tensors in it
        raise UserError(f"{path} is not a readable PyTorch file: {files.reason(error)}") from error
    for wrapper in ("state_dict", "model"):  # as training scripts save them, beside their epoch and optimiser
        if isinstance(stored, dict) and isinstance(stored.get(wrapper), dict):
            stored = stored[wrapper]
    named = isinstance(stored, dict) and all(isinstance(name, str) for name in stored)
    if not named or not all(isinstance(value, torch.Tensor) for value in stored.values()):
        raise UserError(f"{path} is not a state dict, tensors by name; save `model.state_dict()`")
    for name, value in stored.items():
        plain = value.layout == torch.strided and not value.is_meta and not value.is_quantized
        if not plain or not value.is_floating_point():
            kind = str(value.dtype if plain else value.layout if value.layout != torch.strided else "no plain numbers")
            raise UserError(f"{path}: {name} is of {kind}; parameters are dense floating-point tensors")
    return {name: value.detach().float().numpy() for name, value in stored.items()}
