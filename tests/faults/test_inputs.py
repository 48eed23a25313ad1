"""Files that others may have made or damaged: each is read right, or refused with one clear message. Nothing else."""

import io
import json
import pickle
import struct
import zipfile
from pathlib import Path

import jax
import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from mutations import VALUES, changed, mutated
from PIL import Image
from tiny_images import tar

from cnn_jax import config, files, workdir
from cnn_jax.config import experiments, fields
from cnn_jax.data.datasets import imagenet_writer, mnist
from cnn_jax.data.images import decode, records
from cnn_jax.data.images.reader import Unreadable
from cnn_jax.errors import UserError
from cnn_jax.models import torchvision
from cnn_jax.training import metric_files, saved


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("inputs")


def written(path: Path, content: bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


IDX = bytes([0, 0, 8, 3]) + struct.pack(">3I", 2, 5, 4) + bytes(range(40))


@given(mutated(IDX))
def test_idx(content):
    try:
        assert mnist.parse(content, "a").dtype == np.uint8
    except UserError as error:
        assert str(error).startswith("a ")


VALIDATION = tar({f"ILSVRC2012_val_{number:08d}.JPEG": b"x" * 300 for number in (1, 2)})
TRAINING = tar({"n01440764.tar": tar({"n01440764_1.JPEG": b"y" * 600})})


@pytest.mark.parametrize("split,sound", [("validation", VALIDATION), ("train", TRAINING)])
@given(data=st.data())
def test_archives(place, split, sound, data):
    """They are walked, and never unpacked: no name in them becomes a path."""
    path = written(place / "tar" / "a.tar", data.draw(mutated(sound)))
    try:
        for member in imagenet_writer._index(split, path):
            assert "/" not in member.name and member.begin + member.size <= path.stat().st_size
    except UserError as error:
        assert str(path) in str(error)
    assert [each.name for each in path.parent.iterdir()] == ["a.tar"]


def test_a_name_in_an_archive_is_never_a_path(place):
    path = written(
        place / "evil.tar", tar({"../../evil/n01440764_1.JPEG": b"y", "/etc/ILSVRC2012_val_00000001.JPEG": b"z"})
    )
    with pytest.raises(UserError, match="holds n01440764_1.JPEG; expected"):
        imagenet_writer._index("validation", path)


RECORD = b"".join(struct.pack("<Q", len(data)) + b"crc1" + data + b"crc2" for data in (b"one", b"three", b""))


@given(data=st.data())
def test_tfrecord(place, data):
    path = written(place / "a.tfrecord", data.draw(mutated(RECORD)))
    try:
        found = records.TFRecordFiles([path])
        assert all(len(found[row]) <= len(RECORD) + 100 for row in range(len(found)))
    except ValueError as error:
        assert "a.tfrecord is cut short" in str(error)


INFO = {
    "fileFormat": "tfrecord", "name": "a", "version": "1.0.0",
    "splits": [{"name": "train", "shardLengths": ["3"], "numBytes": "8"}],
}  # fmt: skip


@given(data=st.data())
def test_the_description_of_a_dataset(place, data):
    written(place / "set" / "a-train.tfrecord-00000-of-00001", RECORD)
    values = data.draw(changed(INFO))
    written(place / "set" / "dataset_info.json", json.dumps(values).encode())
    try:
        assert records.describe(place / "set", "a", "train")["file_format"] in records.FORMATS
    except ValueError:
        pass


def archive_of_arrays():
    made = io.BytesIO()
    np.savez(made, origin=np.array(json.dumps({"a": 1})), labels=np.arange(9, dtype=np.int32))
    return made.getvalue()


ARRAYS = archive_of_arrays()


@given(data=st.data())
def test_arrays(place, data):
    path = written(place / "a.npz", data.draw(mutated(ARRAYS)))
    try:
        files.read_arrays(path)
    except ValueError as error:
        assert str(error).startswith(f"{path} is damaged")


def test_an_archive_that_points_before_its_beginning(place):
    """Looking there is an error of the operating system's, as of a disk that fails."""
    end = ARRAYS.rindex(b"PK\x05\x06") + 16  # where the archive says where its list of files begins
    offset = int.from_bytes(ARRAYS[end : end + 4], "little") + 500
    path = written(place / "b.npz", ARRAYS[:end] + offset.to_bytes(4, "little") + ARRAYS[end + 4 :])
    with pytest.raises(ValueError, match="b.npz is damaged"):
        files.read_arrays(path)


def test_arrays_are_never_unpickled(place):
    class Evil:
        def __reduce__(self):
            return (Path(place / "owned").touch, ())

    made = io.BytesIO()
    np.savez(made, a=np.array([Evil()], object))
    for content in (made.getvalue(), pickle.dumps(Evil())):
        with pytest.raises(ValueError, match="is damaged"):
            files.read_arrays(written(place / "evil.npz", content))
    assert not (place / "owned").exists()


@given(data=st.data())
def test_json(place, data):
    path = written(place / "a.json", data.draw(mutated(b'{"a": [1, 2.5, NaN], "b": {"c": "\\u00e9"}}')))
    try:
        assert isinstance(files.read_json(path), dict)
    except ValueError as error:
        assert str(error).startswith(f"{path} is damaged")


CONFIGS = [fields.to_dict(experiments.load(name)) for name in ("lenet5_mnist", "alexnet_imagenet", "lenet_digits")]


@given(data=st.data())
def test_config(place, data):
    """What is read back has the types and the groups of settings."""
    values = data.draw(st.one_of(*(changed(each) for each in CONFIGS)))
    content = json.dumps(values).encode("utf-8", "surrogatepass")
    path = written(place / "run" / "config.json", content)
    try:
        found = workdir.stored_config(path.parent)
        assert fields.mistyped(found) == []
        assert config.from_dict(json.loads(json.dumps(fields.to_dict(found)))) == found
    except UserError as error:
        assert str(path) in str(error)


ROW = {"step": 20, "epoch": 1.5, "split": "train", "loss": 0.5, "accuracy": 0.9, "learning_rate": 0.1}
START = {"time": "2026", "command": "launch.py", "config": {}, "git": None, "versions": {}, "host": {}, "step": 0}


@given(data=st.data())
def test_lines_of_metrics_times_and_starts(place, data):
    for name, sound, read in (
        ("metrics.jsonl", ROW, metric_files.read_rows),
        ("timing.jsonl", metric_files.TIMES, metric_files.read_timing),
        ("starts.jsonl", START, workdir.starts),
    ):
        line = json.dumps(sound).encode()
        lines = [line, data.draw(mutated(line)), json.dumps(data.draw(changed(sound))).encode(), line]
        written(place / "lines" / name, b"\n".join(lines) + b"\n")
        found = read(place / "lines")
        assert len(found) >= 2 and all(type(row.get("step", 0)) is int or name == "starts.jsonl" for row in found)
    metric_files.MetricFiles(place / "lines", 100).close()


@given(data=st.data())
def test_what_a_checkpoint_says_of_itself(place, data):
    step = place / "checkpoints" / "7"
    for part in saved.PARTS:
        written(step / part, b"")
    sound = {"score": 0.5, "scheduled": 1}
    written(step / "config/metadata", json.dumps(CONFIGS[0]).encode())
    written(step / "metrics/metrics", data.draw(mutated(json.dumps(sound).encode())))
    found = {
        "arrays": {"a": [5, [2]]},
        "config": saved.text_checksum(CONFIGS[0]),
        "metrics": saved.text_checksum(sound),
    }
    written(step / "checksums/checksums", json.dumps(data.draw(changed(found))).encode())
    good, bad = saved.survey(place / "checkpoints")
    assert len(good) + len(bad) == 1


def pictures():
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), np.uint8)
    for form in ("png", "jpeg", "gif", "bmp", "tiff", "webp", "ppm"):
        made = io.BytesIO()
        Image.fromarray(pixels).save(made, form)
        yield made.getvalue()


