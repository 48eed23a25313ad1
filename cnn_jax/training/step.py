"""One training step: a pure function of the state and a batch, the same under jit, a device mesh and pmap."""

import functools

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jax.flatten_util import ravel_pytree

from cnn_jax import config, randomness
from cnn_jax.data.augment.colour import shrink
from cnn_jax.data.augment.mixing import mix
from cnn_jax.data.augment.transforms import centre_crop, move, normalise, recolour, ten_crops, to_canvas
from cnn_jax.models import needs_keys
from cnn_jax.training.optimizer import ema_update
from cnn_jax.training.state import Network, Report, Totals, TrainState, Variables, is_finite

ALONE = 2**18  # elements, from which an array is a message of its own between devices


def example_losses(settings: config.Config, logits, targets):
    """Loss of each example, float32 [N].

    Softmax cross entropy or, for the radial basis output, the 1998 criterion (eq. 9): with logits the negated
    distances, cross entropy against the ten classes and a background class at a fixed distance.

    Args:
      settings: the run's config.
      logits: [N, classes].
      targets: float [N, classes], the share of each class in the label; they sum to 1.
    """
    logits = logits.astype(jnp.float32)
    classes = logits.shape[-1]
    if getattr(settings.model, "output", "") == "rbf":
        background = jnp.full((*logits.shape[:-1], 1), -settings.model.background)
        logits = jnp.concatenate([logits, background], axis=-1)
    log_probabilities = jax.nn.log_softmax(logits)
    return -jnp.sum(targets * log_probabilities[..., :classes], axis=-1)


def prepare_images(settings: config.Config, images, keys=None, once=lambda compute: compute()):
    """Returns stored uint8 images as the network sees them, float32 [N, side, side, C].

    Args:
      settings: the run's config.
      images: uint8 [N, H, W, C].
      keys: one PRNG key per example, switches augmentation on.
      once: calls a function of no arguments whose result is used many times, see `_computed_once`.
    """
    data = settings.data
    images = to_canvas(images, data.size)
    if keys is None:
        images = centre_crop(images, data.crop)
    else:
        images = once(lambda: move(images, keys, settings.augment, data.crop))
        images = recolour(images, keys, settings.augment)
    images = normalise(images, data.low, data.high, data.mean, data.std)
    return images if keys is None else shrink(images, settings.augment)


def prepare_crops(settings: config.Config, images):
    """Returns stored uint8 images as the network sees them in ten crops, float32 [10, N, side, side, C]."""
    data = settings.data
    crops = ten_crops(to_canvas(images, data.size), data.crop)
    return normalise(crops, data.low, data.high, data.mean, data.std)


def compute_dtype(settings: config.Config):
    """Returns the type the network computes in; parameters, optimiser and loss stay float32."""
    return jnp.bfloat16 if settings.train.precision == "bfloat16" else jnp.float32


def forward(settings: config.Config, network: Network, variables: Variables, images, keys=None, training=False):
    """Returns the network on prepared images, in the precision of the run; see `Network`."""
    dtype = compute_dtype(settings)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), variables.params)
    return network(variables._replace(params=params), images.astype(dtype), keys, training)


def make_train_step(settings: config.Config, network: Network, schedule, optimizer):
    """Returns the step function `train_step(state, batch, axis=None) -> state`.

    A batch is a dict: images uint8 [N, H, W, C], labels int32 [N], index int32 [N] (of the examples in the training
    set). Under pmap each device holds a part of the batch and `axis` names the devices; loss and gradients are then
    averaged over it.

    Args:
      settings: the run's config.
      network: the model.
      schedule: step to learning rate.
      optimizer: optax transformation that takes `learning_rate` at each update.
    """
    gradients = make_gradients(settings, network)

    def train_step(state: TrainState, batch, axis=None):
        (loss, (correct, batch_stats)), grads = gradients(state, batch)
        examples = jnp.int32(batch["labels"].shape[0])
        if axis is not None:
            devices = lax.axis_size(axis)
            loss, grads, batch_stats, share = mean_over(axis, (loss, grads, batch_stats, correct.astype(jnp.float32)))
            correct, examples = jnp.rint(share * devices).astype(jnp.int32), examples * devices
        rate = schedule(state.step) * state.plateau.factor
        updates, optimizer_state = optimizer.update(grads, state.optimizer, state.params, learning_rate=rate)
        params = optax.apply_updates(state.params, updates)
        norm = optax.tree.norm(grads)
        ema = None if state.ema is None else ema_update(state.ema, params, settings.optimizer.ema, state.step)
        seen = state.totals
        totals = Totals(seen.steps + 1, seen.examples + examples, seen.loss + loss, seen.correct + correct, norm)
        step = state.step + 1
        return TrainState(state.seed, step, params, batch_stats, optimizer_state, ema, state.plateau, totals)

    return train_step


