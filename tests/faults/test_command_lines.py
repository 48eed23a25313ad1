"""Command lines: any set of --set pairs runs, or is refused with status 2 before anything is touched."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import done, flags

from cnn_jax.config import experiments, fields, reference

# What a slip or a program writes: of every type, at the ends of ranges and far beyond them.
TEXTS = [
    "", "0", "1", "-1", "2", "3", "0.5", "-0.0", "1e400", "-1e400", "nan", "inf", "true", "no", "None", "()", "a,b",
    "1,2,3", "10 epochs", "0 steps", "1e3 steps", "99999999999999999999 steps", "9" * 400, "9" * 5000, "10**9", "=",
    "9" * 400 + " epochs", "1000000000", "3000000000", "1e12", "1e30", "1e-300", "0x10", "１２", "\ud800", "\x00", "[]",
    "a" * 10_000, "tfds:../x", "tfds:", "../../etc", "same", "max", "sgd", "plateau", "fake", "folder",
]  # fmt: skip
NAMES = ("lenet_digits", "lenet5_mnist", "alexnet_imagenet", "pooling_digits")
PATHS = sorted({entry.path for entry in reference.entries(None)})


def values_of(path):
    """Texts that may be given to a setting: its own values and limits, and any."""
    own = [text for leaf in LEAVES.get(path, ()) for text in _own(leaf)]
    return st.sampled_from(TEXTS + own * 3)


def _own(leaf):
    chosen, rule = leaf.rule.get("choice"), leaf.rule
    yield from chosen.names if chosen else map(str, rule.get("choices") or ())
    for name in ("low", "high"):
        if rule.get(name) is not None:
            yield from (str(rule[name]), str(rule[name] + 1), str(rule[name] - 1))
    yield str(leaf.value)


def _leaves():
    found = {}
    for name in NAMES:
        loaded = experiments.load(name)
        for leaf in fields.leaves(getattr(loaded, "base", loaded)):
            found.setdefault(leaf.path, []).append(leaf)
    return found


LEAVES = _leaves()
PAIRS = st.lists(
    st.one_of(st.sampled_from(PATHS), st.sampled_from(PATHS), st.text(max_size=12)).flatmap(
        lambda path: values_of(path).map(lambda text: f"{path}={text}")
    ),
    max_size=4,
)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    return tmp_path_factory.mktemp("lines")


@given(experiment=st.sampled_from(NAMES), pairs=PAIRS)
def test_settings_are_sound_or_refused_at_once(place, experiment, pairs):
    """Only the checks: what they let through, the next test tries."""
    folder = place / "run"
    asked = flags(experiment, [*pairs, f"data.data_dir={place / 'data'}"], folder, mode="settings")
    status, said = done(asked)
    assert status in (0, 2) and (status == 0 or said.startswith("error: "))
    assert "Traceback" not in said and not folder.exists() and not (place / "data").exists()


SMALL = [
    "data.limit=40", "data.validation=20", "train.duration=2 steps", "schedule.warmup=0 steps", "train.batch_size=8",
    "checkpoint.every=1 steps", "log.tensorboard=no",
]  # fmt: skip
# What makes a run long or large without being wrong, or needs files.
LEFT_OUT = (
    "train.duration", "data.limit", "data.validation", "data.data_dir", "data.manual_dir", "data.path", "data.name",
    "evaluation.passes", "data.size", "model.width", "model.units", "parallel",
)  # fmt: skip


@pytest.mark.slow
@settings(max_examples=25)
@given(pairs=PAIRS)
def test_what_is_not_refused_runs(tmp_path_factory, pairs):
    folder = tmp_path_factory.mktemp("run") / "run"
    pairs = [pair for pair in pairs if pair.partition("=")[0] not in LEFT_OUT]
    status, said = done(flags("lenet_digits", [*SMALL, *pairs], folder))
    assert "Traceback" not in said
    assert status in (0, 2) or "not a finite number" in said or "no finite numbers" in said, said
    if status == 2:
        assert not folder.exists()
    else:
        assert (folder / "metrics.jsonl").exists()


def test_every_setting_takes_its_default(place):
    for name in NAMES:
        loaded = experiments.load(name)
        pairs = [
            f"{leaf.path}={','.join(map(str, leaf.value)) if isinstance(leaf.value, tuple) else leaf.value}"
            for leaf in fields.leaves(getattr(loaded, "base", loaded))
            if leaf.path not in ("experiment", "model.name")
        ]
        assert done(flags(name, pairs, place / "run", mode="settings"))[0] == 0


@pytest.mark.parametrize("name", ["nowhere", "a/b.py", "", "../x", "\x00", "a" * 300, "lenet_digits "])
def test_experiments_that_are_not_there(place, name):
    assert done(flags(name, [], place / "run"))[0] == 2
    assert not (place / "run").exists()


def test_names_of_files_may_be_any(tmp_path):
    """Of an experiment of one's own, in a folder of any name."""
    folder = tmp_path / "a [1]*? ü'\""
    folder.mkdir()
    (folder / "mine.py").write_text(
        '"""Mine."""\nfrom cnn_jax.config import Config\n\n\ndef config():\n    return Config()\n'
    )
    status, said = done(flags(str(folder / "mine.py"), ["seed=3"], tmp_path / "run", mode="settings"))
    assert status == 0, said
