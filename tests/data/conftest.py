import pytest
from tiny_data import TINY_MNIST, write_tiny

from cnn_jax import config


@pytest.fixture
def mnist(tmp_path):
    """A tiny prepared `mnist`; returns a function that makes the data settings for it."""
    write_tiny("mnist", tmp_path, *TINY_MNIST)
    return lambda **changes: config.Data.of(name="mnist", data_dir=str(tmp_path), **changes)