def mean_over(axis: str, tree):
    """Takes the mean of float32 arrays over the devices of an axis. Small ones travel together: messages cost more than
    what is in them."""
    leaves, structure = jax.tree.flatten(tree)
    small = [i for i, leaf in enumerate(leaves) if leaf.size < ALONE]
    joined, apart = ravel_pytree([leaves[i] for i in small])
    means = dict(zip(small, apart(lax.pmean(joined, axis))))
    return structure.unflatten([means[i] if i in means else lax.pmean(leaf, axis) for i, leaf in enumerate(leaves)])


def _make_loss(settings, network):
    """`loss(params, batch_stats, state, batch) -> (mean loss, (right answers, statistics afterwards))`."""
    augmenting = settings.augment != config.Augment() or settings.data.crop > 0
    mixing = _mixes(settings)
    drawing = needs_keys(settings.model)

    def once(state):
        # With NHWC the first convolution is one operation, which computes its input once anyway.
        merging = augmenting and settings.model.layout == "CHWN"
        return functools.partial(_computed_once, state.step >= 0) if merging else lambda compute: compute()

    def example_keys(purpose, state, batch):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(state.seed), purpose), state.step)
        return jax.vmap(functools.partial(jax.random.fold_in, key))(batch["index"])

    def prepare(state, batch):
        keys = example_keys(randomness.AUGMENTATION, state, batch) if augmenting or mixing else None
        images = prepare_images(settings, batch["images"], keys if augmenting else None, once(state))
        targets = jax.nn.one_hot(batch["labels"], network.classes)
        if settings.train.label_smoothing:
            targets = optax.smooth_labels(targets, settings.train.label_smoothing)
        return mix(images, targets, keys, settings.augment) if mixing else (images, targets)

    def loss(params, batch_stats, state, batch):
        prepared = functools.partial(prepare, state, batch)
        images, targets = once(state)(prepared)
        keys = example_keys(randomness.DROPOUT, state, batch) if drawing else None
        variables = Variables(params, batch_stats)
        logits, _, batch_stats = forward(settings, network, variables, images, keys, training=True)
        correct = jnp.sum(jnp.argmax(logits, -1) == batch["labels"], dtype=jnp.int32)
        return jnp.mean(example_losses(settings, logits, targets)), (correct, batch_stats)

    return loss


def make_gradients(settings: config.Config, network: Network):
    """Makes `gradients(state, batch)`: what the loss returns, and its gradient; in `optimizer.accumulate` parts."""
    loss_function = _make_loss(settings, network)
    parts = settings.optimizer.accumulate
    # Part i holds the pairs i, i + parts, ...: each device then keeps its own share of every part, and neighbours,
    # which are mixed, stay together.
    together = 2 if _mixes(settings) else 1
    part = jax.value_and_grad(loss_function, has_aux=True)

    def gradients(state, batch):
        if parts == 1:
            return part(state.params, state.batch_stats, state, batch)
        cut = lambda leaf: leaf.reshape(-1, parts, together, *leaf.shape[1:]).swapaxes(0, 1)
        split = jax.tree.map(lambda leaf: cut(leaf).reshape(parts, -1, *leaf.shape[1:]), batch)

        def add(carry, one):
            total, batch_stats = carry
            (loss, (correct, batch_stats)), grads = part(state.params, batch_stats, state, one)
            return (jax.tree.map(jnp.add, total, (loss, correct, grads)), batch_stats), None

        zero = jnp.float32(0), jnp.int32(0), jax.tree.map(jnp.zeros_like, state.params)
        ((loss, correct, grads), batch_stats), _ = lax.scan(add, (zero, state.batch_stats), split)
        return (loss / parts, (correct, batch_stats)), jax.tree.map(lambda leaf: leaf / parts, grads)

    return gradients


def _mixes(settings):
    return settings.augment.mixup > 0 or settings.augment.cutmix > 0


def _computed_once(certain, compute):
    """`compute()`, as a block that XLA does not merge into its users; `certain` is true, but XLA cannot know it.

    A convolution made of windows has many slices of its input, and each would compute the augmented images anew: the
    step would take three times as long. (XLA on CPU drops lax.optimization_barrier before it merges operations.)
    """
    zeros = lambda: jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), jax.eval_shape(compute))
    return lax.cond(certain, compute, zeros)


def make_run(train_step, pick):
    """Returns `run(state, data, count, axis=None) -> (state, report)`, which takes many steps in one dispatch.

    The number of steps is an argument, not part of the program: however a run is cut into stretches, every step is
    computed by the same instructions. That is what makes a resumed run equal to the bit. It stops at the first step
    that is not finite, and a stretch after it does nothing.

    Args:
      train_step: from `make_train_step`.
      pick: `pick(data, i)`, the batch of the stretch's i-th step.
    """

    def run(state, data, count, axis=None):
        def body(carry):
            i, state = carry
            return i + 1, train_step(state, pick(data, i), axis)

        ahead = lambda carry: (carry[0] < count) & is_finite(carry[1])
        _, state = lax.while_loop(ahead, body, (jnp.int32(0), state))
        return state, Report.of(state)

    return run
