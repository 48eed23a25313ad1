"""Checkpoints: which are kept, what comes back, and what happens to damaged, foreign and unwritable ones."""

import errno
import shutil
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import orbax.checkpoint as ocp
import pytest
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


def steps_in(folder):
    return sorted(int(path.name) for path in (folder / "checkpoints").iterdir() if path.name.isdigit())


def test_a_state_comes_back_to_the_bit(saved):
    def check(checkpoints):
        assert checkpoints.latest() == checkpoints.best() == 2
        assert_same_bits(checkpoints.restore(1, make_state()), make_state(1))
        restored = checkpoints.restore(2, make_state())
        assert_same_bits(restored, make_state(2))
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
        assert_same_bits(checkpoints.restore_variables(1, make_state().evaluated), make_state(1).evaluated)

    with_checkpoints(tmp_path, check)


def test_the_config_comes_back(saved):
    assert config.from_dict(with_checkpoints(saved, lambda checkpoints: checkpoints.settings(2))) == SETTINGS


def test_nothing_is_saved_at_first(tmp_path):
    assert with_checkpoints(tmp_path, lambda checkpoints: (checkpoints.latest(), checkpoints.best())) == (None, None)


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
        assert (checkpoints.latest(), checkpoints.best()) == (max(scores), best)

    with_checkpoints(tmp_path, check, **options)
    assert [step for step in steps_in(tmp_path) if step in kept] == kept
    if any(score is not None for score in scores.values()):
        assert steps_in(tmp_path) == kept
    # A later process agrees.
    seen = with_checkpoints(tmp_path, lambda checkpoints: (checkpoints.latest(), checkpoints.best()), **options)
    assert seen == (max(scores), best)


def refusal(folder, like, part="restore"):
    with pytest.raises(UserError) as caught:
        with_checkpoints(folder, lambda checkpoints: getattr(checkpoints, part)(2, like))
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
    get = lambda folder: with_checkpoints(folder, lambda checkpoints: checkpoints.restore_variables(2, like))
    assert_same_bits(get(saved).params, make_state(2).ema)
    plain = tmp_path_factory.mktemp("plain")
    with_checkpoints(plain, lambda checkpoints: checkpoints.save(2, make_state(2, ema=False), SETTINGS, None))
    assert_same_bits(get(plain), make_state(2, ema=False).evaluated)
    other = make_state(layers=("conv1", "dense2")).evaluated
    assert "missing (2): ema.dense2" in refusal(saved, other, "restore_variables")


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


# Reads that are still on their way when the first one fails find the event loop of Orbax closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("part", ["restore", "restore_variables"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=list(DAMAGE))
def test_a_damaged_checkpoint_is_a_clear_message(saved, damage, part):
    damage(saved / "checkpoints" / "2")
    like = make_state() if part == "restore" else make_state().evaluated
    message = refusal(saved, like, part)
    assert str(saved / "checkpoints" / "2") in message and "delete this folder" in message
    # Which is then the way out.
    shutil.rmtree(saved / "checkpoints" / "2")
    checkpoints = Checkpoints(saved)
    assert checkpoints.latest() == 1
    assert_same_bits(checkpoints.restore(1, make_state()), make_state(1))
    checkpoints.close()


def test_a_damaged_config_is_a_clear_message(saved):
    (saved / "checkpoints" / "2" / "config" / "metadata").write_text("{")
    with pytest.raises(UserError, match="checkpoints/2.*\n.*delete this folder"):
        with_checkpoints(saved, lambda checkpoints: checkpoints.settings(2))


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
    assert checkpoints.latest() == checkpoints.best() == 1
    said = capsys.readouterr().err
    assert f"the checkpoint {saved / 'checkpoints' / '2'} is not whole, it lacks " in said
    assert "set aside as damaged-2" in said and (saved / "checkpoints" / "damaged-2").is_dir()
    assert_same_bits(checkpoints.restore(1, make_state()), make_state(1))
    save(checkpoints, {2: 0.5})
    assert checkpoints.latest() == 2
    checkpoints.close()
    assert steps_in(saved) == [1, 2]


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
    with pytest.raises(UserError, match="cannot open .*file/checkpoints.*\n.*can be written"):
        Checkpoints(tmp_path / "file")


def test_a_full_disk_is_a_clear_message(saved, monkeypatch):
    """The save fails in the background; `wait` tells, and the checkpoints before it are whole."""

    async def full(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    checkpoints = Checkpoints(saved, keep=2)
    monkeypatch.setattr(ocp.type_handlers.ArrayHandler, "serialize", full)
    with pytest.raises(UserError, match="No space left on device.*\n.*free space.*before it are whole"):
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
