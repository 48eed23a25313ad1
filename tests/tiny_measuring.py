"""Contexts to try measurements on: a few images, and networks whose answers are known."""

import numpy as np

from cnn_jax.studies.measurements.base import Context


def context(
    images, labels=None, *, predict=None, maps=None, uphill=None, reach=4, draws=5, epsilon=8, margin=0, strides=None
):
    """A context without what the measurement does not use."""
    return Context(
        predict=predict,
        maps=maps,
        uphill=uphill,
        images=images,
        labels=labels,
        few=images,
        reach=reach,
        draws=draws,
        epsilon=epsilon,
        margin=margin,
        strides=strides or {},
    )


def moved(image, down, right, circular):
    """One image [H, W, C], moved pixel by pixel."""
    out = np.zeros_like(image)
    height, width = image.shape[:2]
    for row in range(height):
        for column in range(width):
            to = row + down, column + right
            if circular:
                out[to[0] % height, to[1] % width] = image[row, column]
            elif 0 <= to[0] < height and 0 <= to[1] < width:
                out[to] = image[row, column]
    return out


def noise(count, side=6, seed=0, low=0):
    """Random images of two channels, low to 255."""
    return np.random.RandomState(seed).randint(low, 256, (count, side, side, 2)).astype(np.uint8)


def dot(count, side=13):
    """One white pixel in the middle of a black image."""
    images = np.zeros((count, side, side, 1), np.uint8)
    images[:, side // 2, side // 2] = 255
    return images


def place(images):
    """Row and column of the brightest pixel, two [N]."""
    return np.unravel_index(images.reshape(len(images), -1).argmax(1), images.shape[1:3])


def certain(classes, count=10):
    """Classes [seeds, N] as probabilities of 1 and 0."""
    return np.eye(count, dtype=np.float32)[np.asarray(classes)]


def linear(images):
    """Two seeds of a random linear classifier in three classes."""
    weights = np.random.RandomState(7).standard_normal((2, images[0].size, 3)) * 0.03
    logits = (images.reshape(len(images), -1) / 255) @ weights * 10
    return (np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)).astype(np.float32)


def constant_zero(images):
    """One seed that always answers class 0."""
    return certain([np.zeros(len(images), int)])
