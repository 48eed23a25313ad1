"""The training step: what it computes, against NumPy; and what its random choices depend on."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from launching import RUNS
from tiny_training import PLAIN, RECIPE, STEPS, TinyRun, assert_same_bits, dataset

from cnn_jax import config
from cnn_jax.config import experiments, overrides
from cnn_jax.data.datasets import source
from cnn_jax.training import state as states
from cnn_jax.training import step as steps
from cnn_jax.training.optimizer import make_optimizer, make_schedule

pytestmark = pytest.mark.usefixtures("quick_compile")


@pytest.fixture(scope="module")
def tiny():
    return TinyRun("data.placement=host")


@pytest.fixture(scope="module")
def plain():
    descent = ("optimizer.weight_decay=0", "optimizer.clip_norm=0", "optimizer.momentum=0")
    return TinyRun(*PLAIN, *descent, "data.placement=host")


def log_softmax(logits):
    logits = np.float64(logits)
    top = logits.max(-1, keepdims=True)
    return logits - top - np.log(np.exp(logits - top).sum(-1, keepdims=True))


def test_means_over_devices_travel_in_one_message_but_for_large_arrays():
    draw = np.random.default_rng(0).standard_normal
    tree = {name: np.float32(draw((4, *shape))) for name, shape in {"a": (), "b": (3, 2), "c": (2**18,)}.items()}
    mean = jax.vmap(functools.partial(steps.mean_over, "devices"), axis_name="devices", out_axes=None)
    for ours, values in zip(jax.tree.leaves(mean(tree)), jax.tree.leaves(tree), strict=True):
        np.testing.assert_allclose(ours, values.mean(0), rtol=1e-5, atol=1e-6)
    one = jax.tree.map(lambda leaf: leaf[0], tree)
    program = jax.make_jaxpr(functools.partial(steps.mean_over, "devices"), axis_env=[("devices", 4)])(one)
    messages = [equation for equation in program.eqns if "psum" in str(equation.primitive)]
    assert [message.invars[0].aval.shape for message in messages] in ([(7,), (2**18,)], [(2**18,), (7,)])


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_the_formula(smoothing):
    rng = np.random.default_rng(0)
    logits, labels = rng.normal(size=(7, 10)) * 3, rng.integers(10, size=7)
    target = np.eye(10)[labels] * (1 - smoothing) + smoothing / 10
    want = -(target * log_softmax(logits)).sum(-1)
    got = steps.example_losses(RECIPE, jnp.float32(logits), jnp.float32(target))
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-6)


@pytest.mark.parametrize("j", [2.0, 20.0])
def test_the_1998_loss_is_equation_9(j):
    rng = np.random.default_rng(0)
    distances, labels = rng.uniform(1, 60, size=(50, 10)), rng.integers(10, size=50)
    settings = config.Config(model=config.LeNet5(output="rbf", background=12.0), data=config.Data(size=32))
    j = 12.0
    right = distances[np.arange(50), labels]
    want = right + np.log(np.exp(-j) + np.exp(-distances).sum(-1))
    got = steps.example_losses(settings, -jnp.float32(distances), jnp.eye(10)[labels])
    np.testing.assert_allclose(got, want, rtol=2e-6, atol=1e-5)


def test_totals_are_what_a_direct_computation_gives(plain):
    state = plain.first_state()
    index = plain.order.batches(0, 1)[0]
    images, labels = dataset().images[index], dataset().labels[index]

    def loss(params):
        logits, *_ = plain.network(states.Variables(params, {}), jnp.float32(images) / 255)
        return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], 1).mean(), logits

    (want, logits), gradient = jax.jit(jax.value_and_grad(loss, has_aux=True))(state.params)
    norm = np.sqrt(sum((np.float64(leaf) ** 2).sum() for leaf in jax.tree.leaves(gradient)))
    moved = jax.tree.map(lambda w, g: np.asarray(w - plain.schedule(0) * g), state.params, gradient)
    state = plain.advance(state, 1)
    totals = state.totals
    assert (int(state.step), int(totals.steps), int(totals.examples)) == (1, 1, 16)
    assert int(totals.correct) == (logits.argmax(-1) == labels).sum()
    np.testing.assert_allclose(totals.loss, want, rtol=1e-6)
    np.testing.assert_allclose(totals.gradient_norm, norm, rtol=1e-5)
    jax.tree.map(lambda got, new: np.testing.assert_allclose(got, new, rtol=1e-5, atol=1e-7), state.params, moved)


def test_the_averaged_parameters_follow_the_parameters(tiny):
    state = tiny.first_state()
    average = jax.tree.map(np.float64, jax.device_get(state.params))
    for t in range(12):
        state = tiny.advance(state, 1)
        decay = min(0.9, (1 + t) / (10 + t))
        params = jax.tree.map(np.float64, jax.device_get(state.params))
        average = jax.tree.map(lambda a, w: decay * a + (1 - decay) * w, average, params)
    jax.tree.map(lambda got, want: np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-6), state.ema, average)
    assert state.evaluated.params is state.ema


def test_training_learns(plain):
    losses, _ = plain.losses()
    assert losses[-3:].mean() < losses[:3].mean() - 0.2


def test_a_stretch_stops_at_the_first_step_that_is_not_finite(plain):
    state = plain.advance(plain.first_state(), 3)
    broken = plain.parallel.replicate(jax.tree.map(lambda w: np.full_like(w, np.nan), jax.device_get(state.params)))
    for _ in range(2):  # and a stretch after it does nothing
        state, report = plain.run(state._replace(params=broken), plain.feed.stretch(3, STEPS), np.int32(STEPS - 3))
        assert not report.finite and int(state.step) == 4
        broken = state.params
    (totals,) = report.totals()
    assert totals.steps == 4 and not np.isfinite(totals.loss) and totals.examples == 4 * 16


# What random choices depend on. One step is taken from the same parameters, with one thing changed.


def loss_of_step(run, data, **changes):
    """The loss of the first step of `data`, with fields of the state replaced by numbers."""
    changes = {name: run.parallel.replicate(np.int32(value)) for name, value in changes.items()}
    state = run.parallel.replicate(jax.tree.map(np.copy, trained(run)))._replace(**changes)
    state, _ = run.run(state, run.parallel.split(data, 1), np.int32(1))
    return float(state.totals.loss)


@functools.cache
def trained(run):
    """A state whose biases are not zero: the dense layers of a black image then have something to drop."""
    state = run.advance(run.first_state(), 5)
    return jax.device_get(state._replace(totals=states.zero_totals()))


def batch_of(run):
    return {name: np.asarray(array) for name, array in run.feed.stretch(0, 1).items()}


def black(run):
    """All images black, which augmentation does not change: only dropout is left."""
    return batch_of(run) | {"images": np.zeros_like(batch_of(run)["images"])}


@pytest.fixture(scope="module", params=["dropout", "augmentation"])
def random_run(request, tiny):
    """A run in which one thing is random, and its data."""
    if request.param == "dropout":
        return tiny, black(tiny)
    run = TinyRun("model.dropout=0", "data.placement=host")
    return run, batch_of(run)


def test_random_choices_depend_on_seed_step_and_example(random_run):
    run, data = random_run
    base = loss_of_step(run, data)
    others = [
        loss_of_step(run, data, seed=4),
        loss_of_step(run, data, step=6),
        loss_of_step(run, data | {"index": data["index"] + 500}),
    ]
    assert loss_of_step(run, data) == base
    assert len({base, *others}) == 4
    assert all(abs(other - base) > 1e-4 for other in others)


def test_random_choices_do_not_depend_on_the_place_in_the_batch(random_run):
    run, data = random_run
    reverse = loss_of_step(run, {name: array[:, ::-1] for name, array in data.items()})
    np.testing.assert_allclose(reverse, loss_of_step(run, data), rtol=1e-6)


def test_each_example_of_a_batch_has_draws_of_its_own(random_run):
    """A batch of one image, 16 times: its loss varies less over steps where the 16 have different indices."""
    run, data = random_run
    same = {name: np.repeat(array[:, :1], 16, axis=1) for name, array in data.items()}
    own = same | {"index": np.broadcast_to(np.arange(16, dtype=np.int32), same["index"].shape)}
    spread = [np.std([loss_of_step(run, batch, step=step) for step in range(12)]) for batch in (own, same)]
    assert 0 < spread[0] < spread[1] / 2


def test_same_seed_same_bits_and_other_seeds_differ(tiny):
    one, two = tiny.losses(steps=3), tiny.losses(steps=3)
    assert_same_bits(one, two)
    other = tiny.first_state()._replace(seed=tiny.parallel.replicate(np.int32(4)))
    assert (tiny.losses(other, 3)[0] != one[0]).all()


def test_bfloat16_computes_in_it_and_keeps_float32_parameters(plain):
    run = TinyRun(*PLAIN, "train.precision=bfloat16")
    images = jax.ShapeDtypeStruct((4, 28, 28, 1), jnp.float32)
    forward = functools.partial(steps.forward, run.settings, run.network)
    logits, *_ = jax.eval_shape(forward, run.learner.state_like().evaluated, images)
    assert logits.dtype == jnp.bfloat16
    losses, state = run.losses()
    kept = jax.tree.leaves((state.params, state.optimizer, state.totals.loss))
    assert {str(leaf.dtype) for leaf in kept} == {"float32"}
    assert losses[-3:].mean() < losses[:3].mean() - 0.2
    exact, _ = plain.losses(steps=1)
    assert 0 < abs(losses[0] - exact[0]) < 0.02


@pytest.mark.parametrize("layout", ["NHWC", pytest.param("CHWN", marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", RUNS)
def test_every_experiment_has_a_step_at_its_full_size(name, layout):
    """The program is built, not run: shapes and types of the state stay what they are."""
    settings = overrides.apply(experiments.load(name), [f"model.layout={layout}"])
    facts, size = source.facts(settings.data), settings.train.batch_size
    stored, classes, shape = facts.shape, facts.classes, config.image_shape(settings.data, facts.shape)
    network, optimizer = states.make_network(settings, shape, classes), make_optimizer(settings.optimizer)
    schedule = make_schedule(settings.schedule, settings.optimizer.learning_rate, 10**6, 10**5, size)
    step = steps.make_train_step(settings, network, schedule, optimizer)
    state = jax.eval_shape(lambda: states.initial_state(settings, shape, classes, optimizer, 0))
    index = jax.ShapeDtypeStruct((size,), jnp.int32)
    batch = {"images": jax.ShapeDtypeStruct((size, *stored), jnp.uint8), "labels": index, "index": index}
    after = jax.eval_shape(step, state, batch)
    kinds = lambda tree: jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), tree)
    assert kinds(after) == kinds(state)
    assert {leaf.dtype for leaf in jax.tree.leaves((state.params, state.batch_stats))} == {jnp.dtype("float32")}


def test_minimum_pooling_is_maximum_pooling_with_the_signs_turned():
    """In a tanh network: what lies before a pooling keeps its weights' size and changes their sign, step by step.

    The two are therefore equal in distribution wherever initial weights are as likely as their negatives.
    """

    def turned(params):
        weights = lambda layer, kernel, bias: {"kernel": kernel * layer["kernel"], "bias": bias * layer["bias"]}
        signs = {"conv1": (-1, -1), "output": (-1, 1)}
        return {name: weights(layer, *signs.get(name, (1, -1))) for name, layer in params.items()}

    largest, least = TinyRun(), TinyRun("model.pool.kind=min")
    first = jax.device_get(largest.first_state())
    losses, last = largest.losses()
    same, ended = least.losses(
        least.parallel.replicate(first._replace(params=turned(first.params), ema=turned(first.ema)))
    )
    np.testing.assert_allclose(same, losses, rtol=1e-6)
    for name, layer in turned(jax.device_get(last.params)).items():
        for part, values in layer.items():
            np.testing.assert_allclose(ended.params[name][part], values, rtol=1e-4, atol=1e-6, err_msg=f"{name} {part}")
