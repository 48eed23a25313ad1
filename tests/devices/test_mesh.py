"""One step under jit, a device mesh and pmap: the same losses on eight devices as on one.

The numbers come from tests/eight_devices.py, run once in a process of its own.
"""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import eight_devices
import jax
import numpy as np
import pytest
from tiny_training import STEPS, TinyRun, dataset

from cnn_jax.devices import mesh
from cnn_jax.devices.mesh import Parallel
from cnn_jax.errors import UsageError, UserError
from cnn_jax.training.checkpoints import Checkpoints
from cnn_jax.training.state import named_leaves

pytestmark = pytest.mark.versions

TESTS = Path(__file__).resolve().parent.parent
RTOL = 2e-6  # of losses; seen: 3e-7, with optimisations and without, on AVX2 and AVX-512


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eight")
    environment = os.environ | {
        "JAX_PLATFORMS": "cpu",
        "JAX_NUM_CPU_DEVICES": "8",
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
        "PYTHONPATH": os.pathsep.join([str(TESTS), str(TESTS.parent)]),
    }
    command = [sys.executable, "-W", "error", TESTS / "eight_devices.py", folder]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.fixture(scope="module")
def seen(folder):
    with np.load(folder / "seen.npz") as file:
        return dict(file)


@pytest.mark.parametrize("mode", ["mesh", "pmap"])
def test_seeds_on_devices_of_their_own_are_runs_of_their_own(seen, mode):
    np.testing.assert_allclose(seen[f"seeds/{mode}"][:, 0], seen["losses/jit"], rtol=RTOL)
    np.testing.assert_allclose(seen[f"seeds/{mode}"], seen["seeds/mesh"], rtol=RTOL)
    assert len(np.unique(seen["seeds/mesh"][-1])) == 8
    answers = seen[f"probabilities/{mode}"]
    assert answers.shape == (8, eight_devices.COUNT, 10)
    np.testing.assert_allclose(answers.sum(-1), 1, rtol=1e-5)
    np.testing.assert_allclose(answers, seen["probabilities/mesh"], atol=1e-4)


@pytest.mark.parametrize("mode", [mode for mode in eight_devices.MODES if mode != "jit"])
def test_losses_are_those_of_one_device(seen, mode):
    one = seen["losses/jit"]
    assert one.shape == (STEPS,) and len(set(one.tolist())) == STEPS
    np.testing.assert_allclose(seen[f"losses/{mode}"], one, rtol=RTOL)


