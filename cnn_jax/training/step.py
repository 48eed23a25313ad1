"""One training step: a pure function of the state and a batch, the same under jit, a device mesh and pmap."""

import functools

import jax
import jax.numpy as jnp
import optax
from jax import lax

from cnn_jax import config
from cnn_jax.data.augment import augment, normalise, to_canvas
from cnn_jax.training import state as states
from cnn_jax.training.optimizer import ema_update
from cnn_jax.training.state import Network, Totals, TrainState


def example_losses(settings: config.Config, logits, labels, smoothing: float = 0.0):
    """Loss of each example, float32 [N].

    Softmax cross entropy or, for the radial basis output, the 1998 criterion (eq. 9): with logits the negated
    distances, cross entropy against the ten classes and a background class at a fixed distance.

    Args:
      settings: the run's config.
      logits: [N, classes].
      labels: int [N].
      smoothing: share of the target spread evenly over all classes.
    """
    logits = logits.astype(jnp.float32)
    classes = logits.shape[-1]
    if getattr(settings.model, "output", "") == "rbf":
        background = jnp.full((*logits.shape[:-1], 1), -settings.model.background)
        logits = jnp.concatenate([logits, background], axis=-1)
    log_probabilities = jax.nn.log_softmax(logits)
    target = jax.nn.one_hot(labels, classes)
    if smoothing:
        target = optax.smooth_labels(target, smoothing)
    return -jnp.sum(target * log_probabilities[..., :classes], axis=-1)


def prepare_images(settings: config.Config, images, keys=None):
    """Stored uint8 images as the network sees them, float32; `keys` (one per example) switches augmentation on."""
    images = to_canvas(images, settings.data.size).astype(jnp.float32)
    if keys is not None:
        images = augment(images, keys, settings.augment)
    return normalise(images, settings.data.low, settings.data.high)


def compute_dtype(settings: config.Config):
    """What the network computes in; parameters, optimiser and loss stay float32."""
    return jnp.bfloat16 if settings.train.precision == "bfloat16" else jnp.float32


def forward(settings: config.Config, network: Network, params, images, keys=None):
    """The network on prepared images, in the precision of the run."""
    dtype = compute_dtype(settings)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params)
    return network(params, images.astype(dtype), keys)


def make_train_step(settings: config.Config, network: Network, schedule, optimizer):
    """The step function `train_step(state, batch, axis=None) -> (state, finite)`.

    A batch is a dict: images uint8 [N, H, W, C], labels int32 [N], index int32 [N] (of the examples in the training
    set). Under pmap each device holds a part of the batch and `axis` names the devices; loss and gradients are then
    averaged over it. `finite` is False once the loss or the gradient is not a finite number.

    Args:
      settings: the run's config.
      network: the model.
      schedule: step to learning rate.
      optimizer: optax transformation that takes `learning_rate` at each update.
    """
    augmenting = settings.augment != config.Augment()
    merging = augmenting and settings.model.layout == "CHWN"

    def example_keys(purpose, state, batch):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(state.seed), purpose), state.step)
        return jax.vmap(functools.partial(jax.random.fold_in, key))(batch["index"])

    def loss_function(params, state, batch):
        augment_keys = example_keys(states.AUGMENTATION, state, batch) if augmenting else None
        dropout_keys = example_keys(states.DROPOUT, state, batch) if settings.model.dropout else None
        prepare = functools.partial(prepare_images, settings, batch["images"], augment_keys)
        images = _computed_once(prepare, state.step >= 0) if merging else prepare()
        logits, _ = forward(settings, network, params, images, dropout_keys)
        losses = example_losses(settings, logits, batch["labels"], settings.train.label_smoothing)
        correct = jnp.sum(jnp.argmax(logits, -1) == batch["labels"], dtype=jnp.int32)
        return jnp.mean(losses), correct

    def gradients(state, batch):
        part = jax.value_and_grad(loss_function, has_aux=True)
        parts = settings.optimizer.accumulate
        if parts == 1:
            return part(state.params, state, batch)
        # Part i holds examples i, i + parts, ...: each device then keeps its own share of every part.
        split = jax.tree.map(lambda leaf: leaf.reshape(-1, parts, *leaf.shape[1:]).swapaxes(0, 1), batch)
        add = lambda total, one: (jax.tree.map(jnp.add, total, part(state.params, state, one)), None)
        one = jax.tree.map(lambda leaf: leaf[0], split)
        zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(part, state.params, state, one))
        ((loss, correct), grads), _ = lax.scan(add, zero, split)
        return (loss / parts, correct), jax.tree.map(lambda leaf: leaf / parts, grads)

    def train_step(state: TrainState, batch, axis=None):
        (loss, correct), grads = gradients(state, batch)
        examples = jnp.int32(batch["labels"].shape[0])
        if axis is not None:
            loss, grads = lax.pmean((loss, grads), axis)
            correct, examples = lax.psum((correct, examples), axis)
        rate = schedule(state.step) * state.plateau.factor
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params, learning_rate=rate)
        params = optax.apply_updates(state.params, updates)
        norm = optax.tree.norm(grads)
        ema = None if state.ema is None else ema_update(state.ema, params, settings.optimizer.ema, state.step)
        seen = state.totals
        totals = Totals(seen.steps + 1, seen.examples + examples, seen.loss + loss, seen.correct + correct, norm)
        state = TrainState(state.seed, state.step + 1, params, optimizer_state, ema, state.plateau, totals)
        return state, jnp.isfinite(loss) & jnp.isfinite(norm)

    return train_step


def _computed_once(compute, certain):
    """`compute()`, as a block that XLA does not merge into its users; `certain` is true, but XLA cannot know it.

    A convolution made of windows has many slices of its input, and each would compute the augmented images anew: the
    step would take three times as long. (XLA on CPU drops lax.optimization_barrier before it merges operations.)
    """
    shape = jax.eval_shape(compute)
    return lax.cond(certain, compute, lambda: jnp.zeros(shape.shape, shape.dtype))


def make_run(train_step, pick):
    """Whole stretches of steps in one dispatch: `run(state, data, count, axis=None) -> (state, finite)`.

    The number of steps is an argument, not part of the program: however a run is cut into stretches, every step is
    computed by the same instructions. That is what makes a resumed run equal to the bit. It stops at the first step
    that is not finite.

    Args:
      train_step: from `make_train_step`.
      pick: `pick(data, i)`, the batch of the stretch's i-th step.
    """

    def run(state, data, count, axis=None):
        def body(carry):
            i, state, _ = carry
            state, finite = train_step(state, pick(data, i), axis)
            return i + 1, state, finite

        ahead = lambda carry: (carry[0] < count) & carry[2]
        _, state, finite = lax.while_loop(ahead, body, (jnp.int32(0), state, jnp.bool(True)))
        return state, finite

    return run
