"""Several processes train as one does, take the same decisions, and end together.

Each process is a launch.py of its own, on virtual CPU devices.
"""

import fcntl
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import numpy as np
import pytest
from launching import QUICK, REPOSITORY, command, environment, launch, settings, shared_folder, stored_state

from cnn_jax import config
from cnn_jax.devices import launchers
from cnn_jax.errors import UsageError

STEPS = 120
RUN = settings(
    data__limit=50, data__validation=21, train__batch_size=16, train__duration=f"{STEPS} steps", model__dropout=0.3,
    model__pool__kind="average", optimizer__ema=0.9, log__every="1 steps", log__tensorboard=False,
    evaluation__every="50 steps", checkpoint__every="5 steps", checkpoint__keep=100,
)  # fmt: skip
WORDS = ["--experiment=lenet_digits", "--noreport", *RUN]
# Of losses. Max pooling would make rounding grow: see tiny_training.SMOOTH.
RTOL = 1e-5


@pytest.fixture(scope="module")
def env(tmp_path_factory):
    """Two virtual devices for each process."""
    data = str(tmp_path_factory.mktemp("data"))
    cache = shared_folder(tmp_path_factory, "cache")
    return environment(cache, JAX_NUM_CPU_DEVICES="2", TFDS_DATA_DIR=data, PYTHONWARNINGS="error", **QUICK)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return probe.getsockname()[1]


def pair(env, *words) -> list[subprocess.Popen]:
    """Two processes of one run, on their way."""
    place = f"--coordinator=localhost:{free_port()}"
    each = lambda index: [*command(*words), place, "--process_count=2", f"--process_index={index}"]
    return [begun(env, each(index)) for index in range(2)]


