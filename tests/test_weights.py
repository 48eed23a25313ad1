"""Weight files: a network needs no workdir, no data and no experiment; and the networks that are brought along."""

import dataclasses
import hashlib
import json

import jax
import numpy as np
import pytest
import safetensors.numpy
from launching import environment, launch, shared_folder
from pages import Page
from PIL import Image
from tiny_images import write_class_folders
from tiny_training import folder_settings

import cnn_jax
from cnn_jax import trained, weights
from cnn_jax.data.facts import Facts
from cnn_jax.data.identity import Identity
from cnn_jax.errors import UserError
from cnn_jax.models import torchvision
from cnn_jax.training import state as states

FEW = ("data.validation=0", "train.duration=4 steps", "evaluation.every=4 steps")


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A run on three classes of a person's own images, in "run", and its weights in "three.safetensors"."""
    place = tmp_path_factory.mktemp("weights")
    write_class_folders(place / "images", dict.fromkeys("abc", 6))
    run = cnn_jax.Run(folder_settings(place / "images", *FEW), place / "run")
    run.train(progress=False)
    assert run.export(place / "three.safetensors") == "last step, step 4"
    return place


def images(network, count=3):
    return np.random.default_rng(0).integers(0, 256, (count, *network.about.identity.shape), dtype=np.uint8)


def test_a_weight_file_is_the_network(place):
    ours, loaded = cnn_jax.load(place / "run"), cnn_jax.load(place / "three.safetensors")
    for wanted, found in zip(jax.tree.leaves(ours.variables), jax.tree.leaves(loaded.variables), strict=True):
        np.testing.assert_array_equal(np.asarray(wanted), np.asarray(found))
    np.testing.assert_array_equal(ours(images(ours))[0], loaded(images(ours))[0])
    assert loaded.class_names == ("a", "b", "c")
    answers = loaded.predict(images(ours))
    np.testing.assert_allclose(answers.probabilities, jax.nn.softmax(ours(images(ours))[0]), rtol=1e-5)
    again = cnn_jax.Run(workdir=place / "run").predict(images(ours))
    np.testing.assert_array_equal(answers.probabilities, again.probabilities)


def test_it_says_where_it_is_from_and_names_no_path(place):
    about, card = cnn_jax.load(place / "three.safetensors").about, (place / "three.safetensors.md").read_text()
    assert (about.step, about.rule, about.settings.data.kind.path) == (4, "last step", "")
    assert "--set data.path=FOLDER" in card and "--set 'train.duration=4 steps'" in card
    assert hashlib.sha256((place / "three.safetensors").read_bytes()).hexdigest() in card
    assert str(place) not in card and str(place).encode() not in (place / "three.safetensors").read_bytes()


def test_a_run_begins_with_it_and_a_fresh_layer_does_not(place, tmp_path, capsys):
    write_class_folders(tmp_path / "other", dict.fromkeys("vwxyz", 6))
    still = folder_settings(tmp_path / "other", *FEW, "optimizer.learning_rate=0")
    with pytest.raises(UserError, match=r"output.kernel \[84, 3\], not \[84, 5\].*--fresh=LAYER"):
        cnn_jax.Run(still, tmp_path / "run").train(init_from=str(place / "three.safetensors"), progress=False)
    run = cnn_jax.Run(still, tmp_path / "run")
    run.train(init_from=str(place / "three.safetensors"), fresh=["output"])
    assert "conv1, conv2, dense1, dense2; output is fresh" in capsys.readouterr().err
    ours, theirs = run.network().variables.params, cnn_jax.load(place / "run").variables.params
    np.testing.assert_array_equal(ours["dense2"]["kernel"], theirs["dense2"]["kernel"])
    assert ours["output"]["kernel"].shape == (84, 5)


