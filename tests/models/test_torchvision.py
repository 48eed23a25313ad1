"""Weights from and to PyTorch, and step by step the losses of PyTorch's and Keras's networks.

Golden values come from golden/make_torch.py and golden/make_keras.py. Where PyTorch or Keras is installed, they are
asked as well ("live").
"""

import functools
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import safetensors.numpy
from flax import nnx
from golden import recipe

from cnn_jax import config
from cnn_jax.errors import UserError
from cnn_jax.models import outline, torchvision
from cnn_jax.training.optimizer import make_optimizer
from cnn_jax.training.state import Network, Variables

pytestmark = pytest.mark.usefixtures("quick_compile")
SIDE = 95  # as in make_torch.py
OWT = config.AlexNetOWT(layout="NHWC")
# What torchvision's `alexnet(num_classes=10).state_dict()` holds, but for classifier.1, which reads 9216 there.
STATE_DICT = {
    "features.0.weight": (64, 3, 11, 11),
    "features.0.bias": (64,),
    "features.3.weight": (192, 64, 5, 5),
    "features.3.bias": (192,),
    "features.6.weight": (384, 192, 3, 3),
    "features.6.bias": (384,),
    "features.8.weight": (256, 384, 3, 3),
    "features.8.bias": (256,),
    "features.10.weight": (256, 256, 3, 3),
    "features.10.bias": (256,),
    "classifier.1.weight": (4096, 1024),
    "classifier.1.bias": (4096,),
    "classifier.4.weight": (4096, 4096),
    "classifier.4.bias": (4096,),
    "classifier.6.weight": (10, 4096),
    "classifier.6.bias": (10,),
}


def split(settings, shape):
    """The network, and the shapes of its variables."""
    graph, *states = nnx.split(outline(settings, shape, recipe.CLASSES), nnx.Param, nnx.BatchStat)
    return Network(graph, recipe.CLASSES), Variables(*map(nnx.to_pure_dict, states))


def train(network, variables, optimizer, rate, images, labels):
    """The loss of each step, and the variables after the last."""

    def loss_function(params, statistics, images, labels):
        logits, _, statistics = network(Variables(params, statistics), images, training=True)
        return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean(), statistics

    @functools.partial(jax.jit, donate_argnums=(0, 1))
    def step(variables, state, images, labels):
        gradients = jax.value_and_grad(loss_function, has_aux=True)
        (loss, statistics), grads = gradients(*variables, images, labels)
        updates, state = optimizer.update(grads, state, variables.params, learning_rate=rate)
        return Variables(optax.apply_updates(variables.params, updates), statistics), state, loss

    variables = jax.tree.map(jnp.asarray, variables)
    state, losses = optimizer.init(variables.params), []
    for batch, answers in zip(recipe.centred(images), labels):
        variables, state, loss = step(variables, state, batch, answers)
        losses.append(float(loss))
    return losses, variables


def evaluate(network, variables, images):
    return jax.jit(lambda variables, images: network(variables, images)[0])(variables, recipe.centred(images))


@pytest.fixture(scope="module")
def owt(tmp_path_factory):
    """Logits and losses of our network, from the state dict that make_torch.py draws, by way of a file."""
    drawn = recipe.weights({name: (*shape[1:], shape[0]) for name, shape in STATE_DICT.items()}, seed=1)
    path = tmp_path_factory.mktemp("torch") / "alexnet.safetensors"
    tensors = {name: np.ascontiguousarray(np.moveaxis(value, -1, 0)) for name, value in drawn.items()}
    safetensors.numpy.save_file(tensors, path)
    network, like = split(OWT, (SIDE, SIDE, 3))
    variables = Variables(torchvision.load_torch(path, like.params), {})
    path.unlink()
    images, labels = recipe.batches(20, 4, (SIDE, SIDE, 3), seed=2)
    logits = evaluate(network, variables, images[0])
    # As in make_torch.py, whose optimiser decays biases too.
    optimizer = make_optimizer(config.Optimizer.of(name="sgd", momentum=0.9, weight_decay=1.0, decay_biases=True))
    losses, _ = train(network, variables, optimizer, 0.00003, images, labels)
    return logits, losses


@pytest.mark.parametrize("source", ["golden", "live"])
@pytest.mark.slow
def test_alexnet_owt_is_torchvisions_step_by_step(owt, source):
    """The tolerance is what a decay that is 10 % off misses four times over, and Nesterov's momentum forty times."""
    if source == "golden":
        expected = recipe.saved("torch")
    else:
        pytest.importorskip("torch")
        from golden import make_torch

        expected = make_torch.results()
    logits, losses = owt
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=1e-5)
    assert len(losses) == 20
    np.testing.assert_allclose(losses, expected["losses"], rtol=2e-5)


