"""Checks that settings are sound, each by its own rule and all of them together, before any file is looked at."""

import math

from cnn_jax.config.data import Folder
from cnn_jax.config.fields import leaves, mistyped
from cnn_jax.config.networks import pools
from cnn_jax.config.sizes import FILLS
from cnn_jax.config.training import Plateau, Step, duration_steps

COLOURS = ("pca", "brightness", "contrast", "saturation", "hue")  # augmentations that need three channels


def broken_rules(group, prefix: str = "") -> list[str]:
    """Returns the fields of a group of settings that break their own rule, one line each."""
    return mistyped(group, prefix) or [
        line for leaf in leaves(group, prefix) for line in _check(leaf.path, leaf.value, leaf.rule)
    ]


def problems(config) -> list[str]:
    """Returns everything wrong with a config, one line each; empty when it is sound."""
    found = broken_rules(config)
    for path, text in _durations(config).items():
        try:
            steps = duration_steps(text, 10**6, 1)
        except ValueError as error:
            found.append(f"{path}: {error}")
            continue
        if steps == 0 and path != "schedule.warmup":
            found.append(f"{path} = {text!r} must be longer than nothing")
    return found + [*_cross_checks(config), *_image_checks(config), *_padding_checks(config)]


def _durations(config):
    drops = getattr(config.schedule.kind, "drops", ())
    return {
        "train.duration": config.train.duration,
        "evaluation.every": config.evaluation.every,
        "checkpoint.every": config.checkpoint.every,
        "log.every": config.log.every,
        "schedule.warmup": config.schedule.warmup,
    } | {f"schedule.drops[{i}]": drop for i, drop in enumerate(drops)}


def _check(path, value, rule):
    if rule.get("choices") and value not in rule["choices"]:
        yield f"{path} = {value!r} must be one of {', '.join(map(str, rule['choices']))}"
    numbers = [each for each in (value if isinstance(value, tuple) else [value]) if isinstance(each, float)]
    if not all(map(math.isfinite, numbers)):
        yield f"{path} = {value} must be {'finite numbers' if isinstance(value, tuple) else 'a finite number'}"
        return
    if rule.get("low") is not None and value < rule["low"]:
        yield f"{path} = {value} must be at least {rule['low']}"
    if rule.get("high") is not None and value > rule["high"]:
        yield f"{path} = {value} must be at most {rule['high']}"


def _cross_checks(config):
    if config.data.low == config.data.high:
        yield f"data.low and data.high are both {config.data.low}: every image would be blank"
    if config.optimizer.accumulate > 0 and config.train.batch_size % config.optimizer.accumulate:
        parts = config.optimizer.accumulate
        yield f"train.batch_size = {config.train.batch_size} must be a multiple of optimizer.accumulate = {parts}"
    pairs = 2 * max(1, config.optimizer.accumulate)
    if (config.augment.mixup or config.augment.cutmix) and config.train.batch_size % pairs:
        yield f"augment.mixup and cutmix mix neighbours: train.batch_size must be a multiple of {pairs}"
    if config.evaluation.passes > 1 and not any(pool.draws for pool in pools(config.model)):
        passes = config.evaluation.passes
        yield f"evaluation.passes = {passes} needs a pooling that draws, such as model.pool.kind = 'fractional'"
    if isinstance(config.schedule.kind, Step) and not config.schedule.kind.drops:
        yield "schedule.name = 'step' needs schedule.drops, such as --set schedule.drops='6 epochs,8 epochs'"
    if getattr(config.optimizer.kind, "nesterov", False) and not config.optimizer.kind.momentum:
        yield "optimizer.nesterov needs optimizer.momentum above 0"
    try:
        config.optimizer.factors
    except ValueError as error:
        yield f"optimizer.layers: {error}"
    # A folder may have validation images of its own.
    chosen_by_files = isinstance(config.data.kind, Folder)
    if isinstance(config.schedule.kind, Plateau) and not config.data.validation and not chosen_by_files:
        yield "schedule.name = 'plateau' follows the validation loss: hold out examples with data.validation"
    if getattr(config.model, "output", "") == "rbf" and config.train.label_smoothing:
        yield "train.label_smoothing does not apply to model.output = 'rbf', whose loss has its own background term"


def _image_checks(config):
    data = config.data
    if any(value <= 0 for value in data.std):
        yield f"data.std = {data.std} must be above 0"
    if config.evaluation.crops == 10 and not data.crop:
        yield "evaluation.crops = 10 needs data.crop, the side of a crop"
    classes = data.kind.classes
    if getattr(config.model, "output", "") == "rbf" and classes not in (None, 10):
        yield f"model.output = 'rbf' has bitmaps of the ten digits, and {data.name} has {classes} classes"
    if data.kind.shape:
        yield from shape_problems(config, data.kind.shape)


def shape_problems(config, shape: tuple[int, int, int]):
    """Yields what does not fit the images of a dataset, one line each.

    Args:
      config: the settings.
      shape: height, width and channels of a stored image.
    """
    data, (*sides, channels) = config.data, shape
    if data.size and data.size < max(sides):
        yield (
            f"data.size = {data.size} must be 0 or at least the stored side, {max(sides)}: "
            "images are centred on a larger canvas; data.crop cuts"
        )
    canvas = data.size or min(sides)
    if data.crop > canvas:
        yield f"data.crop = {data.crop} must be at most the side it is cut from, {canvas}"
    for name in COLOURS:
        if getattr(config.augment, name) and channels != 3:
            yield f"augment.{name} changes colours, and the images of {data.name} have {channels} channel"
    for name in ("mean", "std"):
        values = getattr(data, name)
        if values and len(values) != channels:
            yield f"data.{name} = {values} must have one number for each of the {channels} channels of {data.name}"


def _padding_checks(config):
    for leaf in leaves(config):
        if leaf.path.endswith("padding.mode") and leaf.value in FILLS:
            path = leaf.path.removesuffix("mode")
            yield (
                f"{leaf.path} = {leaf.value!r} is what lies beyond the edge, not how far: "
                f"use {path}fill={leaf.value}, with {path}mode=same or pixels"
            )
