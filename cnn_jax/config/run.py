"""A whole run's settings, and what follows from them."""

import dataclasses
from typing import Any

from cnn_jax.config import fields
from cnn_jax.config.data import Augment, Data
from cnn_jax.config.fields import FORMAT, Group, choice, setting
from cnn_jax.config.networks import MODELS, LeNet, Network
from cnn_jax.config.training import Checkpoint, Evaluation, Log, Optimizer, Schedule, Train


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Group):
    """One training run."""

    experiment: str = setting("")  # the name it was started under
    seed: int = setting(0, low=0, high=2**31 - 1)  # of every random choice: weights, order, augmentation, dropout
    parallel: str = setting("auto", identity=False, choices=("auto", "jit", "mesh", "pmap"))
    # jit: one device; mesh: all devices share each batch; pmap: the same with a copy of the network on each, which
    # JAX keeps in maintenance mode; auto (recommended): one device alone, several as a mesh, and for small LeNets on a
    # CPU a copy on every core that gets at least 16 images
    model: Network = choice(MODELS, LeNet(), "model.name", inside="model.")
    data: Data = Data()
    augment: Augment = Augment()
    optimizer: Optimizer = Optimizer()
    schedule: Schedule = Schedule()
    train: Train = Train()
    evaluation: Evaluation = Evaluation()
    checkpoint: Checkpoint = Checkpoint()
    log: Log = Log()


def image_shape(data: Data, stored: tuple[int, int, int]) -> tuple[int, int, int]:
    """Returns the height, width and channels of the images that the network is given.

    Args:
      data: the settings.
      stored: height, width and channels of a stored image.
    """
    *sides, channels = stored
    height, width = (data.crop or data.size or side for side in sides)
    return (height, width, channels)


def from_dict(values: dict) -> Config:
    """Returns the config that `fields.to_dict` (or JSON) made the dict from.

    Of format 1, which held the settings of all kinds, those of kinds that are not chosen are passed over. What was
    written before a setting existed has the meaning that it had then.

    Raises:
      ValueError: it is no such dict, names a setting or kind that this version does not have, has a value of another
        type, or is of a later format.
    """
    if not isinstance(values, dict):
        raise ValueError("it holds no table of names and values")
    written = values.get("format", 1)
    if not isinstance(written, int):
        raise ValueError(f"its format is {written!r:.80}")
    if written not in range(1, FORMAT + 1):
        raise ValueError(f"format {written} was written by a later version of cnn_jax; this one reads up to {FORMAT}")
    rest = {name: value for name, value in values.items() if name != "format"}
    found = fields.build(Config, rest, lenient=written < 2)
    if written < 3:
        for leaf in [*fields.leaves(found)]:
            if leaf.path.endswith("pool.kind") and leaf.value == "aps":
                found = fields.replaced(found, leaf.path.replace("kind", "choose"), "after_blur")
    if written < 4:
        older: dict[str, Any] = {"data.subsets": "first"}
        if found.data.name == "folder":
            older |= {"data.exif": False, "data.ground": "none", "data.channels": 3}
        for path, value in older.items():
            found = fields.replaced(found, path, value)
    wrong = fields.mistyped(found)
    if wrong:
        raise ValueError("; ".join(wrong))
    return found
