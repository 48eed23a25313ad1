"""Every file that a run owns, emptied, cut short or changed by a bit: one clear line, and nothing is lost by it."""

import gc
import random
import shutil

import pytest
from in_process import done, flags
from launching import snapshot

PAIRS = [
    "data.limit=60", "data.validation=40", "train.batch_size=8", "train.duration=12 steps", "evaluation.every=4 steps",
    "checkpoint.every=4 steps", "log.every=3 steps", "schedule.warmup=0 steps",
]  # fmt: skip


def flip(content, draw):
    place = draw.randrange(8 * len(content))
    return content[: place // 8] + bytes([content[place // 8] ^ 1 << place % 8]) + content[place // 8 + 1 :]


DAMAGE = {
    "emptied": lambda content, draw: b"",
    "cut": lambda content, draw: content[: draw.randrange(len(content))],
    "flipped": flip,
    "replaced": lambda content, draw: draw.randbytes(len(content)),
}


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run, its report written."""
    folder = tmp_path_factory.mktemp("run") / "run"
    status, said = done(flags("lenet_digits", PAIRS, folder, report=True))
    assert status == 0, said
    return folder


def attempt(run, tmp_path, name, damage, draw):
    """Damages a file of a copy, and then uses that in every way."""
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    path = folder / name
    path.write_bytes(DAMAGE[damage](path.read_bytes(), draw))
    before = snapshot(folder)
    for mode in ("eval", "report", "train"):
        if mode == "eval":
            status, said = done(flags(None, [], folder, mode=mode))
            assert snapshot(folder) == before  # eval changes nothing, whatever it finds
        else:
            status, said = done(flags("lenet_digits", PAIRS, folder, mode=mode))
        context = f"{name} {damage}, {mode}: {status}\n{said}"
        assert status in (0, 1, 2) and "Traceback" not in said, context
        assert status == 0 or len([line for line in said.splitlines() if line.startswith("error: ")]) == 1, context
    gc.collect()  # what Orbax leaves behind warns here, where that is expected, and not in a later test
    if status == 0:
        assert (folder / "results.json").read_bytes() == (run / "results.json").read_bytes(), context
        if name.startswith("checkpoints"):
            assert (folder / "metrics.jsonl").read_bytes() == (run / "metrics.jsonl").read_bytes(), context
    else:
        assert name == "config.json", context  # of other settings; all else is mended or passed over


def files_of(run):
    return sorted(str(path.relative_to(run)) for path in run.rglob("*") if path.is_file() and path.stat().st_size)


# Reads that are still on their way when one of them fails find the event loop of Orbax closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_some_damage(run, tmp_path):
    draw = random.Random(0)
    for name in [*draw.sample(files_of(run), 2), "metrics.jsonl", "config.json"]:
        attempt(run, tmp_path, name, draw.choice([*DAMAGE]), draw)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_an_empty_file_of_arrays(run, tmp_path):
    """Orbax raises a plain Exception over it."""
    arrays = max(files_of(run), key=lambda name: (run / name).stat().st_size * name.startswith("checkpoints/12/state/"))
    attempt(run, tmp_path, arrays, "emptied", random.Random(0))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_every_file_damaged_in_two_ways(run, tmp_path):
    draw = random.Random(1)
    for name in files_of(run):
        for damage in draw.sample([*DAMAGE], 2):
            attempt(run, tmp_path, name, damage, draw)


@pytest.mark.parametrize("name", ["config.json", "metrics.jsonl", "timing.jsonl", "starts.jsonl", "checkpoints"])
def test_what_is_gone_is_made_anew(run, tmp_path, name):
    folder = tmp_path / "run"
    shutil.copytree(run, folder)
    shutil.rmtree(folder / name) if (folder / name).is_dir() else (folder / name).unlink()
    status, said = done(flags("lenet_digits", PAIRS, folder))
    assert status == 0, said
    assert (folder / "results.json").read_bytes() == (run / "results.json").read_bytes()