def begun(env, words, cwd=None) -> subprocess.Popen:
    return subprocess.Popen(words, env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def ended(processes, statuses) -> list[tuple[str, str]]:
    """What each printed, once all have ended with the statuses; None: whatever they are."""
    deadline = time.monotonic() + 200
    while any(process.poll() is None for process in processes) and time.monotonic() < deadline:
        time.sleep(0.01)
    for process in processes:
        process.kill()
    said = [process.communicate() for process in processes]
    assert statuses is None or [process.returncode for process in processes] == statuses, said
    assert not any("Traceback" in errors for _, errors in said), said
    return said


def wait_for(processes, condition):
    """Returns when the condition is true, while all processes run."""
    deadline = time.monotonic() + 200
    while not condition():
        if time.monotonic() > deadline or any(process.poll() is not None for process in processes):
            raise AssertionError(ended(processes, None))
        time.sleep(0.01)


def rows(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def saved(folder):
    return {int(path.name) for path in (folder / "checkpoints").glob("*") if path.name.isdigit()}


def assert_same_rows(folder, other):
    """Rows of the same steps and splits, with the same losses but for rounding."""
    ours, theirs = rows(folder), rows(other)
    name = lambda row: (row["step"], row["epoch"], row["split"])
    assert list(map(name, ours)) == list(map(name, theirs))
    loss, expected = ([row["loss"] for row in each] for each in (ours, theirs))
    np.testing.assert_allclose(loss, expected, rtol=RTOL)
    assert [row["accuracy"] for row in ours] == [row["accuracy"] for row in theirs]


@pytest.fixture(scope="module")
def alone(env, tmp_path_factory):
    """The workdir of the run of one process on one device."""
    folder = tmp_path_factory.mktemp("alone") / "run"
    launch(env | {"JAX_NUM_CPU_DEVICES": "1"}, *WORDS, f"--workdir={folder}")
    return folder


@pytest.fixture(scope="module")
def stages(env, tmp_path_factory):
    """The same run in three stages: the workdir, the steps that the first two came to, and what each printed.

    Two processes with two devices each, until one of them gets a signal; one process with four devices, until it gets
    one; and two processes again, under pmap, with data from the host, and started as SLURM would.
    """
    folder = tmp_path_factory.mktemp("stages") / "run"
    words = [*WORDS, f"--workdir={folder}"]
    processes = pair(env, *words)
    wait_for(processes, lambda: saved(folder))
    processes[1].send_signal(signal.SIGTERM)
    said = [ended(processes, [75, 75])]
    steps = [max(saved(folder))]
    process = begun(env | {"JAX_NUM_CPU_DEVICES": "4"}, command(*words, "--parallel=mesh"))
    wait_for([process], lambda: max(saved(folder)) > steps[0])
    process.send_signal(signal.SIGTERM)
    said.append(ended([process], [75]))
    steps.append(max(saved(folder)))
    variables = {"SLURM_JOB_ID": "1", "SLURM_STEP_NODELIST": "localhost", "SLURM_NTASKS": "2"}
    variables |= {"JAX_COORDINATOR_PORT": str(free_port())}
    words += ["--parallel=pmap", *settings(data__placement="host")]
    tasks = [{"SLURM_PROCID": str(index), "SLURM_LOCALID": str(index)} for index in range(2)]
    said.append(ended([begun(env | variables | task, command(*words)) for task in tasks], [0, 0]))
    return folder, steps, said


@pytest.mark.slow
def test_a_signal_to_one_process_saves_the_same_step_in_both(stages):
    _, (first, second), (pair, (one,), _) = stages
    assert 0 < first < second < STEPS
    last = lambda said: said[1].splitlines()[-1]
    message = f"saved at step {{}} of {STEPS:,}; the same command continues"
    assert [last(each) for each in pair] == [message.format(first)] * 2
    assert last(one) == message.format(second)
    assert f"continuing from step {first:,}" in one[1]


@pytest.mark.slow
def test_any_number_of_processes_and_devices_continues_to_the_same_losses(stages, alone):
    folder, steps, said = stages
    kinds = ["mesh on 4 cpu devices of 2 processes; data: device", "mesh on 4 cpu devices; data: device"]
    kinds += ["pmap on 4 cpu devices of 2 processes; data: host"]
    for kind, ((_, log), *_) in zip(kinds, said, strict=True):
        assert f"parallel: {kind}" in log
    for step, ((_, log), *_) in zip(steps, said[1:], strict=True):
        assert f"continuing from step {step}" in log
    assert len(rows(folder)) == STEPS + 3
    assert_same_rows(folder, alone)
    ours, theirs = stored_state(folder, STEPS), stored_state(alone, STEPS)
    for name in [name for name in theirs if name.startswith(("params.", "ema."))]:
        np.testing.assert_allclose(ours[name], theirs[name], rtol=0, atol=1e-5, err_msg=name)


@pytest.mark.slow
def test_all_examples_are_measured_once(stages, alone):
    ours, theirs = (json.loads((each / "results.json").read_text()) for each in (stages[0], alone))
    for name in ("test_loss", "test_calibration_error"):
        assert ours.pop(name) == pytest.approx(theirs.pop(name), rel=RTOL)
    assert ours == theirs and ours["test_examples"] == 50  # no multiple of anything


@pytest.mark.slow
def test_the_first_process_alone_speaks_and_writes(stages):
    folder, _, (*_, ((results, log), others)) = stages
    assert re.fullmatch("test accuracy .*\ntest loss .*\n", results)
    assert log.count("first step done") == 1
    assert others == ("", "")
    starts = [json.loads(line) for line in (folder / "starts.jsonl").read_text().splitlines()]
    assert [len(start["devices"]) for start in starts] == [4, 4, 4]
    times = [json.loads(line)["step"] for line in (folder / "timing.jsonl").read_text().splitlines()]
    assert times == list(range(1, STEPS + 1))  # the steps of the training rows


@pytest.mark.slow
def test_evaluation_needs_the_workdir_on_the_first_machine_alone(env, alone, tmp_path):
    shutil.copytree(alone, tmp_path / "first" / "run")
    (tmp_path / "second").mkdir()
    place = f"--coordinator=localhost:{free_port()}"
    each = lambda index: [
        *command("--mode=eval", "--workdir=run", place, "--process_count=2", f"--process_index={index}")
    ]
    folders = tmp_path / "first", tmp_path / "second"
    started = [begun(env, each(index), cwd=folder) for index, folder in enumerate(folders)]
    (results, _), (nothing, _) = ended(started, [0, 0])
    expected = json.loads((alone / "results.json").read_text())["test_accuracy"]
    assert f"test: accuracy {100 * expected:.2f} %" in results and nothing == ""
    assert [*(tmp_path / "second").iterdir()] == []
    place = f"--coordinator=localhost:{free_port()}"
    started = [begun(env, each(index), cwd=folders[1]) for index in range(2)]
    for _, errors in ended(started, [2, 2]):
        assert "--workdir=run holds no run" in errors or errors == ""


@pytest.mark.parametrize("lost", [0, 1])
@pytest.mark.slow
def test_when_one_process_dies_the_other_ends(env, tmp_path, lost):
    """At once with one device each; with more, one of them may wait for JAX's heartbeat, 100 seconds."""
    folder = tmp_path / "run"
    processes = pair(env | {"JAX_NUM_CPU_DEVICES": "1"}, *WORDS, f"--workdir={folder}")
    wait_for(processes, lambda: saved(folder))
    processes[lost].kill()
    killed = time.monotonic()
    _, errors = ended(processes, None)[1 - lost]
    assert time.monotonic() - killed < 60
    status = processes[1 - lost].returncode
    if lost == 1:
        assert status == 1
        assert "error: another process of the run has gone; its own messages say why" in errors
    else:  # without process 0, JAX itself may be quicker to end this one
        assert status not in (0, 75) and "Check failure" not in errors and "Traceback" not in errors
        assert len([line for line in errors.splitlines() if line.startswith("error: ")]) == 1


@pytest.mark.slow
def test_all_refuse_alike(env, tmp_path):
    """A batch that does not divide, and a workdir in use, which only process 0 looks at."""
    folder = tmp_path / "run"
    said = ended(pair(env, *WORDS, *settings(train__batch_size=18), f"--workdir={folder}"), [2, 2])
    assert said[0][0] == said[1][0] == ""
    for _, errors in said:
        assert "error: train.batch_size = 18 does not divide over 4 devices under --parallel=mesh" in errors
    assert not folder.exists()
    folder.mkdir()
    with (folder / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        said = ended(pair(env, *WORDS, f"--workdir={folder}"), [1, 1])
    assert all(f"error: another process is running in {folder}" in errors for _, errors in said)


@pytest.mark.parametrize("index", [0, 1])
def test_a_process_that_nobody_meets_says_so(env, tmp_path, index):
    place = f"localhost:{free_port()}"
    words = [f"--coordinator={place}", "--process_count=2", f"--process_index={index}", "--coordinator_timeout=2"]
    done = launch(env, *WORDS, f"--workdir={tmp_path / 'run'}", *words, status=1)
    assert done.stderr.startswith(f"error: process {index} of 2 did not meet all the others at {place} within 2 s: ")
    assert done.stderr.count("\n") == 1 and done.stdout == "" and not (tmp_path / "run").exists()


def test_usage_errors_come_before_jax(env, tmp_path):
    code = (
        "import sys, launch; sys.argv = ['launch.py', '--experiment=lenet_digits', '--coordinator=host:1', "
        "'--process_count=2']; status = launch.main(); assert 'jax' not in sys.modules; sys.exit(status)"
    )
    words = [sys.executable, "-c", code]
    env = env | {"PYTHONPATH": str(REPOSITORY)}
    done = subprocess.run(words, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=100)
    assert done.returncode == 2 and not list(tmp_path.iterdir())
    assert done.stderr == "error: --coordinator, --process_count without --process_index: the three go together\n"


def find(environ=None, parallel="auto", **flags):
    """`launchers.from_flags` with the flags, and none of the others."""
    wish = {"mode": "train", "distributed": "auto", "coordinator_timeout": 300}
    wish |= dict.fromkeys(("coordinator", "process_count", "process_index"))
    found = launchers.from_flags(SimpleNamespace(**wish | flags), environ or {})
    if found:
        launchers.check_parallel(config.Config(parallel=parallel))
    return found


THREE = {"coordinator": "host:8476", "process_count": 2, "process_index": 1}
SLURM = {name: "1" for name in ("SLURM_JOB_ID", "SLURM_STEP_NODELIST", "SLURM_PROCID", "SLURM_LOCALID")}
OPEN_MPI = {f"OMPI_COMM_WORLD_{name}": "1" for name in ("RANK", "LOCAL_RANK")}
OPEN_MPI["OMPI_MCA_orte_hnp_uri"] = "1531576320.0;tcp://10.96.0.1:34911"


@pytest.mark.parametrize(
    "flags, message",
    [
        (THREE | {"distributed": "off"}, "--coordinator, --process_count, --process_index and --distributed=off"),
        ({"process_index": 0}, "--process_index without --coordinator, --process_count: the three go together"),
        (THREE | {"process_index": 2}, "--process_index=2 must be from 0 to 1: --process_count=2"),
        (THREE | {"coordinator": "host"}, "--coordinator=host must be HOST:PORT of process 0"),
        (THREE | {"coordinator": "host:70000"}, "--coordinator=host:70000 must be HOST:PORT of process 0"),
        (THREE | {"mode": "predict"}, "--mode=predict is the work of one process"),
        (THREE | {"parallel": "jit"}, "--parallel=jit is for one device"),
        ({"distributed": "on"}, "--distributed=on: there are no variables of SLURM or Open MPI"),
        ({"distributed": "on", "environ": SLURM | {"SLURM_NTASKS": "1"}}, "--distributed=on: there are no variables"),
        ({"distributed": "on", "mode": "report"}, "--mode=report is the work of one process"),
    ],
)
def test_flags_that_do_not_add_up(flags, message):
    with pytest.raises(UsageError) as caught:
        find(**flags)
    assert str(caught.value).startswith(message)


def test_launchers_are_found():
    assert find() is None
    assert find(**THREE) == launchers.Rendezvous(300, "host:8476", 2, 1)
    found = launchers.Rendezvous(300)
    several = [SLURM | {"SLURM_NTASKS": "2"}, OPEN_MPI | {"OMPI_COMM_WORLD_SIZE": "4"}]
    for environ in several:
        assert find(environ) == find(environ, distributed="on") == found
        assert find(environ, distributed="off") is None
        assert find(environ, mode="report") is None
    # One task, or a shell in an allocation, is a run like any other.
    assert find(SLURM | {"SLURM_NTASKS": "1"}) is None
    assert find({"SLURM_JOB_ID": "1", "SLURM_NTASKS": "8"}) is None
