"""Strides that add up over the layers of a network."""

from collections.abc import Container

from cnn_jax.layers.windows import Geometry


def cumulative_strides(network, maps: Container[str]) -> dict[str, int]:
    """Returns the product of its own and all earlier strides for each layer with maps large enough to be shifted.

    It stops at the first layer without a whole-number stride, such as fractional pooling.

    Args:
      network: its layers may have shapes in place of numbers.
      maps: names of the layers with maps.
    """
    strides, product = {}, 1
    for layer in network.parts():
        if layer.name not in maps:
            continue
        stride = _stride(layer)
        if stride is None:
            break
        product *= stride
        if min(layer.output_shape[:2]) > 2:
            strides[layer.name] = product
    return strides


def _stride(layer):
    """Returns the factor by which a layer's maps are smaller than its input; None where it is not a whole number."""
    if not isinstance(getattr(layer, "geometry", None), Geometry):
        return 1  # normalisation
    if not getattr(layer, "stride_1_windows", False):
        return layer.geometry.stride[0]
    ratio = layer.input_shape[0] / layer.output_shape[0]  # windows lie at every pixel, and are sampled afterwards
    return round(ratio) if abs(ratio - round(ratio)) < 0.2 else None
