"""The arithmetic of sizes against the layers themselves, and what it refuses before jax is imported."""

import dataclasses
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn_jax import config
from cnn_jax.config import MODELS, poolings
from cnn_jax.errors import UsageError
from cnn_jax.models import layer_sizes, outline, problems
from cnn_jax.models.arithmetic import Sizes, Unknown
from cnn_jax.models.builder import Builder

SIDES = {"alexnet_notebook": 215, "alexnet": 67, "alexnet_bn": 67, "alexnet_owt": 63}


def both(settings, shape):
    """What arithmetic and the layers say: the sizes of all layers but activations, or the message."""
    settings = dataclasses.replace(settings, layout="NHWC")

    def attempt(work):
        try:
            return {name: shape for name, shape in work().items() if not name.startswith("activation")}
        except UsageError as error:
            return str(error)

    made = lambda: {layer.name: layer.output_shape for layer in outline(settings, shape, 10).parts()}
    return attempt(lambda: layer_sizes(settings, shape, 10)), attempt(made)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_every_network_is_counted_as_it_is_made(model):
    side = SIDES.get(model.name, 32)
    for smaller in (0, 1, 15, 25):  # the last ones are too small for most
        counted, made = both(model(), (side - smaller, side - smaller + 3, 3))
        assert counted == made


@given(
    kind=st.sampled_from(poolings.POOLINGS),
    last=st.sampled_from((None, *poolings.LAST)),
    window=st.integers(0, 5),
    stride=st.integers(1, 4),
    padding=st.sampled_from(["valid", "same", "1", "full", "0,1,0,1"]),
    height=st.integers(8, 33),
    width=st.integers(8, 33),
    filter=st.integers(1, 7),
)
def test_every_pooling_is_counted_as_it_is_made(kind, last, window, stride, padding, height, width, filter):
    kind = kind(filter=filter) if hasattr(kind, "filter") else kind()
    pool = config.Pool(kind=kind, last=last and last(), window=window, stride=stride, padding=padding)
    counted, made = both(config.LeNet(pool=pool), (height, width, 1))
    assert counted == made


def test_sizes_behind_a_layer_of_an_unknown_kind_are_not_guessed(monkeypatch):
    from cnn_jax import models

    settings = config.LeNet()

    def own(net, settings, classes):
        return net.add(lambda shape: pytest.fail("was made")).dense("output", classes, "he_normal").build()

    with pytest.raises(Unknown):
        own(Builder(settings, (28, 28, 1), Sizes()), settings, 10)
    monkeypatch.setitem(models.MODELS, config.LeNet, own)
    assert layer_sizes(settings, (1, 1, 1), 10) is None


def test_a_network_too_large_for_its_images_is_named_once():
    settings = config.Config(data=config.Data.of(name="digits", crop=10))
    (line,) = problems(settings, (28, 28, 1))
    assert line.startswith("conv2: input 3x3x6, window 5x5, stride 1x1, padding 0: the window does not fit")
    assert problems(settings, None) == []  # nothing is known of the images


REFUSED = """
import sys
from cnn_jax import cli, flags
asked = flags.Flags(**{name: None for name in flags.Flags.__dataclass_fields__} | {
    "experiment": sys.argv[1], "set": sys.argv[2:], "mode": "train", "list": False, "rest": [], "resume": True})
status = cli.main(asked)
assert "jax" not in sys.modules
sys.exit(status)
"""


@pytest.mark.parametrize(
    "experiment, specs, lines",
    [
        ("lenet_digits", ["data.crop=10", "train.batch_size=0"], ["conv2: input 3x3x6", "train.batch_size = 0 must"]),
        ("lenet_digits", ["model.pool.kind=s3", "model.pool.grid=3"], ["pool1: pool.grid = 3 must be a multiple"]),
        ("alexnet_notebook_imagenet", ["data.crop=200"], ["images need at least 215x215 pixels"]),
        ("pooling_digits", ["model.pool.window=30"], ["pool1: ", "window 30x30"]),
        ("padding_mnist", ["data.size=0", "data.crop=14"], ["arm '", "the window does not fit"]),
    ],
)
def test_it_is_refused_without_jax(experiment, specs, lines):
    done = subprocess.run([sys.executable, "-c", REFUSED, experiment, *specs], capture_output=True, text=True)
    assert done.returncode == 2 and all(line in done.stderr for line in lines), done.stderr
