"""Every random purpose, by name: no two draw from the same stream.

On the host, a stream is the raw output of NumPy's Philox bit generator, which NumPy guarantees never to change
(NEP 19); the methods of `np.random.Generator` carry no such promise. Its key is two words: a number that says which
one of a kind is meant (the run's seed, or an example's index), and a purpose, with a part of it.

On the device, keys are folded from (seed, purpose, step, example), never from a device, process or arm of a study.
Within the draws of an example, further numbers are folded in. Changing a number here changes results.
"""

import numpy as np

# On the host: the second word of a key is (purpose << 48) | part.
TRAINING_ORDER = 1  # by seed; part: the epoch
VALIDATION_SPLIT = 2
DIGITS_TEST_SPLIT = 3
FOLDER_TEST_SPLIT = 4
STORED_ORDER = 5  # of ImageNet's prepared examples
FAKE_IMAGES = 6  # by index; part: the split
RED_GREEN_IMAGES = 7  # by index; part: the split
TFDS_TEST_SPLIT = 8
QUADRANT_IMAGES = 9  # by index; part: the split
MEASUREMENT = 0  # of a study, by seed; part: which
SHIFTS, ROLLS = 1, 2  # parts of MEASUREMENT: of consistency, of position
CORRUPTIONS = 100  # and of corruptions: this, and the number of the kind
HOST = (
    TRAINING_ORDER, VALIDATION_SPLIT, DIGITS_TEST_SPLIT, FOLDER_TEST_SPLIT, STORED_ORDER, FAKE_IMAGES,
    RED_GREEN_IMAGES, TFDS_TEST_SPLIT, QUADRANT_IMAGES, MEASUREMENT,
)  # fmt: skip

# On the device: folded into the key of the seed.
INITIAL_WEIGHTS, AUGMENTATION, DROPOUT, EVALUATION = 1, 2, 3, 4
DEVICE = (INITIAL_WEIGHTS, AUGMENTATION, DROPOUT, EVALUATION)

# Folded into the augmentation key of an example; its other draws are one vector of uniform numbers.
COLOUR_NOISE, MIXING = 1, 2
WITHIN_AUGMENTATION = (COLOUR_NOISE, MIXING)


def words(number: int, purpose: int, count: int, part: int = 0) -> np.ndarray:
    """Draws random words, uint64 [count], that depend on nothing but the arguments.

    Args:
      number: which of a kind, such as the seed; 0 to 2**64 - 1.
      purpose: one of `HOST`.
      count: how many.
      part: of the purpose, below 2**48.
    """
    key = np.array([number, (purpose << 48) | part], np.uint64)
    return np.random.Philox(key=key).random_raw(count)