def keras_start(settings, shape):
    """Our network with what make_keras.py begins with."""
    network, like = split(settings, shape)
    fresh = {"scale": jnp.ones, "bias": jnp.zeros, "mean": jnp.zeros, "var": jnp.ones, "kernel": jnp.zeros}
    params, statistics = (
        {layer: {name: fresh[name](leaf.shape) for name, leaf in leaves.items()} for layer, leaves in part.items()}
        for part in like
    )
    layers = [layer for layer in outline(settings, shape, recipe.CLASSES).parts() if hasattr(layer, "kernel")]
    shapes = {(layer.name, name): getattr(layer, name).shape for layer in layers for name in ("kernel", "bias")}
    for (layer, name), value in recipe.weights(shapes, seed=1).items():
        params[layer][name] = value
    return network, Variables(params, statistics)


@functools.cache
def keras_notebook(name):
    """Losses and logits of our network, as make_keras.py computes Keras's."""
    if name == "lenet":
        settings, shape, batch, steps = config.LeNet(layout="NHWC"), (28, 28, 1), 32, 20
        optimizer, rate = make_optimizer(config.Optimizer()), 0.001
    else:
        settings, shape, batch, steps = config.AlexNetNotebook(layout="CHWN"), (215, 215, 3), 8, 4
        optimizer, rate = make_optimizer(config.Optimizer.of(name="sgd", momentum=0.9)), 0.00001
    images, labels = recipe.batches(steps, batch, shape, seed=2)
    network, variables = keras_start(settings, shape)
    losses, variables = train(network, variables, optimizer, rate, images, labels)
    return losses, np.asarray(evaluate(network, variables, images[0, :2]))


@pytest.mark.parametrize("source", ["golden", "live"])
@pytest.mark.parametrize(
    # Keras adds Adam's epsilon before the bias correction, not after it: nearly all of the LeNet's difference.
    "name, of_losses, of_logits",
    [("lenet", 1e-4, 5e-4), ("alexnet_notebook", 2e-5, 2e-5)],
)
@pytest.mark.slow
def test_the_notebooks_networks_are_kerass_step_by_step(name, of_losses, of_logits, source):
    """Logits are computed after the last step, with the running statistics of batch normalisation."""
    if source == "golden":
        expected = recipe.saved("keras")[name]
    else:
        pytest.importorskip("keras")
        from golden import make_keras

        expected = make_keras.results(name)
    losses, logits = keras_notebook(name)
    np.testing.assert_allclose(losses, expected["losses"], rtol=of_losses)
    np.testing.assert_allclose(logits, expected["logits"], rtol=0, atol=of_logits * np.abs(logits).max())


# A network of the same layers, small: 2x3 kernels; the first dense layer reads 2x2 pixels of 6 channels.
CONVS = {"conv1": (3, 4), "conv2": (4, 5), "conv3": (5, 7), "conv4": (7, 8), "conv5": (8, 6)}
DENSE = {"dense1": (24, 9), "dense2": (9, 10), "output": (10, 3)}


def small_params():
    """Every number different."""
    shapes = {name: (2, 3, *ends) for name, ends in CONVS.items()} | DENSE
    count, params = 0, {}
    for layer, shape in shapes.items():
        params[layer] = {}
        for name, part in (("kernel", shape), ("bias", shape[-1:])):
            params[layer][name] = np.arange(count, count + np.prod(part), dtype=np.float32).reshape(part)
            count += np.prod(part)
    return params


def test_every_number_goes_to_its_place(tmp_path):
    params = small_params()
    torchvision.save_torch(params, tmp_path / "a.safetensors")
    stored = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    assert stored.keys() == STATE_DICT.keys()
    np.testing.assert_array_equal(stored["features.6.weight"][6, 4, 1, 2], params["conv3"]["kernel"][1, 2, 4, 6])
    np.testing.assert_array_equal(stored["features.6.bias"], params["conv3"]["bias"])
    np.testing.assert_array_equal(stored["classifier.4.weight"][9, 8], params["dense2"]["kernel"][8, 9])
    map = params["dense1"]["kernel"][:, 7].reshape(2, 2, 6)  # what unit 7 reads: row, column, channel
    np.testing.assert_array_equal(stored["classifier.1.weight"][7].reshape(6, 2, 2), np.transpose(map, (2, 0, 1)))
    loaded = torchvision.load_torch(tmp_path / "a.safetensors", params)
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_an_exported_file_has_the_usual_permissions(tmp_path):
    (tmp_path / "other").touch()
    torchvision.save_torch(small_params(), tmp_path / "a.safetensors")
    assert (tmp_path / "a.safetensors").stat().st_mode == (tmp_path / "other").stat().st_mode
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", "other"}


