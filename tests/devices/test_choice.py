"""How many devices a CPU is."""

import os
from types import SimpleNamespace

import pytest

from cnn_jax.config import experiments, overrides
from cnn_jax.devices import choice

pytestmark = pytest.mark.versions


@pytest.mark.parametrize(
    "cores, share, given, flags, devices",
    [
        (2, 10, -1, "", [2]),
        (8, 10, -1, "", [5]),
        (2, 5, -1, "--xla_backend_optimization_level=0", [1]),
        (2, 10, 1, "", []),
        (2, 10, -1, "--xla_force_host_platform_device_count=4", []),
    ],
)
def test_a_cpu_is_as_many_devices_as_cores_share_the_work(monkeypatch, cores, share, given, flags, devices):
    """Unless the user has said how many."""
    asked = devices_asked_for(monkeypatch, cores, given)
    monkeypatch.setenv("XLA_FLAGS", flags)
    choice.prepare(experiments.load("alexnet_imagenet"), [share])
    assert asked == devices


@pytest.mark.parametrize(
    "cores, name, changes, devices",
    [
        (2, "lenet_mnist", [], [2]),  # 32 images a step
        (16, "lenet_mnist", [], [2]),
        (16, "lenet5_mnist", [], [4]),  # 64
        (16, "lenet_mnist", ["optimizer.accumulate=2"], [1]),
        (16, "lenet_mnist", ["train.batch_size=51"], [3]),
        (16, "lenet_mnist", ["parallel=jit"], []),
        (16, "lenet_mnist", ["model.layout=NHWC"], []),
        (16, "alexnet_imagenet", [], []),
    ],
)
def test_cores_share_the_batches_of_small_networks(monkeypatch, cores, name, changes, devices):
    asked = devices_asked_for(monkeypatch, cores)
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    choice.prepare(overrides.apply(experiments.load(name), changes))
    assert asked == devices


def devices_asked_for(monkeypatch, cores, given=-1):
    """A list that gets the number of CPU devices that JAX is asked for, on so many cores."""
    asked = []
    settings = SimpleNamespace(jax_num_cpu_devices=given, update=lambda name, value: asked.append(value))
    monkeypatch.setattr(choice, "jax", SimpleNamespace(config=settings))
    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(cores)), raising=False)
    return asked
