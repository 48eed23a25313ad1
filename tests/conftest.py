"""What every test shares: the CPU, and short compile times where the speed of the program does not matter."""

import os

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import pytest


@pytest.fixture(scope="module")
def quick_compile():
    """Compiles without optimisation: a training step in a third of the time, and slow to run."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
