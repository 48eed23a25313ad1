"""Checks that settings fit the data: by listing files, before anything is decoded or made, and without jax."""

from cnn_jax.config.rules import shape_problems
from cnn_jax.config.run import Config
from cnn_jax.config.training import MOST_STEPS, Plateau, duration_steps
from cnn_jax.data.datasets import source


def problems(config: Config, held_out: str = "data.validation") -> list[str]:
    """Lists what does not fit the data, one line each; some lines give the `--set` that mends it.

    Args:
      config: settings that are sound by themselves.
      held_out: the setting that says how many training images are held out.

    Raises:
      UserError: there are no class folders where data.path says, or they do not go together; a set of TFDS is not
        prepared.
    """
    data, images = config.data, source.of(config.data)
    if data.kind.classes is None:  # only its files tell
        images.make_ready(config.experiment)
    facts, examples = images.facts(), images.training_examples()
    found = [] if data.kind.shape else list(shape_problems(config, facts.shape))
    if getattr(config.model, "output", "") == "rbf" and data.kind.classes is None and facts.classes != 10:
        found.append(f"model.output = 'rbf' has bitmaps of the ten digits, and {data.name} has {facts.classes} classes")
    if examples is None:
        return found
    if isinstance(config.schedule.kind, Plateau) and not source.validates(data, facts):
        found.append("schedule.name = 'plateau' follows the validation loss: hold out examples with data.validation")
    if data.validation and facts.validated:
        return [
            *found,
            f"data.validation = {data.validation} holds out training images, and {data.name} has validation images "
            "of its own: --set data.validation=0 uses those",
        ]
    if data.validation >= examples:
        return [
            *found,
            f"{held_out} = {data.validation} must be smaller than the {examples:,} training examples of "
            f"{data.name} it is taken from: --set {held_out}={examples // 10}",
        ]
    left = min(examples - data.validation, data.limit or examples)
    if config.train.batch_size > left:
        found.append(
            f"train.batch_size = {config.train.batch_size:,} is larger than the training set, {left:,} images: "
            f"--set train.batch_size={left} is the largest"
        )
        return found
    steps = lambda text: duration_steps(text, left, config.train.batch_size)
    total, warmup = steps(config.train.duration), steps(config.schedule.warmup)
    if total < 1:
        found.append(
            f"train.duration = {config.train.duration!r} is less than one step of {config.train.batch_size} examples: "
            "--set train.duration='1 steps' is the shortest"
        )
    elif total > MOST_STEPS:
        found.append(
            f"train.duration = {config.train.duration!r} is {total:,} steps; at most {MOST_STEPS:,} are counted"
        )
    elif warmup and warmup >= total:
        found.append(
            f"schedule.warmup = {config.schedule.warmup!r} is {warmup:,} steps, and the whole run has {total:,}: "
            f"--set schedule.warmup='{total // 10} steps', or lengthen train.duration"
        )
    return found
