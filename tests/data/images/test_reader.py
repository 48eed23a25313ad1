import threading

import numpy as np
import pytest

from cnn_jax.data.images.reader import ImageSource, LazyImages, Unreadable
from cnn_jax.errors import UserError

COUNT, SHAPE = 60, (4, 5, 3)
PIXELS = np.random.default_rng(0).integers(0, 256, (COUNT, *SHAPE), np.uint8)
LABELS = (np.arange(COUNT) % 3).astype(np.int32)
ROWS = np.array([5, 3, 59, 8, 11, 14, 20, 0, 30, 31, 32, 33, 34, 35, 36, 37, 38, 39, 40, 41])


def images(bad=(), corrupt=10, rows=ROWS, workers=3):
    def read(row):
        if row in bad:
            raise Unreadable(f"picture {row}")
        return PIXELS[row]

    return LazyImages(ImageSource("tiny train", SHAPE, LABELS, read, {}), rows, workers, corrupt)


@pytest.mark.parametrize(
    "index",
    [0, -1, slice(None), slice(2, 17, 3), [4, 4, -2], np.arange(20).reshape(2, 5, 2), np.array([], int)],
    ids=str,
)
def test_indexing_is_that_of_an_array(index):
    lazy, plain = images(), PIXELS[ROWS]
    out = lazy[index]
    assert out.dtype == np.uint8
    np.testing.assert_array_equal(out, plain[index])
    assert (len(lazy), lazy.shape, lazy.nbytes, lazy.dtype) == (len(plain), plain.shape, plain.nbytes, plain.dtype)
    np.testing.assert_array_equal(np.asarray(lazy), plain)


@pytest.mark.parametrize("index", [20, -21, np.array([0, 20])], ids=str)
def test_indices_out_of_range_are_refused(index):
    with pytest.raises(IndexError, match="out of range for 20 images"):
        images()[index]


def test_reading_uses_all_threads():
    meeting = threading.Barrier(4, timeout=10)  # passed only if four read at the same time

    def read(row):
        meeting.wait()
        return PIXELS[row]

    lazy = LazyImages(ImageSource("tiny", SHAPE, LABELS, read, {}), np.arange(COUNT), workers=4)
    np.testing.assert_array_equal(lazy[np.arange(4)], PIXELS[:4])


def stand_in(position, bad):
    """The reference: the next row of the same class that can be read, around the end."""
    order = np.roll(ROWS, -position)
    return next(row for row in order if LABELS[row] == LABELS[ROWS[position]] and row not in bad)


def test_the_next_of_its_class_stands_in_for_a_corrupt_image(capsys):
    bad = {3, 59, 8, 41, 36}
    expected = PIXELS[[stand_in(position, bad) for position in range(len(ROWS))]]
    lazy = images(bad)
    np.testing.assert_array_equal(lazy[:], expected)
    np.testing.assert_array_equal(lazy[2], expected[2])
    np.testing.assert_array_equal(images(bad)[::-1], expected[::-1])  # whatever is asked for first
    lines = capsys.readouterr().err.splitlines()
    assert sorted({line.split("picture ")[1].split(";")[0] for line in lines}, key=int) == ["3", "8", "36", "41", "59"]
    assert len(lines) == 2 * len(bad)  # once each, for each of the two
    assert {int(line.split("(")[1].split()[0]) for line in lines} == {1, 2, 3, 4, 5}


def test_too_many_corrupt_images_end_the_run():
    lazy = images({3, 59, 36}, corrupt=2)
    lazy[1], lazy[2], lazy[1]
    with pytest.raises(UserError, match="3 images of tiny train cannot be decoded, the last picture 36; .*corrupt = 2"):
        lazy[14]
    with pytest.raises(UserError, match="1 images .* data.corrupt = 0"):
        images({3}, corrupt=0)[:]


def test_a_class_without_readable_images_is_named():
    with pytest.raises(UserError, match="tiny train has no readable image of class 0"):
        images(set(range(0, COUNT, 3)), corrupt=COUNT)[:]


def test_what_is_cancelled_is_not_read():
    release, read_rows = threading.Event(), []

    def read(row):
        release.wait(10)
        read_rows.append(row)
        return PIXELS[row]

    lazy = LazyImages(ImageSource("tiny", SHAPE, LABELS, read, {}), np.arange(COUNT), workers=1)
    readings = [lazy.begin(np.array([row])) for row in range(10)]
    for reading in readings[1:]:
        reading.cancel()
    release.set()
    np.testing.assert_array_equal(readings[0].result(), PIXELS[:1])
    np.testing.assert_array_equal(lazy[np.array([50])], PIXELS[[50]])  # the only thread is through with all before it
    assert len(read_rows) <= 3 and set(read_rows) <= {0, 1, 50}
