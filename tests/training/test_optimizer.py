"""Optimisers and schedules against plain NumPy and Python loops, and against PyTorch where it is installed."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn_jax import config
from cnn_jax.errors import UsageError
from cnn_jax.training.optimizer import ema_update, make_optimizer, make_schedule, plateau_init, plateau_update

RATES = [0.1, 0.1, 0.05, 0.2, 0.2, 0.01, 0.1]  # one per step, so that a rate on the wrong side of the velocity shows
ATOL = 2e-5  # Adam's bias correction 1 - 0.999^t keeps five digits in float32
SHAPES = {"dense": {"kernel": (4, 3), "bias": (3,)}, "conv": {"kernel": (2, 2, 1, 4), "scale": (4,)}}


def tree(seed):
    rng = np.random.default_rng(seed)
    return {layer: {name: rng.normal(size=shape) for name, shape in leaves.items()} for layer, leaves in SHAPES.items()}


def gradients():
    return [tree(seed) for seed in range(1, len(RATES) + 1)]


def run(settings):
    """The parameters after every step, by the code under test."""
    optimizer = make_optimizer(settings)
    params = jax.tree.map(jnp.float32, tree(0))
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, gradient, rate):
        updates, state = optimizer.update(gradient, state, params, learning_rate=rate)
        return optax.apply_updates(params, updates), state

    history = []
    for gradient, rate in zip(gradients(), RATES, strict=True):
        params, state = step(params, state, jax.tree.map(jnp.float32, gradient), jnp.float32(rate))
        history.append(params)
    return history


def reference(settings, rule):
    """The parameters after every step, by a rule that gives what to take from each array."""
    params, memory, history = tree(0), {}, []
    for t, (gradient, rate) in enumerate(zip(gradients(), RATES, strict=True), start=1):
        norm = np.sqrt(sum((leaf**2).sum() for leaf in jax.tree.leaves(gradient)))
        clip = min(1.0, settings.clip_norm / norm) if settings.clip_norm else 1.0
        for layer, leaves in params.items():
            for name, w in leaves.items():
                decay = settings.weight_decay if w.ndim > 1 or settings.decay_biases else 0.0
                own = memory.setdefault((layer, name), {"v": np.zeros_like(w), "m": np.zeros_like(w)})
                leaves[name] = w - rule(settings, own, clip * gradient[layer][name], decay, w, rate, t)
        history.append(jax.tree.map(np.copy, params))
    return history


def sgd_rule(settings, own, g, decay, w, rate, t):
    g = g + decay * w
    own["v"] = settings.kind.momentum * own["v"] + g
    return rate * (g + settings.kind.momentum * own["v"] if settings.kind.nesterov else own["v"])


def adam_step(settings, own, g, t):
    own["m"] = settings.kind.beta1 * own["m"] + (1 - settings.kind.beta1) * g
    own["v"] = settings.kind.beta2 * own["v"] + (1 - settings.kind.beta2) * g**2
    m, v = own["m"] / (1 - settings.kind.beta1**t), own["v"] / (1 - settings.kind.beta2**t)
    return m / (np.sqrt(v) + settings.kind.epsilon)


def adam_rule(settings, own, g, decay, w, rate, t):
    return rate * adam_step(settings, own, g + decay * w, t)


def adamw_rule(settings, own, g, decay, w, rate, t):
    return rate * (adam_step(settings, own, g, t) + decay * w)


def lars_rule(settings, own, g, decay, w, rate, t):
    local = 1.0
    if w.ndim > 1:
        local = settings.kind.trust * np.linalg.norm(w) / (np.linalg.norm(g) + decay * np.linalg.norm(w))
    newest = rate * local * (g + decay * w)
    own["v"] = settings.kind.momentum * own["v"] + newest
    return newest + settings.kind.momentum * own["v"] if settings.kind.nesterov else own["v"]


RULES = {"sgd": sgd_rule, "adam": adam_rule, "adamw": adamw_rule, "lars": lars_rule}
CASES = {
    "sgd plain": dict(name="sgd", momentum=0.0),
    "sgd momentum": dict(name="sgd", momentum=0.9),
    "sgd nesterov": dict(name="sgd", momentum=0.8, nesterov=True),
    "sgd decay": dict(name="sgd", momentum=0.9, weight_decay=0.3),
    "sgd decay biases": dict(name="sgd", momentum=0.9, weight_decay=0.3, decay_biases=True),
    "sgd clipped": dict(name="sgd", momentum=0.9, weight_decay=0.3, clip_norm=5.0),
    "adam": dict(name="adam"),
    "adam large epsilon": dict(name="adam", beta1=0.7, beta2=0.9, epsilon=0.5),
    "adam decay": dict(name="adam", weight_decay=0.3),
    "adam clipped": dict(name="adam", epsilon=0.5, clip_norm=0.5),
    "adamw": dict(name="adamw", weight_decay=0.3),
    "adamw decay biases": dict(name="adamw", weight_decay=0.3, decay_biases=True),
    "lars": dict(name="lars", trust=0.1),
    "lars nesterov": dict(name="lars", trust=0.1, nesterov=True),
    "lars decay": dict(name="lars", trust=0.1, weight_decay=0.3),
    "lars decay biases": dict(name="lars", trust=0.1, weight_decay=0.3, decay_biases=True),
    "lars clipped": dict(name="lars", trust=0.1, weight_decay=0.3, clip_norm=2.0),
}


@pytest.mark.parametrize("case", CASES)
def test_optimizer_follows_its_formula(case):
    settings = config.Optimizer.of(**CASES[case])
    for ours, theirs in zip(run(settings), reference(settings, RULES[settings.name]), strict=True):
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-5, atol=ATOL), ours, theirs)


@pytest.mark.parametrize("case", [case for case in CASES if not case.startswith("lars")])
def test_optimizer_agrees_with_pytorch(case):
    torch = pytest.importorskip("torch")
    settings = config.Optimizer.of(**CASES[case])
    params = jax.tree.map(lambda leaf: torch.nn.Parameter(torch.tensor(leaf)), tree(0))
    leaves = jax.tree.leaves(params)
    groups = [
        {"params": [leaf for leaf in leaves if leaf.ndim > 1], "weight_decay": settings.weight_decay},
        {
            "params": [leaf for leaf in leaves if leaf.ndim <= 1],
            "weight_decay": settings.weight_decay if settings.decay_biases else 0.0,
        },
    ]
    betas = {"betas": (settings.kind.beta1, settings.kind.beta2), "eps": settings.kind.epsilon}
    match settings.name:
        case "sgd":
            theirs = torch.optim.SGD(groups, lr=1.0, momentum=settings.kind.momentum, nesterov=settings.kind.nesterov)
        case "adam":
            theirs = torch.optim.Adam(groups, lr=1.0, **betas)
        case "adamw":
            theirs = torch.optim.AdamW(groups, lr=1.0, **betas)
    for gradient, rate, ours in zip(gradients(), RATES, run(settings), strict=True):
        for leaf, value in zip(leaves, jax.tree.leaves(gradient), strict=True):
            leaf.grad = torch.tensor(value)
        if settings.clip_norm:
            torch.nn.utils.clip_grad_norm_(leaves, settings.clip_norm)
        for group in theirs.param_groups:
            group["lr"] = rate
        theirs.step()
        for mine, leaf in zip(jax.tree.leaves(ours), leaves, strict=True):
            np.testing.assert_allclose(mine, leaf.detach().numpy(), rtol=2e-5, atol=ATOL)


def test_lars_without_decay_is_optax_lars():
    def of_kernels(params):
        return jax.tree.map(lambda leaf: leaf.ndim > 1, params)

    theirs = optax.lars(0.1, trust_coefficient=0.02, momentum=0.9, trust_ratio_mask=of_kernels)
    ours = make_optimizer(config.Optimizer.of(name="lars", trust=0.02, momentum=0.9))
    params = mine = jax.tree.map(jnp.float32, tree(0))
    state, my_state = theirs.init(params), ours.init(params)
    for gradient in gradients()[:3]:
        gradient = jax.tree.map(jnp.float32, gradient)
        updates, state = theirs.update(gradient, state, params)
        params = optax.apply_updates(params, updates)
        updates, my_state = ours.update(gradient, my_state, mine, learning_rate=0.1)
        mine = optax.apply_updates(mine, updates)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), mine, params)


@pytest.mark.parametrize("weight, gradient", [(0.0, 2.0), (3.0, 0.0), (0.0, 0.0)])
def test_lars_without_a_norm_takes_the_global_rate(weight, gradient):
    optimizer = make_optimizer(config.Optimizer.of(name="lars", momentum=0.0, trust=0.001))
    params, gradients = jnp.full((2, 2), weight), jnp.full((2, 2), gradient)
    updates, _ = optimizer.update(gradients, optimizer.init(params), params, learning_rate=0.5)
    np.testing.assert_allclose(updates, np.full((2, 2), -0.5 * gradient))


def test_small_gradients_are_not_clipped():
    optimizer = make_optimizer(config.Optimizer.of(name="sgd", momentum=0.0, clip_norm=5.0))
    params, gradients = {"a": jnp.zeros(1), "b": jnp.zeros(1)}, {"a": jnp.array([3.0]), "b": jnp.array([-3.9])}
    updates, _ = optimizer.update(gradients, optimizer.init(params), params, learning_rate=1.0)
    np.testing.assert_allclose([updates["a"], updates["b"]], [[-3.0], [3.9]])


def test_optimizer_under_vmap_is_the_same_for_every_seed():
    settings = config.Optimizer.of(name="lars", trust=0.1, weight_decay=0.1, clip_norm=1.0)
    optimizer = make_optimizer(settings)

    @jax.jit
    def one(params, gradient):
        return optimizer.update(gradient, optimizer.init(params), params, learning_rate=0.3)[0]

    params, gradient = ([jax.tree.map(jnp.float32, tree(seed)) for seed in seeds] for seeds in ((0, 1), (2, 3)))
    stacked = jax.vmap(one)(*(jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees) for trees in (params, gradient)))
    for index in range(2):
        alone = one(params[index], gradient[index])
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a[index], b, rtol=1e-5), stacked, alone)


def rates(total_steps, learning_rate=2.0, examples=100, batch_size=10, **fields):
    """The rate of every step, from inside jit, checked against the same call outside."""
    schedule = make_schedule(config.Schedule.of(**fields), learning_rate, total_steps, examples, batch_size)
    traced = jax.jit(jax.vmap(schedule))(jnp.arange(total_steps, dtype=jnp.int32))
    assert traced.dtype == jnp.float32
    np.testing.assert_allclose(traced, [schedule(step) for step in range(total_steps)], rtol=1e-6, atol=1e-7)
    return np.asarray(traced)


@pytest.mark.parametrize("name", ["constant", "plateau"])
def test_constant_rate(name):
    np.testing.assert_array_equal(rates(5, name=name), [2.0] * 5)


def test_drops_in_every_unit():
    found = rates(50, name="step", drops=("2 epochs", "25 steps", "300 examples"), factor=0.5)
    expected = [2.0 * 0.5 ** ((s >= 20) + (s >= 25) + (s >= 30)) for s in range(50)]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_drops_that_fall_on_one_step_all_count():
    found = rates(6, name="step", drops=("3 steps", "30 examples"))
    np.testing.assert_allclose(found, [2.0] * 3 + [0.02] * 3, rtol=1e-6)


def test_drops_count_from_the_start_of_the_run():
    found = rates(10, name="step", warmup="4 steps", drops=("6 steps",))
    np.testing.assert_allclose(found, [0.5, 1.0, 1.5, 2.0, 2.0, 2.0, 0.2, 0.2, 0.2, 0.2], rtol=1e-6)


def test_cosine():
    found = rates(40, name="cosine", final=0.1)
    expected = [2.0 * (0.1 + 0.9 * (1 + np.cos(np.pi * s / 40)) / 2) for s in range(40)]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_linear_ends_above_zero():
    np.testing.assert_allclose(rates(4, name="linear"), [2.0, 1.5, 1.0, 0.5], rtol=1e-6)
    np.testing.assert_allclose(rates(4, name="linear", final=0.5), [2.0, 1.75, 1.5, 1.25], rtol=1e-6)


def test_one_cycle_is_a_triangle():
    found = rates(10, name="one_cycle", peak_at=0.4, final=0.1)
    np.testing.assert_allclose(found, [0.5, 1.0, 1.5, 2.0, 2.0, 1.7, 1.4, 1.1, 0.8, 0.5], rtol=1e-6)


@pytest.mark.parametrize("peak_at, expected", [(0.0, [2.0, 1.5, 1.0, 0.5]), (1.0, [0.5, 1.0, 1.5, 2.0])])
def test_one_cycle_with_its_peak_at_an_end(peak_at, expected):
    np.testing.assert_allclose(rates(4, name="one_cycle", peak_at=peak_at), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["constant", "plateau", "cosine", "linear"])
def test_warmup_comes_before_the_schedule_proper(name):
    found = rates(30, name=name, warmup="1 epochs")  # 10 steps
    np.testing.assert_allclose(found[:10], [2.0 * (s + 1) / 10 for s in range(10)], rtol=1e-6)
    np.testing.assert_allclose(found[10:], rates(20, name=name), rtol=1e-6)


def test_warmup_of_one_step():
    np.testing.assert_allclose(rates(3, warmup="1 steps"), [2.0] * 3)


@pytest.mark.parametrize("warmup", ["30 steps", "4 epochs"])
def test_warmup_must_be_shorter_than_the_run(warmup):
    with pytest.raises(UsageError, match=f"schedule.warmup = '{warmup}' is .*the whole run has 30"):
        rates(30, warmup=warmup)


def test_plateau_drops_after_patience_evaluations_without_a_better_loss():
    schedule = config.Schedule.of(name="plateau", patience=2, factor=0.5).kind
    sequence = [  # loss, factor after it
        (1.0, 1.0),
        (1.1, 1.0),
        (0.9, 1.0),  # better: the count starts again
        (0.9, 1.0),  # equal is not better
        (0.95, 0.5),
        (0.91, 0.5),  # a drop starts the count again, and the best loss stays
        (float("nan"), 0.25),
        (0.8, 0.25),
        (0.9, 0.25),
        (0.7, 0.25),
    ]
    state, update = plateau_init(), jax.jit(lambda state, loss: plateau_update(state, loss, schedule))
    for loss, factor in sequence:
        plain, state = plateau_update(state, loss, schedule), update(state, loss)
        assert jax.tree.map(float, plain) == jax.tree.map(float, state)
        assert [leaf.dtype for leaf in plain] == [leaf.dtype for leaf in plateau_init()]
        assert float(state.factor) == factor
    assert float(state.best) == np.float32(0.7)


def test_moving_average_warms_up_to_its_decay():
    average, expected = {"w": jnp.full(3, 100.0)}, 100.0
    for step in range(60):
        average = jax.jit(ema_update, static_argnums=2)(average, {"w": jnp.full(3, float(step))}, 0.8, jnp.int32(step))
        decay = min(0.8, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * step
    np.testing.assert_allclose(average["w"], [expected] * 3, rtol=1e-5)
    assert abs(expected - (59 - 0.8 / 0.2)) < 0.01  # the initial 100 is forgotten: a steady lag of decay / (1 - decay)
