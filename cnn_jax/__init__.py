"""LeNet-5 and AlexNet in JAX and Flax: train, study and trust them."""

__version__ = "0.1.0"