def test_half_precision_is_read(tmp_path):
    params = jax.tree.map(lambda leaf: leaf % 64, small_params())
    torchvision.save_torch(params, tmp_path / "a.safetensors")
    tensors = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    halves = {name: value.astype(np.float16) for name, value in tensors.items()}
    safetensors.numpy.save_file(halves, tmp_path / "half.safetensors")
    loaded = torchvision.load_torch(tmp_path / "half.safetensors", params)
    assert {leaf.dtype for leaf in jax.tree.leaves(loaded)} == {np.dtype(np.float32)}
    jax.tree.map(np.testing.assert_array_equal, loaded, params)


def test_a_state_dict_that_does_not_fit_is_listed(tmp_path):
    params, path = small_params(), tmp_path / "a.safetensors"
    torchvision.save_torch(params, path)
    stored = safetensors.numpy.load_file(path)
    stored["classifier.6.weight"] = np.zeros((5, 10), np.float32)
    stored["features.1.running_mean"] = stored.pop("features.3.bias")
    safetensors.numpy.save_file(stored, path)
    with pytest.raises(UserError) as error:
        torchvision.load_torch(path, params)
    words = ["a.safetensors", "missing: features.3.bias", "unexpected: features.1.running_mean"]
    words += ["of another shape: classifier.6.weight [5, 10], not [3, 10]"]
    assert [word for word in words if word not in str(error.value)] == []


def test_other_networks_are_refused(tmp_path):
    params = small_params()
    torchvision.save_torch(params, tmp_path / "a.safetensors")
    lenet = {"conv1": params["conv1"], "dense1": params["dense1"]}
    with pytest.raises(UserError, match="the layers conv1, dense1.*alexnet_owt"):
        torchvision.load_torch(tmp_path / "a.safetensors", lenet)
    with pytest.raises(UserError, match="alexnet_owt.*conv1, dense1"):
        torchvision.save_torch(lenet, tmp_path / "b.safetensors")


def test_files_that_cannot_be_read_or_written(tmp_path):
    params = small_params()
    with pytest.raises(UserError, match="a.safetensors: there is no such file"):
        torchvision.load_torch(tmp_path / "a.safetensors", params)
    (tmp_path / "b.safetensors").write_bytes(b"no tensors in here")
    with pytest.raises(UserError, match="b.safetensors is not a readable"):
        torchvision.load_torch(tmp_path / "b.safetensors", params)
    with pytest.raises(UserError, match="c.pth must end in .safetensors"):
        torchvision.save_torch(params, tmp_path / "c.pth")
    with pytest.raises(UserError, match="d.safetensors cannot be written"):
        torchvision.save_torch(params, tmp_path / "nowhere" / "d.safetensors")


def test_without_pytorch_a_pth_file_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)  # what `import` then does is what it does where it is missing
    (tmp_path / "a.pth").write_bytes(b"")
    with pytest.raises(UserError, match="a.pth: .*needs PyTorch.*safetensors.torch.save_file"):
        torchvision.load_torch(tmp_path / "a.pth", small_params())


def test_with_pytorch_a_pth_file_is_read(tmp_path):
    torch = pytest.importorskip("torch")
    params = small_params()
    torchvision.save_torch(params, tmp_path / "a.safetensors")
    tensors = safetensors.numpy.load_file(tmp_path / "a.safetensors")
    torch.save({name: torch.tensor(value) for name, value in tensors.items()}, tmp_path / "a.pth")
    jax.tree.map(np.testing.assert_array_equal, torchvision.load_torch(tmp_path / "a.pth", params), params)
    torch.save({"epoch": 3}, tmp_path / "b.pth")
    with pytest.raises(UserError, match="b.pth is not a state dict"):
        torchvision.load_torch(tmp_path / "b.pth", params)
    (tmp_path / "c.pth").write_bytes(b"nothing")
    with pytest.raises(UserError, match="c.pth is not a readable PyTorch file"):
        torchvision.load_torch(tmp_path / "c.pth", params)


@pytest.mark.parametrize(
    "path, looks",
    [("a/b.safetensors", True), ("alexnet.pth", True), ("x.pt", True), ("runs/one", False), ("runs/pth", False)],
)
def test_looks_like_torch(path, looks):
    assert torchvision.looks_like_torch(path) == looks