@pytest.mark.slow
def test_running_statistics_go_along(tmp_path):
    settings = cnn_jax.settings("alexnet_cifar10", "model.width=8")
    network = cnn_jax.build(settings)
    moved = network.variables._replace(batch_stats=jax.tree.map(lambda x: x + 0.5, network.variables.batch_stats))
    network = cnn_jax.Network(settings, jax.device_get(moved))
    network.export(tmp_path / "small.safetensors")
    loaded = cnn_jax.load(tmp_path / "small.safetensors")
    np.testing.assert_array_equal(network(images(network))[0], loaded(images(network))[0])
    assert "weights of unknown origin" in (tmp_path / "small.safetensors.md").read_text()


def test_half_precision(tmp_path):
    found = weights.rounded({"a": np.float32([1 / 3, 6e4])})
    assert found["a"].dtype == np.float16 and abs(float(found["a"][0]) - 1 / 3) < 2e-4
    with pytest.raises(UserError, match="b cannot be kept as float16"):
        weights.rounded({"a": np.float32([1]), "b": np.float32([7e4])})


def changed(place, tmp_path, about=None, **arrays):
    """The weight file with arrays, or what it says of itself, replaced; None: left out."""
    stored = safetensors.numpy.load_file(place / "three.safetensors")
    stored = {name: value for name, value in (stored | arrays).items() if value is not None}
    said = json.dumps(weights.about(place / "three.safetensors").to_dict() | (about or {}))
    safetensors.numpy.save_file(stored, tmp_path / "changed.safetensors", {"cnn_jax": said})
    return tmp_path / "changed.safetensors"


@pytest.mark.parametrize(
    "arrays, message",
    [
        ({"params.conv1.bias": None}, "missing: params.conv1.bias"),
        ({"params.conv9.bias": np.zeros(3, np.float32)}, "unexpected: params.conv9.bias"),
        ({"params.conv1.bias": np.zeros(7, np.float32)}, r"of another shape: params.conv1.bias \[7\], not \[6\]"),
        ({"params.conv1.bias": np.full(6, np.nan, np.float32)}, "params.conv1.bias holds numbers that are not finite"),
        ({"params.conv1.bias": np.zeros(6, np.int32)}, "params.conv1.bias is of int32"),
    ],
    ids=["missing", "unexpected", "shape", "NaN", "integers"],
)
def test_arrays_that_do_not_fit_are_refused(place, tmp_path, arrays, message):
    with pytest.raises(UserError, match=message):
        cnn_jax.load(changed(place, tmp_path, **arrays))


