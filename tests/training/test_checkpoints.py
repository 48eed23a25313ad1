"""Checkpoints: which are kept, what comes back, and what happens to damaged, foreign and unwritable ones."""

import errno
import gc
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
from launching import snapshot
from tiny_training import assert_same_bits

from cnn_jax import config
from cnn_jax.errors import UserError
from cnn_jax.training import checkpoints as checkpoints_module
from cnn_jax.training import state as states
from cnn_jax.training.checkpoints import Checkpoints
from cnn_jax.training.optimizer import make_optimizer, plateau_init
from cnn_jax.training.state import TrainState, zero_totals

pytestmark = pytest.mark.versions

SETTINGS = config.Config(experiment="x", model=config.LeNet(dropout=0.25), seed=5)


def make_state(step=0, ema=True, layers=("conv1", "dense1"), width=3):
    rng = np.random.default_rng(step)
    draw = lambda *shape: jnp.float32(rng.normal(size=shape))
    params = {name: {"kernel": draw(4, width), "bias": draw(width)} for name in layers}
    return TrainState(
        seed=jnp.int32(5),
        step=jnp.int32(step),
        params=params,
        batch_stats={"norm1": {"mean": draw(5)}},
        optimizer=make_optimizer(config.Optimizer.of(name="adam", clip_norm=1.0)).init(params),
        ema=jax.tree.map(lambda leaf: leaf + 1, params) if ema else None,
        plateau=plateau_init(),
        totals=zero_totals(),
    )


@pytest.fixture
def saved(tmp_path):
    """A folder with checkpoints of steps 1 and 2."""
    with_checkpoints(tmp_path, lambda checkpoints: save(checkpoints, {1: None, 2: None}), keep=2)
    return tmp_path


def with_checkpoints(folder, act, **options):
    checkpoints = Checkpoints(folder, **options)
    try:
        return act(checkpoints)
    finally:
        checkpoints.close()


def save(checkpoints, scores):
    for step, score in scores.items():
        checkpoints.save(step, make_state(step), SETTINGS, score)
        checkpoints.wait()


def best_step(checkpoints):
    """The step that stands for the run; None where nothing is saved."""
    found = checkpoints.restore_chosen(make_state().evaluated)
    return found and found[1]