@pytest.mark.filterwarnings("ignore")  # Pillow's, of damaged files
@given(data=st.data())
def test_pictures(data):
    content = data.draw(st.one_of(*map(mutated, PICTURES)))
    for read in (lambda: decode.square(content, 8, "a"), lambda: decode.exact(content, (12, 16, 3), "a")):
        try:
            assert read().dtype == np.uint8
        except Unreadable as error:
            assert str(error).startswith("a ")


PICTURES = [*pictures()]


def tiny_params(rng=np.random.default_rng(0)):
    """Parameters of the layers of `alexnet_owt`, a few numbers each."""
    shapes = {f"conv{number}": (1, 1, 2, 2) for number in range(1, 6)} | {"dense1": (2, 2), "dense2": (2, 2)}
    shapes["output"] = (2, 3)
    draw = lambda *shape: rng.normal(size=shape).astype(np.float32)
    return {name: {"kernel": draw(*shape), "bias": draw(shape[-1])} for name, shape in shapes.items()}


PARAMS = tiny_params()


@given(data=st.data())
def test_safetensors(place, data):
    path = place / "a.safetensors"
    torchvision.save_torch(PARAMS, path)
    written(path, data.draw(mutated(path.read_bytes())))
    try:
        found = torchvision.load_torch(path, PARAMS)
        assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(found))
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    "spoil,said",
    [
        (lambda tensor: tensor * np.float32(np.nan), "features.0.bias holds numbers that are not finite"),
        (lambda tensor: tensor > 0, "features.0.bias is of bool"),
        (lambda tensor: tensor.astype(np.int64), "features.0.bias is of int64"),
    ],
)
def test_numbers_that_are_no_parameters_are_refused(place, spoil, said):
    path = place / "b.safetensors"
    torchvision.save_torch(PARAMS, path)
    stored = safetensors.numpy.load_file(path)
    stored["features.0.bias"] = spoil(stored["features.0.bias"])
    safetensors.numpy.save_file(stored, path)
    with pytest.raises(UserError, match=f"b.safetensors: {said}"):
        torchvision.load_torch(path, PARAMS)


