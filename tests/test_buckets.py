"""Folders in a bucket: what is done there equals what is done on a disk, and its failures are one line each."""

import importlib.util
import io
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from pathlib import Path

import numpy as np
import pytest
import tiny_data
import tiny_images
from launching import command, environment, launch, settings, shared_folder
from tiny_training import folder_settings

import cnn_jax
from cnn_jax import buckets, config, files, leases
from cnn_jax.data.datasets import source
from cnn_jax.errors import UsageError, UserError
from cnn_jax.progress import Counter

needs_packages = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("gcsfs", "gcp_storage_emulator")),
    reason="needs `pip install gcsfs google-cloud-storage gcp-storage-emulator`",
)
pytestmark = pytest.mark.usefixtures("quick_compile")
SHORT = settings(
    train__duration="12 steps", schedule__warmup="0 steps", evaluation__every="4 steps", checkpoint__every="2 steps",
    log__every="1 steps",
)  # fmt: skip


@pytest.fixture(scope="module")
def variables():
    import gcs

    with gcs.running("bucket", "forbidden", "failing", "flaky") as found:
        yield found


@pytest.fixture(scope="module")
def bucket(variables):
    """An empty folder in a bucket, for this process: clients read the environment when they are imported."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in variables.items():
            patch.setenv(name, value)
        yield f"gs://bucket/{uuid.uuid4().hex[:8]}"


@pytest.fixture(scope="module")
def env(variables, tmp_path_factory):
    return environment(shared_folder(tmp_path_factory, "cache"), **variables)


def tree(folder) -> dict[str, bytes]:
    """The files in a folder, by name, but for what depends on the clock, and what Orbax calls by chance."""
    path = files.place(str(folder), "folder")
    if buckets.is_far(path):
        names = buckets.listing(path)
    else:
        names = [each.relative_to(path).as_posix() for each in path.rglob("*") if each.is_file()]
    kept = [name for name in names if not {"checkpoints", "tensorboard"} & set(name.split("/"))]
    kept = [name for name in kept if leases.NAME not in name]
    timed = ("timing.jsonl", "starts.jsonl", "report.html", "arm.json", "costs.csv", ".lock")
    return {name: (path / name).read_bytes() for name in sorted(kept) if not name.endswith(timed)}


def test_what_names_no_bucket_is_refused(monkeypatch):
    for text, words in {
        "s3://bucket/run": "s3:// is not supported",
        "gs://": "names no bucket",
        "gs://B/run": "names no bucket",
        "gs:/bucket/run": "looks like a bucket",
        "/here/gs:/bucket/run": "looks like a bucket",
    }.items():
        with pytest.raises(UsageError, match=f"--workdir={text}.*{words}"):
            files.place(text, f"--workdir={text}")
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "gcsfs" else found(name))
    with pytest.raises(UsageError, match=r"--like=gs://bucket/run: .* need an extra: pip install 'cnn_jax\[cloud\]'"):
        files.place("gs://bucket/run", "--like=gs://bucket/run")


@pytest.mark.slow
@needs_packages
def test_a_run_in_a_bucket_equals_one_on_the_disk(bucket, tmp_path, capsys):
    tiny_images.write_class_folders(tmp_path / "images", dict.fromkeys("abc", 6))
    made = folder_settings(tmp_path / "images", "checkpoint.every=2 steps", "log.every=1 steps")
    runs = [cnn_jax.Run(made, workdir) for workdir in (f"{bucket}/run", tmp_path / "run")]
    for run in runs:
        run.train(4, progress=False)
    runs = [cnn_jax.Run(workdir=run.folder) for run in runs]  # the rest by processes that know nothing but the folder
    for run in runs:
        run.train(progress=False)
        run.report()
    far, near = runs
    assert tree(far.folder) == tree(near.folder) and "metrics.csv" in tree(far.folder)
    for ours, theirs in zip(far.network().variables.params.values(), near.network().variables.params.values()):
        np.testing.assert_array_equal(ours["kernel"], theirs["kernel"])
    assert far.metrics()["step"].max() == 6 and (far.folder / "report.html").exists()
    assert not (far.folder / ".owner").exists() and [*(far.folder / "tensorboard").iterdir()]
    assert not any("gs:" in str(path) for path in Path.cwd().iterdir())
    answers = far.predict([str(tmp_path / "images/a/000.jpg")])
    for name in ("answers.html", "answers.csv"):
        far.write_answers(answers, f"{bucket}/{name}")
        assert "000.jpg" in files.place(f"{bucket}/{name}", name).read_text()
    with pytest.raises(UsageError, match="holds a run with other settings"):
        cnn_jax.Run(folder_settings(tmp_path / "images", "seed=9"), far.folder).train(progress=False)
    fresh = cnn_jax.Run(folder_settings(tmp_path / "images", "seed=9"), tmp_path / "fresh")
    fresh.train(1, init_from=f"{bucket}/run")
    assert f"parameters from {bucket}/run/checkpoints/" in capsys.readouterr().err


@pytest.mark.slow
@needs_packages
def test_what_is_saved_only_in_part_was_never_a_checkpoint(bucket, tmp_path):
    tiny_images.write_class_folders(tmp_path / "images", dict.fromkeys("abc", 6))
    made = folder_settings(tmp_path / "images", "checkpoint.every=2 steps", "data.validation=0")
    run = cnn_jax.Run(made, f"{bucket}/torn")
    run.train(4, progress=False)
    torn = run.folder / "checkpoints" / "5"
    (torn / "state" / "d" / "1").write_bytes(b"half of an array")
    (torn / "_CHECKPOINT_METADATA").write_text("{}")
    assert cnn_jax.Run(workdir=run.folder).train(progress=False) == 6
    assert not torn.exists() and (run.folder / "checkpoints" / "6").exists()


@needs_packages
def test_a_damaged_checkpoint_is_passed_over(bucket, tmp_path, capsys):
    tiny_images.write_class_folders(tmp_path / "images", dict.fromkeys("abc", 6))
    made = folder_settings(tmp_path / "images", "checkpoint.every=2 steps", "checkpoint.keep=2", "data.validation=0")
    run = cnn_jax.Run(made, f"{bucket}/damaged")
    run.train(4, progress=False)
    capsys.readouterr()
    newest = run.folder / "checkpoints" / "4"
    newest.joinpath("metrics", "metrics").write_text('{"score": 1}')
    assert cnn_jax.Run(workdir=run.folder).train() == 6
    assert "checkpoints/4 is damaged" in capsys.readouterr().err
    assert (newest.parent / "damaged-4" / "_CHECKPOINT_METADATA").exists()


@needs_packages
def test_prepared_data_are_written_on_the_disk_and_copied(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "near"))
    arrays = tiny_data.tiny_arrays(40, 20)
    tiny_data.publish(monkeypatch, "mnist", tmp_path / "files", arrays)
    for path in (tmp_path / "files").iterdir():
        (files.place(f"{bucket}/files/{path.name}", "file")).write_bytes(path.read_bytes())
    data = config.Data.of(name="mnist", data_dir=f"{bucket}/data", manual_dir=f"{bucket}/files")
    assert f"mnist is prepared in {bucket}/data/mnist/3.0.1: 40 train and 20 test" in source.prepare(data)
    found = source.load(data, "train")
    near = source.load(config.Data.of(name="mnist"), "train")
    np.testing.assert_array_equal(np.asarray(found.images), np.asarray(near.images))
    np.testing.assert_array_equal(found.labels, near.labels)
    with pytest.raises(UserError, match=f"not prepared in {bucket}/nothing"):
        source.load(config.Data.of(name="mnist", data_dir=f"{bucket}/nothing"), "test")


@needs_packages
def test_the_data_folder_of_the_environment_may_be_in_a_bucket(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", f"{bucket}/environment")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert f"prepared in {bucket}/environment/digits/1.0.0" in source.prepare(config.Data.of(name="digits"))
    assert (tmp_path / "tensorflow_datasets/digits/1.0.0/dataset_info.json").is_file()


@needs_packages
@pytest.mark.slow
def test_a_small_imagenet_is_read_from_the_bucket(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "near"))
    tiny_images.write_imagenet(tmp_path / "tars")
    for path in (tmp_path / "tars").iterdir():
        (files.place(f"{bucket}/tars/{path.name}", "file")).write_bytes(path.read_bytes())
    of = lambda **more: config.Data.of(name="imagenet2012", side=32, **more)
    data = of(data_dir=f"{bucket}/imagenet", manual_dir=f"{bucket}/tars")
    source.prepare(data)
    assert any(name.endswith("train_index.npz") for name in buckets.listing(files.place(f"{bucket}/imagenet", "data")))
    for split in ("train", "test"):
        far, near = source.load(data, split), source.load(of(), split)
        np.testing.assert_array_equal(far.labels, near.labels)
        np.testing.assert_array_equal(np.asarray(far.images[:]), np.asarray(near.images[:]))


@needs_packages
def test_a_folder_of_images_is_mirrored(bucket, tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path / "near"))
    tiny_images.write_class_folders(tmp_path / "images", {"a": 4, "b": 3})
    buckets.upload(tmp_path / "images", files.place(f"{bucket}/images", "images"))
    of = lambda path: config.Data.of(name="folder", path=str(path), side=16, data_dir=str(tmp_path / "cache"))
    far, near = source.identity(of(f"{bucket}/images")), source.identity(of(tmp_path / "images"))
    assert far == near
    found = [source.load(of(path), "train") for path in (f"{bucket}/images", tmp_path / "images")]
    np.testing.assert_array_equal(*(np.asarray(each.images[:]) for each in found))
    with pytest.raises(UserError, match=f"there is nothing in {bucket}/none"):
        source.identity(of(f"{bucket}/none"))


@needs_packages
def test_a_mirror_follows_what_changes(bucket, tmp_path, capsys):
    far, near = files.place(f"{bucket}/mirrored", "folder"), tmp_path / "mirror"
    for name, text in {"a/1": "one", "a/2": "two", "b/1": "three"}.items():
        (far / name).write_text(text)
    buckets.mirror(far, near, lambda count: Counter("copying", count))
    assert tree(near) == {"a/1": b"one", "a/2": b"two", "b/1": b"three"}
    (far / "a/1").unlink()
    (far / "a/2").write_text("TWO")  # as long as before
    (far / "c").write_text("new")
    buckets.mirror(far, near, lambda count: Counter("copying", count))
    assert tree(near) == {"a/2": b"TWO", "b/1": b"three", "c": b"new"}


@needs_packages
def test_what_another_process_writes_is_seen(bucket):
    """Clients remember listings, unless they are told not to."""
    folder = files.place(f"{bucket}/shared", "folder")
    (folder / "0").write_text("mine")
    assert [path.name for path in folder.iterdir()] == ["0"] and not (folder / "1").exists()
    code = f"from cnn_jax import files; files.place('{folder}/1', 'file').write_text('theirs')"
    subprocess.run([sys.executable, "-c", code], check=True)
    assert sorted(path.name for path in folder.iterdir()) == ["0", "1"] and (folder / "1").read_text() == "theirs"


@needs_packages
def test_two_processes_do_not_write_into_one_folder(bucket, monkeypatch, capsys):
    monkeypatch.setattr(leases, "PERIOD", 0.2)
    monkeypatch.setattr(leases, "SILENCE", 1.5)
    folder = files.place(f"{bucket}/owned", "folder")
    with files.claimed(folder):
        with pytest.raises(UserError, match=f"another process is running in {folder}, process {os.getpid()} on "):
            with files.claimed(folder):
                pass
        files.write_text(folder / "mine", "1")
    assert not (folder / ".owner").exists()
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    here = leases._this_process()
    (folder / ".owner").write_text(json.dumps(here | {"pid": gone.pid, "started": "1"}))
    began = time.monotonic()
    with files.claimed(folder):  # of this machine, and no more
        assert time.monotonic() - began < 1
    (folder / ".owner").write_text(json.dumps(here | {"host": "elsewhere"}))
    with files.claimed(folder):  # of another machine, and silent
        assert time.monotonic() - began > 1.5
    assert "asking for a sign of life of process" in capsys.readouterr().err


@needs_packages
def test_an_owner_that_was_silent_for_too_long_writes_no_more(bucket, monkeypatch):
    monkeypatch.setattr(leases, "PERIOD", 0.2)
    folder = files.place(f"{bucket}/lost", "folder")
    with files.claimed(folder):
        files.write_text(folder / "mine", "1")
        (folder / ".owner").write_text(json.dumps({"host": "elsewhere"}))  # who took over
        deadline = time.monotonic() + 20
        with pytest.raises(UserError, match=f"{folder} has another owner"):
            while time.monotonic() < deadline:
                files.write_text(folder / "mine", "2")
                time.sleep(0.05)
    assert json.loads((folder / ".owner").read_text()) == {"host": "elsewhere"}


@needs_packages
def test_arrays_text_and_traces(bucket, tmp_path):
    folder = files.place(f"{bucket}/files", "folder")
    files.write_arrays(folder / "a.npz", x=np.arange(5))
    np.testing.assert_array_equal(files.read_arrays(folder / "a.npz")["x"], np.arange(5))
    growing = files.Growing(folder / "rows.jsonl", '{"a": 1}\n')
    growing.write('{"a": 2}\n')
    assert len(files.read_lines(folder / "rows.jsonl")) == 1  # written whole, at each save
    growing.put()
    growing.close()
    assert [row["a"] for row in files.read_lines(folder / "rows.jsonl")] == [1, 2]
    box = files.Outbox(folder / "box")
    (box.local / "inner").mkdir()
    (box.local / "inner" / "x").write_text("x")
    box.close()
    assert (folder / "box/inner/x").read_text() == "x" and not box.local.exists()
    with files.on_disk(folder / "rows.jsonl") as near:
        assert near.name == "rows.jsonl" and near.read_bytes().count(b"\n") == 2
    files.remove_folder(folder)
    files.remove_folder(folder)
    assert not folder.exists()


@needs_packages
@pytest.mark.parametrize("name", ["nobody-has-this", "forbidden"])
def test_a_bucket_that_cannot_be_used_is_one_line(env, name, tmp_path):
    done = launch(env, "--experiment=lenet_digits", f"--workdir=gs://{name}/run", status=None, cwd=tmp_path)
    assert done.returncode in (1, 2) and name in done.stderr.splitlines()[-1], done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: ") and not [*tmp_path.iterdir()]


@needs_packages
@pytest.mark.slow
def test_a_bucket_that_fails_now_and_then_is_asked_again(env, tmp_path):
    done = launch(env, "--experiment=lenet_digits", *SHORT, "--workdir=gs://flaky/run", cwd=tmp_path)
    assert "report gs://flaky/run/report.html" in done.stdout


@needs_packages
@pytest.mark.slow
def test_a_bucket_that_fails_for_good_is_one_line_after_a_while(env, tmp_path):
    done = launch(env, "--experiment=lenet_digits", "--workdir=gs://failing/run", status=1, cwd=tmp_path)
    assert done.stderr.count("\n") == 1 and "error: Google Cloud Storage: " in done.stderr, done.stderr


@needs_packages
@pytest.mark.slow
def test_a_run_that_was_killed_goes_on_on_an_empty_machine(bucket, env, tmp_path):
    """SIGKILL in the middle; the same command in another, empty, home; then evaluation, prediction and a report."""
    root = f"{bucket}/killed"
    words = ("--experiment=lenet_digits", *SHORT)
    launch(env, *words, f"--workdir={tmp_path}/whole", "--noreport")
    far = (*words, f"--workdir={root}/run")
    first = env | {"HOME": str(tmp_path / "first")}
    with subprocess.Popen(command(*far), env=first, stderr=subprocess.DEVNULL) as process:
        saved = files.place(f"{root}/run/checkpoints/6/state", "folder")
        while process.poll() is None and not saved.exists():
            time.sleep(0.01)
        process.kill()
        assert process.wait() == -signal.SIGKILL
    second = env | {"HOME": str(tmp_path / "second"), "JAX_COMPILATION_CACHE_DIR": f"{root}/cache"}
    done = launch(second, *far)
    assert "continuing from step" in done.stderr and buckets.listing(files.place(f"{root}/cache", "cache"))
    assert tree(f"{root}/run") == tree(tmp_path / "whole")
    assert "test: accuracy" in launch(second, f"--workdir={root}/run", "--mode=eval").stdout
    assert f"report {root}/run/report.html" in launch(second, f"--workdir={root}/run", "--mode=report").stdout


@needs_packages
@pytest.mark.slow
def test_a_study_of_two_processes_in_a_bucket_equals_one_on_the_disk(bucket, env, tmp_path):
    root = f"{bucket}/studies"
    few = settings(study__seeds=2, train__duration="20 steps", evaluation__every="10 steps", schedule__warmup="0 steps")
    words = ("--experiment=pooling_digits", *few, *settings(study__arms="max,average"))
    launch(env, *words, f"--workdir={tmp_path}/study")
    both = [
        subprocess.Popen(command(*words, f"--workdir={root}/study"), env=env, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [process.communicate()[1] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum("arm 1/2 max: done" in text for text in said) == 1
    far, near = tree(f"{root}/study"), tree(tmp_path / "study")
    assert far.keys() == near.keys()
    for name in ("results.csv", "summary.csv", "table.tex"):
        assert far[name] == near[name]
    for name in far:
        if name.endswith(".npz"):
            ours, theirs = (np.load(io.BytesIO(each[name])) for each in (far, near))
            for key in ours.files:
                np.testing.assert_array_equal(ours[key], theirs[key])
