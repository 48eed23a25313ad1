"""What every test shares: the CPU, and short compile times where the speed of the program does not matter."""

import os
import shutil
import signal
import tempfile

os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Many tests make the same programs. Each process has a cache of its own: JAX does not write entries in one move.
os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="cnn_jax-tests-")
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import hypothesis
import jax
import pytest
from jax import lax

# A shell's background jobs and nohup ignore some signals, and so would every process that a test starts.
for number, usual in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, usual)

hypothesis.settings.register_profile("few", max_examples=20, deadline=None, derandomize=True)
hypothesis.settings.register_profile("many", max_examples=300, deadline=None)
hypothesis.settings.load_profile("few")  # make test-all asks for many


def pytest_unconfigure(config):
    shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


@pytest.fixture(scope="module")
def quick_compile():
    """Compiles without optimisation: a training step in a third of the time, and slow to run."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.fixture
def as_on_a_gpu(monkeypatch):
    """Layers that choose their form by the platform take the one for NVIDIA's GPUs."""
    monkeypatch.setattr(lax, "platform_dependent", lambda *arguments, cuda, **others: cuda(*arguments))