def steps_in(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def test_a_state_comes_back_to_the_bit(saved):
    def check(checkpoints):
        assert checkpoints.latest() == best_step(checkpoints) == 2
        assert_same_bits(checkpoints.restore(1, make_state()), make_state(1))
        restored = checkpoints.restore_latest(make_state())
        assert_same_bits(restored, make_state(2))
        assert_same_bits(checkpoints.restore(2, make_state()), make_state(2))
        assert jax.tree.structure(restored) == jax.tree.structure(make_state(2))

    with_checkpoints(saved, check)


def test_the_name_that_running_statistics_had_before_is_read(tmp_path, monkeypatch):
    named = states.named_leaves
    with monkeypatch.context() as patch:
        old = lambda state: {name.replace("batch_stats.", "statistics."): leaf for name, leaf in named(state).items()}
        patch.setattr(checkpoints_module, "named_leaves", old)
        with_checkpoints(tmp_path, lambda checkpoints: save(checkpoints, {1: None}), keep=2)
    metadata = (tmp_path / "checkpoints/1/state/_METADATA").read_text()
    assert "statistics.norm1.mean" in metadata and "batch_stats" not in metadata

    def check(checkpoints):
        assert_same_bits(checkpoints.restore(1, make_state()), make_state(1))
        assert_same_bits(checkpoints.restore_chosen(make_state().evaluated)[0], make_state(1).evaluated)

    with_checkpoints(tmp_path, check)


def test_the_config_comes_back(saved):
    assert config.from_dict(with_checkpoints(saved, lambda checkpoints: checkpoints.settings(2))) == SETTINGS


def test_nothing_is_saved_at_first(tmp_path):
    assert with_checkpoints(tmp_path, lambda one: (one.latest(), best_step(one))) == (None, None)


def test_the_state_may_be_given_away_while_it_is_saved(tmp_path):
    """The step reuses the memory of its argument at once; the checkpoint holds what was there before."""
    overwrite = jax.jit(lambda state: jax.tree.map(lambda leaf: leaf * 0 - 1, state), donate_argnums=0)
    checkpoints = Checkpoints(tmp_path)
    large = make_state(3, width=100_000)
    want = jax.device_get(jax.tree.map(np.copy, large))
    checkpoints.save(3, large, SETTINGS, None)
    state = overwrite(large)
    for _ in range(5):
        state = overwrite(state)
    checkpoints.wait()
    assert_same_bits(checkpoints.restore(3, state), want)
    checkpoints.close()


@pytest.mark.parametrize(
    "options,scores,kept,best",
    [
        ({"keep": 2}, {1: None, 2: None, 3: None, 4: None}, [3, 4], 4),
        ({"keep": 1, "best": True}, {1: 0.5, 2: 0.9, 3: 0.7, 4: 0.6}, [2, 4], 2),
        ({"keep": 2, "best": True}, {1: 0.5, 2: 0.9, 3: None, 4: None}, [2, 3, 4], 2),
        ({"keep": 1, "best": True}, {1: None, 2: 0.1, 3: None}, [2, 3], 2),
        ({"keep": 1, "best": True}, {1: None, 2: None}, [2], 2),
        ({"keep": 1, "best": True}, {1: 0.2, 2: 0.8}, [2], 2),
    ],
)
def test_the_latest_and_the_best_are_kept(tmp_path, options, scores, kept, best):
    def check(checkpoints):
        save(checkpoints, scores)
        assert (checkpoints.latest(), best_step(checkpoints)) == (max(scores), best)

    with_checkpoints(tmp_path, check, **options)
    assert [step for step in steps_in(tmp_path) if step in kept] == kept
    if any(score is not None for score in scores.values()):
        assert steps_in(tmp_path) == kept
    # A later process agrees.
    seen = with_checkpoints(tmp_path, lambda checkpoints: (checkpoints.latest(), best_step(checkpoints)), **options)
    assert seen == (max(scores), best)


def refusal(folder, like, part="restore_latest"):
    with pytest.raises(UserError) as caught:
        with_checkpoints(folder, lambda checkpoints: getattr(checkpoints, part)(like))
    return str(caught.value)


def test_another_network_is_refused_by_name(saved):
    message = refusal(saved, make_state(layers=("conv1", "dense2")))
    assert str(saved / "checkpoints" / "2") in message
    assert "missing (8): ema.dense2.bias, ema.dense2.kernel, optimizer." in message
    assert "unexpected (8): ema.dense1.bias" in message and "params.dense1.kernel" in message
    assert "of another shape" not in message
    message = refusal(saved, make_state(width=7))
    assert "of another shape (16): " in message and "conv1.bias: saved (3,), here (7,)" in message
    assert "missing" not in message and "unexpected" not in message
    assert "unexpected (4): ema.conv1.bias" in refusal(saved, make_state(ema=False))


def test_parameters_alone_are_the_averaged_ones_where_there_are_any(saved, tmp_path_factory):
    like = make_state().evaluated
    get = lambda folder: with_checkpoints(folder, lambda checkpoints: checkpoints.restore_chosen(like)[0])
    assert_same_bits(get(saved).params, make_state(2).ema)
    plain = tmp_path_factory.mktemp("plain")
    with_checkpoints(plain, lambda checkpoints: checkpoints.save(2, make_state(2, ema=False), SETTINGS, None))
    assert_same_bits(get(plain), make_state(2, ema=False).evaluated)
    other = make_state(layers=("conv1", "dense2")).evaluated
    assert "missing (2): ema.dense2" in refusal(saved, other, "restore_chosen")


def change(folder, pattern, act):
    for path in [path for path in folder.rglob(pattern) if path.is_file()]:
        act(path)


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def scramble(path):
    path.write_bytes(b"?" * path.stat().st_size)


DAMAGE = {
    "all cut short": lambda folder: change(folder, "*", halve),
    "all emptied": lambda folder: change(folder, "*", lambda path: path.write_bytes(b"")),
    "data gone": lambda folder: change(folder / "state", "d/*", Path.unlink),
    "data cut short": lambda folder: change(folder / "state", "d/*", halve),
    "data changed": lambda folder: change(folder / "state", "d/*", scramble),
    "names cut short": lambda folder: halve(folder / "state" / "_METADATA"),
}


@pytest.fixture
def late_reads():
    """Reads that are still on their way when the first one fails find the event loop of Orbax closed."""
    yield
    gc.collect()  # here, where the warning is expected, and not in a later test


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("late_reads")
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_checkpoint_is_passed_over_and_the_one_before_it_used(saved, damage, capsys):
    damage(saved / "checkpoints" / "2")
    damaged = snapshot(saved)
    reader = Checkpoints(saved)
    variables, step, rule = reader.restore_chosen(make_state().evaluated)
    assert (step, rule) == (1, "last step")
    assert_same_bits(variables, make_state(1).evaluated)
    reader.close()
    assert snapshot(saved) == damaged  # reading changes nothing
    writer = Checkpoints(saved, keep=2)
    assert_same_bits(writer.restore_latest(make_state()), make_state(1))
    said = capsys.readouterr().err
    assert said.count(f"the checkpoint {saved / 'checkpoints' / '2'} is ") == 2 and "passed over" in said
    save(writer, {2: 0.5})
    assert writer.latest() == 2
    writer.close()
    assert f"{saved / 'checkpoints' / '2'} is now damaged-2" in capsys.readouterr().err
    assert steps_in(saved) == [1, 2] and (saved / "checkpoints" / "damaged-2").is_dir()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("late_reads")
def test_where_no_checkpoint_is_sound_a_run_begins_anew(saved, capsys):
    for step in "12":
        scramble(next((saved / "checkpoints" / step / "state").glob("d/*")))
    assert with_checkpoints(saved, lambda checkpoints: checkpoints.restore_latest(make_state())) is None
    assert capsys.readouterr().err.count("passed over") == 2


# The one that is read, and the ones that say how.
FLIPPED = [
    pytest.param("checkpoints/2/state/d/*", 40, marks=pytest.mark.slow),
    ("checkpoints/2/state/ocdbt.process_0/d/*", 6),
    ("checkpoints/2/state/manifest.ocdbt", 6),
    ("checkpoints/2/state/_METADATA", 10),
    ("checkpoints/2/config/metadata", 10),
    ("checkpoints/2/metrics/metrics", 4),
    ("checkpoints/2/checksums/checksums", 10),
    ("checkpoints/2/_CHECKPOINT_METADATA", 4),
]


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("late_reads")
@pytest.mark.parametrize("pattern,count", FLIPPED)
def test_a_flipped_bit_is_found_or_changes_nothing(saved, pattern, count):
    """Many files, many places: what comes back is what was saved at 2, or else at 1, to the bit."""
    rng = np.random.default_rng(len(pattern))
    paths = sorted(saved.glob(pattern)) or sorted(saved.glob("checkpoints/2/state/d/*"))
    for _ in range(count):
        path = paths[rng.integers(len(paths))]
        sound = path.read_bytes()
        flipped = bytearray(sound)
        place = rng.integers(8 * len(sound))
        flipped[place // 8] ^= 1 << place % 8
        path.write_bytes(flipped)
        state = with_checkpoints(saved, lambda checkpoints: checkpoints.restore_latest(make_state()))
        assert int(state.step) in (1, 2)
        assert_same_bits(state, make_state(int(state.step)))
        path.write_bytes(sound)
    assert int(with_checkpoints(saved, lambda checkpoints: checkpoints.restore_latest(make_state())).step) == 2


def test_a_checkpoint_without_checksums_is_read(saved):
    """Those saved before November 2026."""
    shutil.rmtree(saved / "checkpoints" / "2" / "checksums")
    with_checkpoints(saved, lambda one: assert_same_bits(one.restore_latest(make_state()), make_state(2)))


@pytest.mark.parametrize("name", ["a [1]*?", "b\\c", "d\n#%20 {e} ü日'\""])
def test_a_folder_may_have_any_name(tmp_path, name):
    folder = tmp_path / name
    with_checkpoints(folder, lambda checkpoints: save(checkpoints, {1: None, 2: None}))
    assert steps_in(folder) == [2]
    with_checkpoints(folder, lambda one: assert_same_bits(one.restore_latest(make_state()), make_state(2)))


# What a plain removal of the folder that was killed leaves, in whatever order it went; earlier versions removed so.
CUT = {
    "state gone": lambda folder: shutil.rmtree(folder / "state"),
    "state empty": lambda folder: change(folder / "state", "*", Path.unlink),
    "names gone": lambda folder: (folder / "state" / "_METADATA").unlink(),
    "index gone": lambda folder: (folder / "state" / "manifest.ocdbt").unlink(),
    "config gone": lambda folder: shutil.rmtree(folder / "config"),
    "score gone": lambda folder: shutil.rmtree(folder / "metrics"),
    "mark gone": lambda folder: (folder / "_CHECKPOINT_METADATA").unlink(),
    "all gone": lambda folder: change(folder, "*", Path.unlink),
}


@pytest.mark.parametrize("best", [False, True])
@pytest.mark.parametrize("cut", CUT.values(), ids=list(CUT))
def test_a_half_removed_checkpoint_is_set_aside_and_the_one_before_it_used(saved, cut, best, capsys):
    cut(saved / "checkpoints" / "2")
    checkpoints = Checkpoints(saved, keep=2, best=best)
    assert checkpoints.latest() == best_step(checkpoints) == 1
    said = capsys.readouterr().err
    assert f"the checkpoint {saved / 'checkpoints' / '2'} is not whole, it lacks " in said
    assert_same_bits(checkpoints.restore(1, make_state()), make_state(1))
    save(checkpoints, {2: 0.5})
    assert checkpoints.latest() == 2
    checkpoints.close()
    assert steps_in(saved) == [1, 2] and (saved / "checkpoints" / "damaged-2").is_dir()


def test_an_old_checkpoint_goes_in_one_move(tmp_path, monkeypatch):
    """Killed before the rest: nothing that looks like a step is left, and the next save clears the rest away."""
    monkeypatch.setattr(Checkpoints, "_remove", lambda self: None)
    with_checkpoints(tmp_path, lambda checkpoints: save(checkpoints, {1: None, 2: None, 3: None}))
    folder = tmp_path / "checkpoints"
    assert steps_in(tmp_path) == [3]
    assert {path.name for path in (folder / "removed").iterdir()} == {"1", "2"}
    monkeypatch.undo()
    with_checkpoints(tmp_path, lambda checkpoints: save(checkpoints, {4: None}))
    assert [path.name for path in folder.iterdir()] == ["4"]


def test_what_a_killed_save_leaves_is_ignored(saved):
    folder = saved / "checkpoints"
    shutil.copytree(folder / "2", folder / "3.orbax-checkpoint-tmp")
    (folder / "3.orbax-checkpoint-tmp" / "_CHECKPOINT_METADATA").unlink(missing_ok=True)

    def check(checkpoints):
        assert checkpoints.latest() == 2
        save(checkpoints, {3: None})
        assert checkpoints.latest() == 3
        assert_same_bits(checkpoints.restore(3, make_state()), make_state(3))

    with_checkpoints(saved, check, keep=3)


def test_a_folder_that_cannot_be_made_is_a_clear_message(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot open .*file/checkpoints.*; .*can be written"):
        with_checkpoints(tmp_path / "file", lambda checkpoints: save(checkpoints, {1: None}))


def test_a_full_disk_is_a_clear_message(saved, monkeypatch):
    """The save fails in the background; `wait` tells, and the checkpoints before it are whole."""

    async def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoints = Checkpoints(saved, keep=2)
    monkeypatch.setattr(ocp.type_handlers.ArrayHandler, "serialize", full)
    with pytest.raises(UserError, match="No space left on device; .*free space.*before it are whole"):
        checkpoints.save(3, make_state(3), SETTINGS, None)
        checkpoints.wait()
    monkeypatch.undo()
    later = Checkpoints(saved, keep=2)
    assert later.latest() == 2
    assert_same_bits(later.restore(2, make_state()), make_state(2))
    later.close()


def test_a_relative_workdir_will_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with_checkpoints(Path("run"), lambda checkpoints: save(checkpoints, {1: None}))
    assert steps_in(tmp_path / "run") == [1]