@pytest.mark.parametrize("mode", [mode for mode in eight_devices.MODES if mode != "jit"])
def test_parameters_are_those_of_one_device(seen, mode):
    names = [name.removeprefix("params/jit/") for name in seen if name.startswith("params/jit/")]
    assert "conv1.kernel" in names and len(names) == 10
    for name in names:
        np.testing.assert_allclose(seen[f"params/{mode}/{name}"], seen[f"params/jit/{name}"], rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("mode", ["jit", "mesh"])
def test_a_checkpoint_of_another_process_and_number_of_devices_is_restored_to_the_bit(folder, seen, mode):
    run = TinyRun(eight_devices.BATCH)
    checkpoints = Checkpoints(folder / mode)
    assert checkpoints.latest() == STEPS
    leaves = named_leaves(jax.device_get(checkpoints.restore(STEPS, run.learner.state_like())))
    checkpoints.close()
    start = f"saved/{mode}/"
    saved = {name.removeprefix(start): leaf for name, leaf in seen.items() if name.startswith(start)}
    assert leaves.keys() == saved.keys()
    assert all(leaves[name].tobytes() == saved[name].tobytes() for name in leaves)


@pytest.fixture(scope="module")
def direct(quick_compile):
    """Logits, losses and labels of the examples, all at once and without the evaluator; loss and softmax by NumPy."""
    run, data = TinyRun(), dataset("train", eight_devices.COUNT)
    network = jax.jit(lambda params, images: run.network(params, images)[0])
    logits = network(run.first_state().evaluated, np.float32(data.images) / 255)
    logits = np.float64(logits)
    log_probabilities = logits - logits.max(-1, keepdims=True)
    log_probabilities -= np.log(np.exp(log_probabilities).sum(-1, keepdims=True))
    return -log_probabilities[np.arange(len(logits)), data.labels], np.exp(log_probabilities), data.labels


@pytest.mark.parametrize("batch,devices", eight_devices.EVALUATIONS)
def test_evaluation_counts_every_example_once(seen, direct, batch, devices):
    parts = ("losses", "probabilities", "labels")
    losses, probabilities, labels = (seen[f"{part}/{batch}/{devices}"] for part in parts)
    assert losses.shape == (eight_devices.COUNT,)
    np.testing.assert_array_equal(labels, direct[2])
    # Losses are all different: one taken twice, left out or moved would show.
    assert np.diff(np.sort(direct[0])).min() > 1e-6
    np.testing.assert_allclose(losses, direct[0], rtol=1e-6)
    np.testing.assert_allclose(probabilities, direct[1], rtol=2e-6)
    np.testing.assert_array_equal(probabilities.argmax(-1), direct[1].argmax(-1))


@pytest.mark.parametrize(
    "batch,accumulate,near",
    [
        (100, 1, "use --set train.batch_size=96 or --set train.batch_size=104,"),
        (5, 1, "use --set train.batch_size=8,"),
        (40, 4, "use --set train.batch_size=32 or --set train.batch_size=64,"),
    ],
)
@pytest.mark.parametrize("mode", ["auto", "mesh", "pmap"])
def test_a_batch_that_does_not_divide_is_refused(mode, batch, accumulate, near):
    with pytest.raises(UsageError) as caught:
        Parallel(mode, batch, devices=jax.devices() * 8, accumulate=accumulate)
    message = str(caught.value)
    assert f"train.batch_size = {batch} does not divide over 8 devices" in message and near in message


def test_jit_takes_one_device_and_any_batch():
    one = Parallel("jit", 100, devices=jax.devices() * 8)
    assert one.devices == jax.devices()[:1] and str(one) == "jit on 1 cpu device"
    assert Parallel("auto", 7, devices=jax.devices()[:1]).mode == "jit"


def test_processes_with_unlike_numbers_of_devices_are_refused():
    devices = [SimpleNamespace(process_index=index) for index in (0, 1, 1)]
    with pytest.raises(UsageError, match="as many devices as the others; they have {0: 1, 1: 2}"):
        Parallel("mesh", 6, devices=devices)


def test_a_set_that_does_not_fit_is_refused_before_it_is_sent():
    device = SimpleNamespace(
        device_kind="NVIDIA H200", memory_stats=lambda: {"bytes_limit": 105 * 10**9, "bytes_in_use": 5 * 10**9}
    )
    mesh._check_memory(device, 99 * 10**9, 2)
    with pytest.raises(UserError, match=r"needs 126.0 GB on each of 2 .* has 100.0 GB left .*MEM_FRACTION=.95"):
        mesh._check_memory(device, 126 * 10**9, 2)
    mesh._check_memory(SimpleNamespace(memory_stats=lambda: None), 10**15, 1)  # a CPU does not tell


def test_what_a_gpu_is_told_for_equal_bits_is_known_to_the_compiler(monkeypatch, quick_compile):
    """Under jit, for seeds, and in evaluation; on a CPU, where nothing needs to be told, the results are the same."""
    assert Parallel("jit", deterministic=True)._options == {}
    gpu = SimpleNamespace(platform="gpu", process_index=0)
    monkeypatch.setattr(mesh, "Mesh", lambda devices, names: jax.sharding.Mesh(np.array(jax.devices()), names))
    assert Parallel("jit", devices=[gpu], deterministic=True)._options == mesh.DETERMINISTIC
    assert Parallel("jit", devices=[gpu])._options == {}
    with pytest.raises(UsageError, match="does not go with --parallel=pmap of several"):
        both = [gpu, SimpleNamespace(platform="gpu", process_index=1)]
        Parallel("pmap", devices=both, deterministic=True)

    told = []
    monkeypatch.setattr(jax.stages.Lowered, "compile", noting(jax.stages.Lowered.compile, told))
    plain = TinyRun().losses()[0]
    assert told == [None]
    init = Parallel.__init__

    def as_on_a_gpu(self, *arguments, **options):
        init(self, *arguments, **options)
        self._options = mesh.DETERMINISTIC

    monkeypatch.setattr(Parallel, "__init__", as_on_a_gpu)
    run = TinyRun("train.deterministic=true")
    losses, state = run.losses()
    np.testing.assert_array_equal(losses, plain)
    assert told[1:] == [mesh.DETERMINISTIC]
    run.evaluator(state.evaluated, dataset("test", 5))
    options = {"xla_gpu_no_such_thing": True}
    with pytest.raises(Exception, match="No such compile option"):
        jax.jit(lambda x: x).lower(1.0).compile(options)


def noting(compile, told):
    def noted(self, options=None):
        told.append(options)
        return compile(self, options)

    return noted
