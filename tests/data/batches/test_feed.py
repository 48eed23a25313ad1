"""Where the data lives changes nothing: the batches are the plan's. test_loop.py has the losses, equal to the bit."""

import dataclasses
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from tiny_training import dataset

from cnn_jax.data.batches import feed as feeds
from cnn_jax.data.batches.order import BatchOrder
from cnn_jax.data.images import reader
from cnn_jax.devices import mesh
from cnn_jax.devices.mesh import Parallel
from cnn_jax.errors import UsageError

PLAN = BatchOrder(examples=50, batch_size=16, seed=1)


def make(placement, data=None):
    return feeds.make_feed(placement, data or dataset(), [PLAN], Parallel("jit", PLAN.batch_size))


@pytest.mark.parametrize("placement", ["device", "host"])
@pytest.mark.parametrize("start,stop", [(0, 1), (0, 7), (5, 9)])
def test_a_stretch_holds_the_batches_of_the_plan(placement, start, stop):
    feed, _ = make(placement)
    data, pick = feed.stretch(start, stop), jax.jit(feed.pick)
    for i, step in enumerate(range(start, stop)):
        batch, index = jax.device_get(pick(data, i)), PLAN.batch(step)
        np.testing.assert_array_equal(batch["index"], index)
        np.testing.assert_array_equal(batch["images"], dataset().images[index])
        np.testing.assert_array_equal(batch["labels"], dataset().labels[index])
        assert batch["images"].dtype == np.uint8 and batch["labels"].dtype == np.int32


@pytest.mark.parametrize("placement", ["device", "host"])
def test_shapes_do_not_depend_on_the_length_of_the_stretch(placement):
    feed, _ = make(placement)
    shapes = [{name: array.shape for name, array in feed.stretch(0, stop).items()} for stop in (1, feed.most_steps)]
    assert shapes[0] == shapes[1] and shapes[0].keys() == feed.axes.keys()


def test_stretches_from_the_host_are_bounded_in_bytes(monkeypatch):
    feed, _ = make("host")
    assert feed.most_steps == feeds.MOST_STEPS
    monkeypatch.setattr(feeds, "STRETCH_BYTES", 3 * 16 * 28 * 28 + 1)
    feed, _ = make("host")
    assert feed.most_steps == 3 and feed.stretch(0, 3)["images"].nbytes <= feeds.STRETCH_BYTES
    monkeypatch.setattr(feeds, "STRETCH_BYTES", 1)
    assert make("host")[0].most_steps == 1


def test_auto_takes_the_device_while_the_set_is_small(monkeypatch):
    size = dataset().images.nbytes
    for limit, kind, name in ((size, feeds.DeviceFeed, "device"), (size - 1, feeds.HostFeed, "host")):
        monkeypatch.setattr(feeds, "DEVICE_BYTES", limit)
        feed, sentence = make("auto")
        assert isinstance(feed, kind) and sentence.startswith(f"{name} (") and "auto" in sentence
    assert make("device")[1].endswith("as set)")
    cores = SimpleNamespace(devices=jax.devices() * 2, processes=1)
    for limit, kind in ((2 * size, feeds.DeviceFeed), (2 * size - 1, feeds.HostFeed)):  # a copy for each
        monkeypatch.setattr(feeds, "DEVICE_BYTES", limit)
        assert feeds.choose("auto", dataset(), cores)[0] is kind


def test_the_set_is_not_changed_by_the_feed():
    data = dataclasses.replace(dataset(), images=dataset().images.copy())
    make("device", data)[0].stretch(0, 5), make("host", data)[0].stretch(0, 5)
    np.testing.assert_array_equal(data.images, dataset().images)


def test_what_is_read_ahead_goes_by_the_share_of_the_process():
    """Of 16 processes that share a batch each reads as many images ahead as one alone does."""
    alone = Parallel("jit", PLAN.batch_size)
    shared = Parallel("jit", PLAN.batch_size)
    shared.part = lambda size: slice(3 * size // 16, 4 * size // 16)
    source = reader.ImageSource("", (28, 28, 1), np.zeros(64, np.int32), None, {})
    data = dataclasses.replace(dataset(), images=reader.LazyImages(source, np.arange(64), 2))
    ahead = [feeds.HostFeed(data, [PLAN], parallel)._ahead for parallel in (alone, shared)]
    assert ahead == [reader.AHEAD // 16, reader.AHEAD]


def test_a_large_set_is_spread_over_the_devices_of_a_mesh():
    large = SimpleNamespace(images=SimpleNamespace(nbytes=252 * 10**9), where="cache", reason="")

    def of(mode, seeds=1, free=70 * 10**9, devices=4):
        return SimpleNamespace(devices=jax.devices() * devices, processes=1, mode=mode, seeds=seeds, free_memory=free)

    kind, why = feeds.choose("device", large, of("mesh"))
    assert kind is feeds.SpreadFeed and "63.0 GB of 70.0 GB free on each of 4 devices" in why
    assert "; 63.0 GB on each of 4 devices" in feeds.choose("device", large, of("mesh", free=None))[1]
    assert "decoded; as set" in feeds.choose("device", large, of("jit", free=None, devices=1))[1]
    assert (
        "252.0 GB of 260.0 GB free of the device"
        in feeds.choose("device", large, of("jit", free=260 * 10**9, devices=1))[1]
    )
    assert feeds.choose("auto", large, of("mesh"))[0] is feeds.HostFeed
    for other in (of("pmap"), of("mesh", seeds=4)):
        with pytest.raises(
            UsageError, match="a set of 252.0 GB decoded is spread over the devices, which goes with one"
        ):
            feeds.choose("device", large, other)


def test_a_spread_set_on_one_device_gives_the_same_batches(monkeypatch):
    monkeypatch.setattr(mesh, "PIECE_BYTES", 28 * 28 * 7)  # seven images at a time, of 50
    whole = make("device")[0]
    monkeypatch.setattr(feeds, "DEVICE_BYTES", 0)
    spread = make("device")[0]
    assert type(spread) is feeds.SpreadFeed
    data, other = spread.stretch(2, 6), whole.stretch(2, 6)
    for step in range(4):
        ours, theirs = jax.jit(spread.pick)(data, step), jax.jit(whole.pick)(other, step)
        for name in theirs:
            np.testing.assert_array_equal(ours[name], theirs[name])
