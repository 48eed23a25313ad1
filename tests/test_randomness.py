"""Every random purpose has a stream of its own."""

import itertools
import zlib

import jax
import numpy as np

from cnn_jax import config, randomness
from cnn_jax.data.datasets import fake
from cnn_jax.models import outline

SOURCES = ("Philox", "random.key(", "default_rng", "np.random.seed")


def test_no_two_streams_on_the_host_meet():
    """Purposes differ, so that keys differ whatever the seed or index; parts are too small to reach another purpose."""
    assert len(set(randomness.HOST)) == len(randomness.HOST) and max(randomness.HOST) < 2**16
    parts = {(purpose, part) for purpose in randomness.HOST for part in (0, 1, 2, 10**9)}
    first = {key: randomness.words(0, key[0], 4, key[1]).tobytes() for key in parts}
    assert len(set(first.values())) == len(parts)


def test_the_first_fake_test_image_and_the_shifts_of_consistency_no_longer_meet():
    image = fake.draw(1, 0, 0, 16)
    shifts = randomness.words(0, randomness.MEASUREMENT, 8, randomness.SHIFTS)
    np.testing.assert_array_equal(shifts, np.random.Philox(key=np.array([0, 1], np.uint64)).random_raw(8))
    own = randomness.words(0, randomness.FAKE_IMAGES, 8, 1)
    assert image.shape == (16, 16, 3) and not set(own.tolist()) & set(shifts.tolist())


def test_no_two_streams_on_the_device_meet():
    assert len(set(randomness.DEVICE)) == len(randomness.DEVICE)
    assert len(set(randomness.WITHIN_AUGMENTATION)) == len(randomness.WITHIN_AUGMENTATION)
    names = {layer.name for kind in (config.LeNet, config.LeNet5, config.AlexNet) for layer in layers(kind)}
    numbers = [zlib.crc32(name.encode()) for name in names]
    assert len(set(numbers)) == len(names) and not set(numbers) & {1, 2, 3}  # numbers of dropout layers
    keys = [jax.random.fold_in(jax.random.key(0), purpose) for purpose in randomness.DEVICE]
    data = [jax.random.key_data(key).tolist() for key in keys]
    assert all(one != other for one, other in itertools.combinations(data, 2))


def layers(kind):
    side = {"lenet": 28, "lenet5": 32, "alexnet": 224}[kind.name]
    shape = (side, side, 3 if kind is config.AlexNet else 1)
    return outline(kind(layout="NHWC"), shape, 10).parts()


def test_nothing_draws_past_that_file():
    """Generators are made there; keys of the device begin where a seed is known."""
    allowed = {
        "randomness.py": {"Philox"},
        "training/state.py": {"random.key("},
        "training/step.py": {"random.key("},
        "training/evaluation.py": {"random.key("},
        "models/__init__.py": {"random.key("},  # shapes only
        "operations.py": {"random.key("},  # a reader's own seed
        "reports/study/pictures.py": {"random.key("},  # one draw, to be looked at
    }
    root = __import__("pathlib").Path(randomness.__file__).parent
    for path in root.rglob("*.py"):
        found = {source for source in SOURCES if source in path.read_text()}
        assert found <= allowed.get(str(path.relative_to(root)), set()), path
