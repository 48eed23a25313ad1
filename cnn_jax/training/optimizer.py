"""From gradients to updates, and the learning rate over time.

The rate lives outside the optimiser's state: `schedule(step)` gives it, times the plateau factor where there is one,
and `update` takes it as `learning_rate=`. So a schedule is a pure function of the step, and nothing of it is saved.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from cnn_jax import config
from cnn_jax.errors import UsageError


def make_schedule(
    schedule: config.Schedule, learning_rate: float, total_steps: int, examples: int, batch_size: int
) -> Callable:
    """Returns the learning rate as a function of the step, which counts from 0.

    A warm-up of w steps climbs linearly: step s < w has (s + 1) / w of what the schedule proper begins with, so that
    no step is taken at rate 0. The schedule proper begins at step w and spans the n = total_steps - w that are left:

      constant   the rate, unchanged
      step       times `factor` at every drop; drops count from the start of the run, warm-up included
      cosine     half a cosine from the rate at 0 to `final` of it at n (Loshchilov and Hutter, 2017)
      linear     a straight line from the rate at 0 to `final` of it at n
      one_cycle  linear up over round(peak_at n) steps, as in warm-up, then linear down to `final` at n (Smith, 2018)
      plateau    the rate, unchanged: `PlateauState.factor` is what falls

    Step n is the first one past the end, so the last step of a run still has a rate above 0.

    Args:
      schedule: its settings.
      learning_rate: the peak value.
      total_steps: length of the run, at least 1.
      examples: size of the training set, for durations in epochs.
      batch_size: examples per step.

    Returns:
      A function of the step (int or int32 scalar, traced or not) that returns a float32 scalar.

    Raises:
      UsageError: the warm-up leaves no step for the schedule proper.
    """
    warmup = config.duration_steps(schedule.warmup, examples, batch_size)
    if warmup and warmup >= total_steps:
        raise UsageError(
            f"schedule.warmup = {schedule.warmup!r} is {warmup} steps, and the whole run has {total_steps}: "
            "shorten the warm-up or lengthen train.duration"
        )
    steps = total_steps - warmup
    proper = SCHEDULES[type(schedule.kind)](
        schedule.kind, learning_rate, steps, lambda text: config.duration_steps(text, examples, batch_size) - warmup
    )
    rate = _climb(warmup, proper)
    return lambda step: jnp.asarray(rate(step), jnp.float32)


def _climb(steps, then):
    """A schedule, after so many steps of linear growth to the value it begins with."""
    if not steps:
        return then
    ramp = optax.linear_schedule(0.0, then(0), steps)
    return optax.join_schedules([lambda step: ramp(step + 1), then], [steps])


def _constant(schedule, rate, steps, place):
    del schedule, steps, place
    return optax.constant_schedule(rate)


def _step(schedule, rate, steps, place):
    del steps
    # optax.piecewise_constant_schedule keys the drops by step, and two of them may round to the same one.
    boundaries = jnp.asarray([place(drop) for drop in schedule.drops], jnp.int32)
    return lambda step: rate * schedule.factor ** jnp.sum(step >= boundaries)


def _cosine(schedule, rate, steps, place):
    del place
    return optax.cosine_decay_schedule(rate, steps, schedule.final)


def _linear(schedule, rate, steps, place):
    del place
    return optax.linear_schedule(rate, rate * schedule.final, steps)


def _one_cycle(schedule, rate, steps, place):
    rise = round(schedule.peak_at * steps)
    return _climb(rise, _linear(schedule, rate, steps - rise, place))


# Each takes the declaration, the peak rate, the steps after the warm-up, and a function that says at which of them a
# duration from the start of the run ends; it returns a function of the step after the warm-up.
SCHEDULES = {
    config.training.Constant: _constant,
    config.training.Step: _step,
    config.training.Cosine: _cosine,
    config.training.Linear: _linear,
    config.training.OneCycle: _one_cycle,
    config.training.Plateau: _constant,
}


def make_optimizer(settings: config.Optimizer) -> optax.GradientTransformationExtraArgs:
    """Returns the optimiser, to be called as `update(gradients, state, params, learning_rate=rate)`.

    First the gradients are clipped, all together, to `clip_norm`. Then, with g the gradient, w the parameters, d the
    weight decay and r the rate:

      sgd    v = m v + (g + d w);  w -= r v. The rate stays outside the velocity, as in PyTorch; AlexNet's paper has
             it inside, which differs only in the steps after the rate has changed.
      adam   Kingma and Ba, 2015, on g + d w. Epsilon is added after the bias correction, as in the paper's
             algorithm 1 and PyTorch; Keras adds it before.
      adamw  Loshchilov and Hutter, 2019: adam on g;  w -= r (adam's step + d w), as in PyTorch.
      lars   You, Gitman and Ginsburg, 2017, algorithm 1: v = m v + r l (g + d w);  w -= v, with a local rate
             l = trust |w| / (|g| + d |w|) for each parameter. The rate is inside the velocity, as published.
             (optax.lars divides by |g + d w| instead, the same without weight decay.)

    With nesterov the step is m v + the newest term, v being the new velocity (sgd, lars).

    Parameters with one axis (biases, scales) are not decayed, unless `decay_biases`, and have no local rate. In the end
    what a layer would move by is multiplied by its factor in `layers`; the gradient of one with 0 does not count for
    `clip_norm`.

    Args:
      settings: the optimiser's settings; `learning_rate`, `accumulate` and `ema` are the caller's part.
    """
    clip = [optax.clip_by_global_norm(settings.clip_norm)] if settings.clip_norm else []
    parts = [*clip, *OPTIMIZERS[type(settings.kind)](settings.kind, settings)]
    if settings.factors:
        frozen = {name: 0.0 for name, factor in settings.factors.items() if not factor}
        parts = [_scale_layers(frozen), *parts, _scale_layers(settings.factors)]
    return optax.chain(*parts)


def _scale_layers(factors):
    """Multiplies what belongs to some layers, by name."""

    def update(updates, params):
        return {
            name: jax.tree.map(lambda value, by=factors[name]: by * value, leaves) if name in factors else leaves
            for name, leaves in updates.items()
        }

    return optax.stateless(update)


def _decay(settings):
    return [optax.add_decayed_weights(settings.weight_decay, _decayed(settings))] if settings.weight_decay else []


def _velocity(kind):
    return [optax.trace(kind.momentum, kind.nesterov)] if kind.momentum else []


def _sgd(kind, settings):
    return [*_decay(settings), *_velocity(kind), _scale_by_rate()]


def _adam(kind, settings):
    return [*_decay(settings), optax.scale_by_adam(kind.beta1, kind.beta2, kind.epsilon), _scale_by_rate()]


def _adamw(kind, settings):
    return [optax.scale_by_adam(kind.beta1, kind.beta2, kind.epsilon), *_decay(settings), _scale_by_rate()]


def _lars(kind, settings):
    return [_scale_by_local_rate(kind.trust, settings), _scale_by_rate(), *_velocity(kind)]


# Each takes the declaration and the settings that all optimisers have, and returns the transformations in order.
OPTIMIZERS = {
    config.training.SGD: _sgd,
    config.training.Adam: _adam,
    config.training.AdamW: _adamw,
    config.training.Lars: _lars,
}


def _decayed(settings):
    """The mask of parameters that weight decay applies to."""
    return lambda params: jax.tree.map(lambda param: settings.decay_biases or param.ndim > 1, params)


def _scale_by_rate():
    def update(updates, state, params=None, *, learning_rate, **_):
        return jax.tree.map(lambda value: -learning_rate * value, updates), state

    return optax.GradientTransformationExtraArgs(lambda params: optax.EmptyState(), update)


def _scale_by_local_rate(trust, settings):
    """The decayed gradient times the local rate of LARS; 1 where that would be undefined, or 0 and stay 0."""

    def one(gradient, param):
        if param.ndim <= 1:
            return gradient + settings.weight_decay * param if settings.decay_biases else gradient
        size = jnp.linalg.norm(param.ravel())
        against = jnp.linalg.norm(gradient.ravel()) + settings.weight_decay * size
        usable = (size > 0) & (against > 0)
        local = jnp.where(usable, trust * size / jnp.where(usable, against, 1.0), 1.0)
        return local * (gradient + settings.weight_decay * param)

    return optax.stateless(lambda gradients, params: jax.tree.map(one, gradients, params))


class PlateauState(NamedTuple):
    """The state that the plateau schedule keeps between evaluations; scalars."""

    best: jax.Array  # float32: the lowest loss so far
    bad: jax.Array  # int32: evaluations since, or since the last drop
    factor: jax.Array  # float32: what the schedule's rate is multiplied by


def plateau_init() -> PlateauState:
    """Returns the state before the first evaluation."""
    return PlateauState(jnp.float32(jnp.inf), jnp.int32(0), jnp.float32(1.0))


def plateau_update(state: PlateauState, loss, schedule: config.training.Plateau) -> PlateauState:
    """Returns the state after an evaluation.

    The factor falls at the `patience`-th evaluation in a row without a loss below the best one; NaN is never below.

    Args:
      state: the state after the previous evaluation.
      loss: scalar, lower is better.
      schedule: the declaration, gives `patience` and `factor`.
    """
    better = loss < state.best
    bad = jnp.where(better, 0, state.bad + 1)
    drop = bad >= schedule.patience
    return PlateauState(
        best=jnp.where(better, loss, state.best).astype(jnp.float32),
        bad=jnp.where(drop, 0, bad).astype(jnp.int32),
        factor=jnp.where(drop, state.factor * schedule.factor, state.factor).astype(jnp.float32),
    )


def ema_update(ema, params, decay: float, step):
    """Returns the exponential moving average of the parameters, after one more step.

    The decay warms up, min(decay, (1 + step) / (10 + step)), so that the average soon forgets the initial values
    (the rule of tf.train.ExponentialMovingAverage with num_updates).

    Args:
      ema: the average so far, a tree as params.
      params: the parameters after the step.
      decay: in [0, 1), what it grows to.
      step: the step just taken, counted from 0; int or int32 scalar.
    """
    decay = jnp.minimum(decay, (1 + step) / (10 + step))
    return jax.tree.map(lambda average, new: average + (1 - decay) * (new - average), ema, params)
