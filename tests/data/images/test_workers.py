"""Images that other processes read: equal to those that threads read, whatever happens."""

import gc
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from tiny_data import write_tiny
from tiny_images import write_class_folders

from cnn_jax import config
from cnn_jax.data.batches.feed import HostFeed
from cnn_jax.data.batches.order import BatchOrder
from cnn_jax.data.datasets import source
from cnn_jax.data.images import placement, workers
from cnn_jax.data.images.reader import ImageSource, LazyImages, Unreadable
from cnn_jax.devices.mesh import Parallel
from cnn_jax.errors import UsageError, UserError

pytestmark = pytest.mark.skipif(not workers.are_possible(), reason="needs Linux")
COUNT, SHAPE = 60, (64, 80, 3)
LABELS = (np.arange(COUNT) % 3).astype(np.int32)


def picture(row):
    return np.random.default_rng(row).integers(0, 256, SHAPE, np.uint8)


def lazy(read=picture, processes=True, **options):
    return LazyImages(ImageSource("tiny train", SHAPE, LABELS, read, {}), np.arange(COUNT), 2, 10, processes, **options)


def test_images_are_those_that_threads_read():
    ours, theirs = lazy(), lazy(processes=False)
    for index in (slice(None), 7, [5, 5, -1], np.arange(12).reshape(2, 6), np.array([], int)):
        np.testing.assert_array_equal(ours[index], theirs[index])


def test_the_same_image_stands_in_for_one_that_cannot_be_read(capsys):
    def read(row):
        if row in (3, 6, 58):
            raise Unreadable(f"picture {row}")
        return picture(row)

    np.testing.assert_array_equal(lazy(read)[:], lazy(read, processes=False)[:])
    ours = lazy(read)
    ours[[3]]
    assert ours.unreadable == {"example 3": "picture 3", "example 6": "picture 6"}
    with pytest.raises(UserError, match="3 images of tiny train cannot be decoded"):
        LazyImages(ImageSource("tiny train", SHAPE, LABELS, read, {}), np.arange(COUNT), 2, 2, True)[:]


def test_memory_is_used_anew_once_nobody_needs_it():
    ours = lazy()
    kept = ours[:8]
    part = kept[2]
    addresses = set()
    for start in range(0, 48, 8):
        found = ours[start : start + 8]
        np.testing.assert_array_equal(found[0], picture(start))
        addresses.add(found.ctypes.data)
        del found
        gc.collect()
    assert len(addresses) <= 2 and kept.ctypes.data not in addresses
    del kept
    ours[:8], ours[8:16]
    np.testing.assert_array_equal(part, picture(2))  # a part of what was given back is not written over


def test_what_is_given_up_is_not_written_into_what_comes_next():
    def slow(row):
        time.sleep(0.05)
        return picture(row)

    ours = lazy(slow)
    ours.begin(np.arange(COUNT)).cancel()  # two are being read
    for _ in range(3):
        np.testing.assert_array_equal(ours[np.arange(2, 6)], np.stack([picture(row) for row in range(2, 6)]))


def test_what_goes_wrong_there_is_raised_here():
    def wrong(row):
        raise UserError(f"row {row} is on a disk that is gone")

    with pytest.raises(UserError, match="row 5 is on a disk that is gone"):
        lazy(wrong)[5]

    def other(row):
        return picture(row)[:5]

    with pytest.raises(ValueError, match="bytes came in place of one of 15,360"):
        lazy(other)[5]


def test_a_process_that_is_ended_from_outside_is_said():
    def ends(row):
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(UserError, match="was ended from outside.*data.decoders=threads"):
        lazy(ends)[5]
    np.testing.assert_array_equal(lazy()[5], picture(5))  # who comes next, such as another arm of a study, has new ones


