"""Whether settings are sound, each by its own rule and all of them together. Nothing here imports jax."""

import math

from cnn_jax.config import duration_steps, leaves, pools
from cnn_jax.data import catalog


def broken_rules(group, prefix: str = "") -> list[str]:
    """The fields of a group of settings that break their own rule, one line each."""
    return [line for path, value, rule in leaves(group, prefix) for line in _check(path, value, rule)]


def problems(config) -> list[str]:
    """Everything wrong with a config, one line each; empty when it is sound."""
    found = broken_rules(config)
    durations = {
        "train.duration": config.train.duration,
        "evaluation.every": config.evaluation.every,
        "checkpoint.every": config.checkpoint.every,
        "log.every": config.log.every,
        "schedule.warmup": config.schedule.warmup,
    }
    durations |= {f"schedule.drops[{i}]": drop for i, drop in enumerate(config.schedule.drops)}
    for path, text in durations.items():
        try:
            steps = duration_steps(text, 10**6, 1)
        except ValueError as error:
            found.append(f"{path}: {error}")
            continue
        if steps == 0 and path != "schedule.warmup":
            found.append(f"{path} = {text!r} must be longer than nothing")
    found += _cross_checks(config)
    return found


def _check(path, value, rule):
    if rule.get("choices") and value not in rule["choices"]:
        yield f"{path} = {value!r} must be one of {', '.join(map(str, rule['choices']))}"
    if isinstance(value, float) and not math.isfinite(value):
        yield f"{path} = {value} must be a finite number"
    if rule.get("low") is not None and value < rule["low"]:
        yield f"{path} = {value} must be at least {rule['low']}"
    if rule.get("high") is not None and value > rule["high"]:
        yield f"{path} = {value} must be at most {rule['high']}"


def _cross_checks(config):
    if config.data.name in catalog.NAMES:
        yield from _image_checks(config)
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
    if config.schedule.name == "step" and not config.schedule.drops:
        yield "schedule.name = 'step' needs schedule.drops, such as --set schedule.drops='6 epochs,8 epochs'"
    if config.schedule.name != "step" and config.schedule.drops:
        name = config.schedule.name
        yield f"schedule.drops = {config.schedule.drops} only apply to schedule.name = 'step', not {name!r}"
    if config.optimizer.nesterov and not config.optimizer.momentum:
        yield "optimizer.nesterov needs optimizer.momentum above 0"
    if config.schedule.name == "plateau" and not config.data.validation:
        yield "schedule.name = 'plateau' follows the validation loss: hold out examples with data.validation"
    if getattr(config.model, "output", "") == "rbf":
        if config.train.label_smoothing:
            yield "train.label_smoothing does not apply to model.output = 'rbf', whose loss has its own background term"


def _image_checks(config):
    data, facts = config.data, catalog.facts(config.data)
    side, channels = max(facts.shape[:2]), facts.shape[2]
    if data.size and data.size < side:
        yield (
            f"data.size = {data.size} must be 0 or at least the stored side, {side}: "
            "images are centred on a larger canvas; data.crop cuts"
        )
    canvas = data.size or min(facts.shape[:2])
    if data.crop > canvas:
        yield f"data.crop = {data.crop} must be at most the side it is cut from, {canvas}"
    for name in ("pca", "brightness", "contrast", "saturation", "hue"):
        if getattr(config.augment, name) and channels != 3:
            yield f"augment.{name} changes colours, and the images of {data.name} have {channels} channel"
    for name in ("mean", "std"):
        values = getattr(data, name)
        if values and len(values) != channels:
            yield f"data.{name} = {values} must have one number for each of the {channels} channels of {data.name}"
    if any(value <= 0 for value in data.std):
        yield f"data.std = {data.std} must be above 0"
    if config.evaluation.crops == 10 and not data.crop:
        yield "evaluation.crops = 10 needs data.crop, the side of a crop"
    if getattr(config.model, "output", "") == "rbf" and facts.classes != 10:
        yield f"model.output = 'rbf' has bitmaps of the ten digits, and {data.name} has {facts.classes} classes"
