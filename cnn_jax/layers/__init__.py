"""Layers: windows, padding, convolution, pooling, dense, activations. Each is written once for every axis order."""
