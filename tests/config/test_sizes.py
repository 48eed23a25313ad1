"""Sizes and padding against counting and TensorFlow's published rule."""

import itertools

import pytest

from cnn_jax.config.sizes import output_size, parse_padding, place, same_pads
from cnn_jax.errors import UsageError


def count_windows(size, window, stride, pads):
    """Places, tried one by one."""
    line = [None] * pads[0] + list(range(size)) + [None] * pads[1]
    return sum(len(line[start : start + window]) == window for start in range(0, len(line), stride))


def test_output_size_counts_windows():
    for size, window, stride in itertools.product(range(1, 13), range(1, 7), range(1, 5)):
        for pads in ((0, 0), (1, 1), (0, 2), (3, 1)):
            assert output_size(size, window, stride, pads) == count_windows(size, window, stride, pads)


def test_same_padding_is_tensorflows():
    for size, window, stride in itertools.product(range(1, 15), range(1, 8), range(1, 6)):
        # tf.nn, "Notes on padding"
        total = max(window - stride, 0) if size % stride == 0 else max(window - size % stride, 0)
        pads = same_pads(size, window, stride)
        assert pads == (total // 2, total - total // 2)
        assert output_size(size, window, stride, pads) == -(-size // stride)


@pytest.mark.parametrize(
    "mode, pads",
    [
        ("valid", ((0, 0), (0, 0))),
        ("same", ((1, 1), (0, 1))),
        ("full", ((2, 2), (1, 1))),
        ("2", ((2, 2), (2, 2))),
        ("2,1", ((2, 2), (1, 1))),
        ("0,3,1,2", ((0, 3), (1, 2))),
        (" 0, 3, 1, 2 ", ((0, 3), (1, 2))),
    ],
)
def test_parse_padding(mode, pads):
    assert parse_padding(mode, size=(5, 6), window=(3, 2), stride=(1, 1)) == pads


@pytest.mark.parametrize("mode", ["", "Same", "-1", "1,2,3", "1,,2,3", "1.5", "1 2"])
def test_parse_padding_refuses(mode):
    with pytest.raises(ValueError, match="'top,bottom,left,right'") as error:
        parse_padding(mode, (5, 5), (3, 3), (1, 1))
    assert repr(mode) in str(error.value)


@pytest.mark.parametrize(
    "arguments, parts",
    [
        ({"window": 6}, ["input 5x7x1", "window 6x6", "stride 1x1", "padding 0:", "does not fit", "0x2"]),
        ({"window": (2, 9), "stride": (1, 2), "padding": "0,0,0,1"}, ["window 2x9", "stride 1x2", "padding 0,0,0,1"]),
        ({"window": 0}, ["window 0x0", "stride 1x1", "at least 1"]),
        ({"window": 2, "stride": (1, 0)}, ["window 2x2", "stride 1x0", "at least 1"]),
        ({"window": 2, "fill": "mirror"}, ["'mirror'", "zero, reflect, replicate, circular, symmetric"]),
        ({"window": 2, "padding": "some"}, ["'some'", "'valid', 'same', 'full'"]),
        ({"window": 2, "padding": -1}, ["'-1'", "'valid', 'same', 'full'"]),
        (
            {"window": 2, "padding": 5, "fill": "reflect"},
            ["input 5x7x1", "window 2x2", "stride 1x1", "padding 5:", "'reflect'", "most 4 pixels", "side of 5"],
        ),
        ({"window": 2, "padding": "0,6"}, None),
        ({"window": 2, "padding": "0,7", "fill": "reflect"}, ["'reflect'", "at most 6 pixels", "side of 7"]),
        ({"window": 2, "padding": "6,0", "fill": "circular"}, ["'circular'", "at most 5 pixels", "side of 5"]),
        ({"window": 2, "padding": "6,0", "fill": "symmetric"}, ["'symmetric'", "at most 5 pixels", "side of 5"]),
        ({"window": 2, "padding": 9, "fill": "replicate"}, None),
        ({"window": 2, "padding": "4,6", "fill": "reflect"}, None),
        ({"window": 2, "padding": "5,7", "fill": "circular"}, None),
    ],
)
def test_what_does_not_fit_is_refused_and_says_why(arguments, parts):
    """`parts` of the message; None: accepted."""
    if parts is None:
        place("conv9", (5, 7, 1), **arguments)
        return
    with pytest.raises(UsageError) as error:
        place("conv9", (5, 7, 1), **arguments)
    assert str(error.value).startswith("conv9: ")
    assert [part for part in parts if part not in str(error.value)] == []


def test_one_number_stands_for_both_axes():
    assert place("g", (9, 9, 1), 3, 2, 1) == place("g", (9, 9, 1), (3, 3), (2, 2), ((1, 1), (1, 1)))


@pytest.mark.parametrize(
    "arguments, words",
    [
        (dict(window=3), "3x3"),
        (dict(window=(3, 2), stride=2), "3x2, stride 2"),
        (dict(window=3, stride=(1, 2), padding=1), "3x3, stride 1x2, padding 1"),
        (dict(window=2, padding="0,1,0,1"), "2x2, padding 0,1,0,1"),
        (dict(window=(2, 3), padding="full"), "2x3, padding 1,2"),
        (dict(window=2, padding="0,1"), "2x2, padding 0,1"),
    ],
)
def test_describe(arguments, words):
    assert place("g", (9, 9, 1), **arguments).describe() == words


@pytest.mark.parametrize(
    "arguments, words",
    [
        (((28, 28, 1), 5, 1, "valid"), "(28 + 2*0 - 5) / 1 + 1 = 24"),
        (((28, 28, 1), 5, 1, "2"), "(28 + 2*2 - 5) / 1 + 1 = 28"),
        (((13, 13, 1), 2, 2, "valid"), "(13 + 2*0 - 2) / 2 + 1 = 6.5, whole 6"),
        (((224, 224, 3), 11, 4, "0,3,0,3"), "(224 + 0 + 3 - 11) / 4 + 1 = 55"),
        (((8, 6, 1), (3, 2), (1, 2), "1"), "(8 + 2*1 - 3) / 1 + 1 = 8 by (6 + 2*1 - 2) / 2 + 1 = 4"),
    ],
    ids=str,
)
def test_the_sum_that_gives_the_side(arguments, words):
    placed = place("layer", *arguments)
    assert placed.arithmetic() == words
    for line, side in zip(words.replace(", whole 6", "").split(" by "), placed.output_size):
        assert int(eval(line.partition("=")[0])) == side