def torch_file(path):
    torch = pytest.importorskip("torch")
    torchvision.save_torch(PARAMS, path.with_suffix(".safetensors"))
    stored = safetensors.numpy.load_file(path.with_suffix(".safetensors"))
    return torch, {name: torch.tensor(value) for name, value in stored.items()}


@pytest.mark.filterwarnings("ignore")  # PyTorch's, of damaged files
@given(data=st.data())
def test_pytorch(place, data):
    torch, stored = torch_file(place / "a.pth")
    torch.save(stored, place / "a.pth")
    path = written(place / "c.pth", data.draw(mutated((place / "a.pth").read_bytes())))
    try:
        torchvision.load_torch(path, PARAMS)
    except UserError as error:
        assert str(path) in str(error)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor")  # PyTorch 2.13 wants to give them up; November 2026
@pytest.mark.filterwarnings("ignore:.*TypedStorage is deprecated")
def test_tensors_that_are_no_parameters_are_refused(place):
    torch, stored = torch_file(place / "a.pth")
    name, tensor = "features.0.bias", stored["features.0.bias"]
    wanted = torchvision.load_torch(place / "a.safetensors", PARAMS)
    torch.save(stored | {name: torch.nn.Parameter(tensor)}, place / "d.pth")
    jax.tree.map(np.testing.assert_array_equal, torchvision.load_torch(place / "d.pth", PARAMS), wanted)
    for value, said in (
        (tensor.to_sparse(), "sparse"), (tensor.to("meta"), "meta"), (tensor > 0, "bool"), (tensor + 0j, "complex"),
        (torch.quantize_per_tensor(tensor, 0.1, 0, torch.qint8), "plain"), (tensor.long(), "int64"),
        (tensor * torch.nan, "not finite"),
    ):  # fmt: skip
        torch.save(stored | {name: value}, place / "d.pth")
        with pytest.raises(UserError, match=f"d.pth: {name} .*{said}" if said != "meta" else "d.pth"):
            torchvision.load_torch(place / "d.pth", PARAMS)
    torch.save({3: tensor}, place / "d.pth")
    with pytest.raises(UserError, match="d.pth is not a state dict"):
        torchvision.load_torch(place / "d.pth", PARAMS)


def test_a_pytorch_file_runs_no_code(place):
    torch_file(place / "a.pth")

    class Evil:
        def __reduce__(self):
            return (Path(place / "owned").touch, ())

    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps(Evil()))
        archive.writestr("archive/version", "3\n")
    for content in (made.getvalue(), pickle.dumps(Evil())):
        with pytest.raises(UserError, match="evil.pth is not a readable PyTorch file"):
            torchvision.load_torch(written(place / "evil.pth", content), PARAMS)
    assert not (place / "owned").exists()


@given(values=VALUES)
def test_what_is_written_as_json_is_read_by_everybody(place, values):
    """Strictly: no NaN, no infinity."""
    refuse = lambda name: pytest.fail(f"{name} in JSON")
    try:
        line = files.json_line({"a": values})
    except ValueError as error:  # integers of more than 4,300 digits
        assert "digits" in str(error)
        return
    assert isinstance(json.loads(line, parse_constant=refuse), dict)
