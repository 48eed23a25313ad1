"""Weights of another network as a beginning: all but some layers, some of them frozen."""

import dataclasses

import numpy as np
import optax
import pytest
import safetensors.numpy
from tiny_images import write_class_folders
from tiny_training import folder_settings

import cnn_jax
from cnn_jax.errors import UserError
from cnn_jax.models import torchvision
from cnn_jax.training.optimizer import make_optimizer


def settings(path, *changes):
    words = ("data.validation=0", "train.duration=4 steps", "evaluation.every=4 steps")
    return folder_settings(path, *words, *changes)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """Images of five classes, images of three others, and a run that was trained on the five."""
    place = tmp_path_factory.mktemp("place")
    write_class_folders(place / "five", dict.fromkeys("abcde", 6))
    write_class_folders(place / "three", dict.fromkeys("xyz", 6))
    cnn_jax.Run(settings(place / "five"), place / "run").train(progress=False)
    return place


def weights(run):
    return {
        layer: {name: np.asarray(leaf) for name, leaf in found.items()}
        for layer, found in run.network().variables.params.items()
    }


@pytest.mark.slow
def test_other_classes_take_all_but_the_last_layer(place, tmp_path, capsys):
    before = weights(cnn_jax.Run(workdir=place / "run"))
    run = cnn_jax.Run(settings(place / "three", "optimizer.layers=conv1:0,output:10", "seed=4"), tmp_path / "run")
    run.train(init_from=str(place / "run"), fresh=["output"])
    after = weights(run)
    told = capsys.readouterr().err
    assert "checkpoints/4: conv1, conv2, dense1, dense2; output is fresh" in told and "take care" not in told
    for name in ("kernel", "bias"):
        np.testing.assert_array_equal(after["conv1"][name], before["conv1"][name])  # frozen
        for layer in ("conv2", "dense1", "dense2"):
            moved = np.abs(after[layer][name] - before[layer][name])
            assert 0 < moved.max() < 0.02  # four steps of Adam at a rate of 0.002 from where they were
    assert after["output"]["kernel"].shape == (84, 3)
    fresh = cnn_jax.build(settings(place / "three", "seed=4")).variables.params["output"]["kernel"]
    assert 0.02 < np.abs(after["output"]["kernel"] - np.asarray(fresh)).max() < 0.2  # ten times the rate


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw", "lars"])
def test_a_factor_is_one_of_the_learning_rate(name):
    """Each layer moves as it would alone, at so many times the rate; a frozen one not even by weight decay."""
    draw = np.random.default_rng(0)
    normal = lambda *shape: draw.normal(size=shape).astype(np.float32)
    make = lambda: {layer: {"kernel": normal(3, 4), "bias": normal(4)} for layer in ("a", "b", "c")}
    params, gradients = make(), [make() for _ in range(3)]
    kind = cnn_jax.settings("lenet_digits", f"optimizer.name={name}", "optimizer.weight_decay=0.01").optimizer

    def moved(layers, rates):
        optimizer = make_optimizer(dataclasses.replace(kind, layers=layers))
        now, state = params, optimizer.init(params)
        for gradient in gradients:
            updates, state = optimizer.update(gradient, state, now, learning_rate=rates)
            now = optax.apply_updates(now, updates)
        return now

    found, slow, fast = moved(("a:0", "b:0.1", "c:1"), 0.01), moved((), 0.001), moved((), 0.01)
    for leaf in ("kernel", "bias"):
        np.testing.assert_array_equal(found["a"][leaf], params["a"][leaf])
        np.testing.assert_allclose(found["b"][leaf], slow["b"][leaf], rtol=1e-5)
        np.testing.assert_allclose(found["c"][leaf], fast["c"][leaf], rtol=1e-6)