@pytest.mark.parametrize(
    "about, message",
    [
        ({"format": 2}, "its format is 2, and this version reads 1"),
        ({"data": {}}, "it does not say what the data are"),
        ({"config": {"model": 3}}, "model = 3 must be a group of settings"),
        ({"test": 5}, "it does not say what the network is"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_does_not_say_what_it_is_is_refused(place, tmp_path, about, message):
    with pytest.raises(UserError, match=f"changed.safetensors cannot be used: .*{message}"):
        cnn_jax.load(changed(place, tmp_path, about))


@pytest.mark.parametrize("cut", [0, 5, 2000, -1])
def test_a_file_that_is_cut_short_is_refused(place, tmp_path, cut):
    path = tmp_path / "cut.safetensors"
    path.write_bytes((place / "three.safetensors").read_bytes()[:cut])
    with pytest.raises(UserError, match="cut.safetensors is not a readable .safetensors file"):
        cnn_jax.load(path)


def test_a_folder_of_the_name_goes_first(place, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert cnn_jax.load("lenet_digits").class_names == tuple("0123456789")
    (tmp_path / "lenet_digits").symlink_to(place / "run")
    assert cnn_jax.load("lenet_digits").class_names == ("a", "b", "c")


@pytest.mark.parametrize("name", trained.names())
def test_networks_that_are_brought_along(name):
    """Small, whole, and with a card that says of which file it is, of which data, and how good it is."""
    path = trained.path(name)
    card = path.with_name(f"{path.name}.md").read_text(encoding="utf-8")
    about = weights.about(path)
    assert path.stat().st_size < 10**6
    assert f"`{hashlib.sha256(path.read_bytes()).hexdigest()}`" in card
    assert {array.dtype.name for array in weights.read(path).values()} == {"float16"}
    assert len(about.commit) == 40 and about.test["examples"] >= 360 and about.note in card
    assert f"| test accuracy | {100 * about.test['accuracy']:.2f} % of " in card
    assert cnn_jax.pretrained()[name] in card
    network = cnn_jax.load(name)
    logits, _ = network(images(network))
    assert logits.shape == (3, len(network.class_names)) and np.isfinite(logits).all()


def test_the_digits_are_as_good_as_the_card_says(tmp_path):
    run = cnn_jax.Run(cnn_jax.settings("lenet_digits"), tmp_path / "none")
    found, said = run.evaluate("test", init_from="lenet_digits"), weights.about(trained.path("lenet_digits")).test
    assert found["accuracy"] == pytest.approx(said["accuracy"]) and found["loss"] == pytest.approx(said["loss"], 1e-3)


def test_a_network_of_torchvision_names_what_it_sees(tmp_path):
    """A file without classes is ImageNet's; with the classes of a smaller one it says what is wrong."""
    small = Facts((63, 63, 3), tuple("abcd"), {}, "")
    words = ("data.name=fake", "data.side=63", "data.crop=63", "data.classes=4")
    network = cnn_jax.Network(cnn_jax.settings("alexnet_owt_imagenet", *words), facts=small)
    network.export(tmp_path / "four.safetensors", "torchvision")
    with pytest.raises(UserError, match=r"classifier.6.bias \[4\], not \[1000\]"):
        cnn_jax.load(tmp_path / "four.safetensors")


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    return environment(shared_folder(tmp_path_factory, "cache"), TFDS_DATA_DIR="/nowhere")


def test_predict_from_a_bare_clone(env, tmp_path):
    """No data, no training, no experiment; beside it nothing is written."""
    digits = cnn_jax.dataset(cnn_jax.settings("lenet_digits"), "test")
    pixels = 255 - digits.images[0][:, :, 0]
    Image.fromarray(pixels).resize((90, 90)).save(tmp_path / "digit.png")
    done = launch(env, "--mode=predict", "--init_from=lenet_digits", "--images=digit.png", cwd=tmp_path)
    assert f"digit.png: {digits.labels[0]} (" in done.stdout and "checkpoint: lenet_digits" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["digit.png"]


def test_a_page_on_a_network_without_its_data(tmp_path):
    network = cnn_jax.load("lenet5_mnist")
    drawn = np.full((40, 40), 255, np.uint8)
    drawn[5:35, 18:23] = 0
    Image.fromarray(drawn).save(tmp_path / "one.png")
    network.report(tmp_path / "look.html", [tmp_path / "one.png"])
    page = Page((tmp_path / "look.html").read_text())
    assert [section["id"] for section in page.all("section")] == ["filters", "maps", "layers"]
    text = " ".join(page.text.split())
    assert "99.13% of 10,000 images" in text and "The nearest bitmap is the answer" in text
    assert "one.png" in text and "(32 + 2·0 − 5) / 1 + 1 = 28" in text


@pytest.mark.parametrize(
    "words, message",
    [
        (["--mode=predict", "--init_from=lenet_digit", "--images=a.png"], "did you mean lenet_digits? Name a trained"),
        (["--mode=predict", "--init_from=.", "--images=a.png"], "name a trained network (see --list)"),
        (
            ["--mode=summary", "--init_from=lenet_digits"],
            "goes with --mode=train, eval, predict, report, export, explore",
        ),
        (["--mode=report", "--init_from=lenet_digits"], "needs --images=a.png,b.png and --out=FILE.html"),
        (["--mode=export", "--init_from=lenet_digits"], "--mode=export needs --out=FILE.safetensors, FILE.stablehlo"),
        (["--mode=export", "--init_from=lenet_digits", "--out=a.h5"], "--out=a.h5 must end in .safetensors, .stable"),
        (
            ["--mode=export", "--init_from=lenet_digits", "--out=a.onnx", "--format=cnn_jax"],
            "--out=a.onnx must end in .safetensors",
        ),
        (["--mode=eval", "--init_from=lenet_digits", "--format=onnx"], "--format goes with --mode=export, not"),
    ],
)
def test_what_the_command_line_refuses(words, message):
    from in_process import done, flags

    pairs = [word.removeprefix("--").partition("=")[::2] for word in words]
    given = {name: [value] if name == "images" else value for name, value in pairs}
    status, said = done(dataclasses.replace(flags(None, [], "", **given), workdir=None))
    assert status == 2 and message in said, said


def test_a_program_of_any_batch_for_all_platforms(place, tmp_path):
    pytest.importorskip("flatbuffers")
    network = cnn_jax.load(place / "three.safetensors")
    network.export(tmp_path / "a.stablehlo")
    program = jax.export.deserialize(bytearray((tmp_path / "a.stablehlo").read_bytes()))
    assert program.platforms == ("cpu", "cuda", "tpu")
    for count in (1, 5):
        logits, probabilities = program.call(images(network, count))
        np.testing.assert_allclose(logits, network(images(network, count))[0], rtol=1e-5, atol=1e-5)
        np.testing.assert_allclose(np.sum(probabilities, -1), 1, rtol=1e-5)
    assert "jax.export.deserialize" in (tmp_path / "a.stablehlo.md").read_text()


SMALL = ("data.name=fake", "data.side=63", "data.crop=63", "data.classes=4")
NETWORKS = {
    "lenet_digits": (),
    "lenet5_mnist": (),
    "lenet5_modern_mnist": (),
    "alexnet_cifar10": ("model.width=8",),
    "alexnet_owt_imagenet": SMALL,
}


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_onnx_runtime_gives_the_same_logits(name, tmp_path):
    pytest.importorskip("jax2onnx", reason="needs `pip install jax2onnx onnxruntime`")
    runtime = pytest.importorskip("onnxruntime", reason="needs `pip install jax2onnx onnxruntime`")
    network = cnn_jax.build(cnn_jax.settings(name, *NETWORKS[name]))
    network.export(tmp_path / "a.onnx")
    session = runtime.InferenceSession(tmp_path / "a.onnx")
    for count in (1, 3):
        logits, probabilities = session.run(["logits", "probabilities"], {"images": images(network, count)})
        wanted, _ = network(images(network, count))
        assert np.abs(logits - wanted).max() <= 1e-5 * np.abs(wanted).max()
        np.testing.assert_allclose(probabilities.sum(-1), 1, rtol=1e-5)
    said = json.loads(session.get_modelmeta().custom_metadata_map["cnn_jax"])
    assert tuple(said["data"]["class_names"]) == network.class_names


def test_torchvision_and_ours_are_told_apart(tmp_path):
    known = Identity(name="fake", shape=(63, 63, 3), class_names=tuple("abcd"))
    network = cnn_jax.Network(cnn_jax.settings("alexnet_owt_imagenet", *SMALL), facts=known.facts)
    network.export(tmp_path / "ours.safetensors")
    network.export(tmp_path / "theirs.safetensors", "torchvision")
    assert weights.about(tmp_path / "ours.safetensors") is not None
    assert weights.about(tmp_path / "theirs.safetensors") is None
    found = torchvision.load_torch(tmp_path / "theirs.safetensors", network.variables.params)
    for name, leaf in states.named_leaves(cnn_jax.load(tmp_path / "ours.safetensors").variables.params).items():
        layer, what = name.split(".")
        np.testing.assert_array_equal(np.asarray(leaf), found[layer][what])