@pytest.fixture(scope="module", params=["folder", "mnist"])
def data(request, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    if request.param == "folder":
        write_class_folders(root / "images", {f"{part}/{name}": 10 for part in ("train", "val") for name in ("a", "b")})
        return config.Data.of(name="folder", path=str(root / "images"), data_dir=str(root), side=24)
    write_tiny("mnist", root)
    return config.Data.of(name="mnist", data_dir=str(root))


def batches(data, decoders):
    train = source.load(data.changed(placement="stream", decoders=decoders, workers=2), "train")
    feed = HostFeed(train, [BatchOrder(examples=len(train.labels), batch_size=8, seed=3)], Parallel("jit", 8))
    found = [np.asarray(feed.stretch(step, step + 1)["images"])[0] for step in range(6)]
    feed.close()
    return found, train.reason


def test_batches_are_the_same_and_it_is_said_who_decodes(data):
    ours, reason = batches(data, "processes")
    theirs, other = batches(data, "threads")
    assert reason.endswith("decoded by 2 processes") and other.endswith("decoded by 2 threads")
    for one, another in zip(ours, theirs, strict=True):
        np.testing.assert_array_equal(one, another)


def test_a_cache_is_built_by_processes(data):
    if data.name != "folder":
        pytest.skip("its images are kept in memory")
    built = [
        source.load(data.changed(placement="host", decoders=decoders, data_dir=f"{data.data_dir}/{decoders}"), "train")
        for decoders in ("processes", "threads")
    ]
    assert built[0].where == built[1].where == "cache"
    np.testing.assert_array_equal(*[each.images[:] for each in built])


def test_many_cores_and_a_large_set_choose_processes(monkeypatch):
    auto = config.Data.of(name="fake")
    small = [(cores, 2**20) for cores in (2, 64)] + [(7, 2**40)]
    for cores, size in [*small, (8, 2**40)]:
        monkeypatch.setattr(placement.files, "cores", lambda cores=cores: cores)
        asked = placement._by_processes(auto, size <= placement.DEVICE_BYTES)
        assert asked == (cores >= 8 and size > 2**31)
        assert not placement._by_processes(auto.changed(decoders="threads"), False)
        assert placement._by_processes(auto.changed(decoders="processes"), True)
    monkeypatch.setattr(workers, "are_possible", lambda: False)
    assert not placement._by_processes(auto, False)
    with pytest.raises(UsageError, match="data.decoders=processes: they need Linux"):
        placement._by_processes(auto.changed(decoders="processes"), False)


# A script as people write them, without `if __name__ == "__main__"`: a process that ran it again would never end.
SCRIPT = """
import sys, time
import numpy as np
from cnn_jax.data.images.reader import ImageSource, LazyImages
print("once", flush=True)
shape = (4, 4, 1)
read = lambda row: np.full(shape, row, np.uint8)
images = LazyImages(ImageSource("x", shape, np.zeros(9, np.int32), read, {}), np.arange(9), 2, processes=True)
assert images[:][:, 0, 0, 0].tolist() == list(range(9))
print("read", flush=True)
time.sleep(float(sys.argv[1]))
"""


def children(pid):
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == pid and fields[0] != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.mark.parametrize("ending", [signal.SIGKILL, None])
def test_processes_end_with_the_one_that_they_work_for(tmp_path, ending):
    (tmp_path / "script.py").write_text(SCRIPT)
    root = str(Path(workers.__file__).parents[3])
    words = [sys.executable, tmp_path / "script.py", "60" if ending else "0.5"]
    environment = os.environ | {"PYTHONPATH": root}
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert [process.stdout.readline() for _ in range(2)] == ["once\n", "read\n"]
        working = children(process.pid)
        assert len(working) >= 2
        for each in working:  # as a terminal's Ctrl-C, or SLURM, which tell all processes: the first one saves
            os.kill(each, signal.SIGINT)
            os.kill(each, signal.SIGTERM)
        time.sleep(0.2)
        assert set(working) <= set(children(process.pid))
        if ending:
            process.send_signal(ending)
        assert process.stdout.read() == "" and process.wait() == (-ending if ending else 0)
    deadline = time.monotonic() + 20
    while any(is_there(each) for each in working):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def is_there(pid):
    try:
        return bool(
            Path(f"/proc/{pid}/cmdline").read_bytes()
        )  # a process that nobody has asked for its status has none
    except OSError:
        return False