@pytest.mark.parametrize(
    "fresh, message",
    [
        ([], r"(?s)params.output.kernel: saved \(84, 5\), here \(84, 3\).*left out with --fresh=LAYER"),
        (["conv1"], "output of that network differ from this one's: leave them out with --fresh=conv1,output"),
        (["head"], "--fresh=head: there is no such layer; there are conv1, conv2, dense1, dense2, output"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_told(place, tmp_path, fresh, message):
    with pytest.raises(UserError, match=message):
        cnn_jax.Run(settings(place / "three"), tmp_path / "run").train(init_from=str(place / "run"), fresh=fresh)


def test_names_of_other_classes_are_told(place, tmp_path, capsys):
    write_class_folders(tmp_path / "other", dict.fromkeys("vwxyz", 6))
    run = cnn_jax.Run(settings(tmp_path / "other", "train.duration=1 steps"), tmp_path / "run")
    run.train(init_from=str(place / "run"))
    assert (
        "take care: they were trained for the classes a, b, c, d, ...; the data have v, w, x, y"
        in capsys.readouterr().err
    )


@pytest.mark.parametrize(
    "value, message",
    [
        ("conv9:0", "there is no layer conv9 with parameters; there are conv1, conv2, dense1, dense2, output"),
        ("pool1:0", "there is no layer pool1 with parameters"),
        ("conv1", "optimizer.layers: 'conv1' must be NAME:FACTOR"),
        ("conv1:-1", "optimizer.layers: 'conv1:-1': the factor must be from 0 to 1000"),
        ("conv1:nan", "optimizer.layers: 'conv1:nan': the factor must be from 0 to 1000"),
    ],
)
def test_layers_that_cannot_be_are_refused(place, tmp_path, value, message):
    with pytest.raises(UserError, match=message):
        cnn_jax.Run(settings(place / "three", f"optimizer.layers={value}"), tmp_path / "run").train(progress=False)


def owt():
    """The parameters of a small alexnet_owt, and its weights as torchvision names them."""
    words = ("data.name=fake", "data.side=63", "data.crop=63", "data.classes=4", "train.batch_size=4")
    network = cnn_jax.build(cnn_jax.settings("alexnet_owt_imagenet", *words))
    return {layer: dict(leaves) for layer, leaves in network.variables.params.items()}


@pytest.fixture(scope="module")
def small_owt():
    return owt()


@pytest.mark.parametrize("prefix", ["", "module.", "features.module."])
def test_the_names_of_data_parallel_training_are_known(small_owt, tmp_path, prefix):
    torchvision.save_torch(small_owt, tmp_path / "plain.safetensors", ("a", "b", "c", "d"))
    assert torchvision.class_names(tmp_path / "plain.safetensors") == ("a", "b", "c", "d")
    plain = safetensors.numpy.load_file(tmp_path / "plain.safetensors")
    named = lambda name: name.replace("features.", prefix) if prefix.startswith("features") else prefix + name
    safetensors.numpy.save_file({named(name): value for name, value in plain.items()}, tmp_path / "b.safetensors")
    found = torchvision.load_torch(tmp_path / "b.safetensors", small_owt)
    for layer, leaves in small_owt.items():
        for name, leaf in leaves.items():
            np.testing.assert_array_equal(found[layer][name], np.asarray(leaf))
    assert torchvision.class_names(tmp_path / "b.safetensors") == ()


def test_a_fresh_layer_is_not_taken_from_a_file(small_owt, tmp_path):
    other = small_owt | {"output": {"kernel": np.zeros((4096, 9), np.float32), "bias": np.zeros(9, np.float32)}}
    torchvision.save_torch(other, tmp_path / "nine.safetensors")
    with pytest.raises(UserError, match="left out with --fresh=LAYER, such as --fresh=output"):
        torchvision.load_torch(tmp_path / "nine.safetensors", small_owt)
    found = torchvision.load_torch(tmp_path / "nine.safetensors", small_owt, ["output"])
    assert "output" not in found and len(found) == 7


@pytest.mark.parametrize("wrapper", ["state_dict", "model"])
def test_wrapped_state_dicts_are_unwrapped(small_owt, tmp_path, wrapper):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    torchvision.save_torch(small_owt, tmp_path / "plain.safetensors")
    plain = safetensors.numpy.load_file(tmp_path / "plain.safetensors")
    tensors = {f"module.{name}": torch.from_numpy(value) for name, value in plain.items()}
    torch.save({"epoch": 3, wrapper: tensors, "arch": "alexnet"}, tmp_path / "a.pth")
    found = torchvision.load_torch(tmp_path / "a.pth", small_owt)
    np.testing.assert_array_equal(found["conv1"]["kernel"], np.asarray(small_owt["conv1"]["kernel"]))
