"""The scripts, where what they need is missing: what it is, and their usage."""

import os
import shutil
import subprocess

import pytest
from launching import REPOSITORY


@pytest.mark.parametrize(
    "script, variables, message",
    [
        ("tpu_pod.sh", {}, "the variable TPU is missing"),
        ("tpu_pod.sh", {"TPU": "a"}, "the variable ZONE is missing"),
        ("tpu_pod.sh", {"TPU": "a", "ZONE": "b"}, "gcloud is not installed"),
        ("tpu_queued.sh", {"TPU": "a", "ZONE": "b", "TYPE": "c"}, "the variable RUNTIME is missing"),
        (
            "tpu_queued.sh",
            {"TPU": "a", "ZONE": "b", "TYPE": "c", "RUNTIME": "d"},
            "--workdir=gs://BUCKET/FOLDER is needed",
        ),
        ("slurm.sbatch", {}, "this is a job for SLURM"),
        ("two_processes.sh", {"PYTHON": "/nowhere/python"}, "/nowhere/python is not there"),
    ],
)
def test_usage_is_given_where_something_is_missing(script, variables, message, tmp_path):
    for tool in ("bash", "sed", "dirname"):  # and no gcloud
        (tmp_path / tool).symlink_to(shutil.which(tool))
    unset = ("TPU", "ZONE", "TYPE", "RUNTIME", "SLURM_JOB_ID")
    env = {name: value for name, value in os.environ.items() if name not in unset} | {"PATH": str(tmp_path)}
    words = ["bash", REPOSITORY / "scripts" / script]
    done = subprocess.run(words, env=env | variables, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {message}")
    first = (REPOSITORY / "scripts" / script).read_text(encoding="utf-8").splitlines()[1].removeprefix("# ")
    assert first in done.stderr and "Traceback" not in done.stderr


def stand_in(folder, name, text):
    """Puts a program of this name first on the PATH of a script."""
    (folder / name).write_text(f"#!/usr/bin/env bash\n{text}")
    (folder / name).chmod(0o755)


def run_script(script, folder, *words, **variables):
    env = os.environ | {"PATH": f"{folder}:{os.environ['PATH']}", "FOLDER": str(folder)} | variables
    words = ["bash", REPOSITORY / "scripts" / script, *words]
    return subprocess.run(words, env=env, capture_output=True, text=True, timeout=60)


# What was asked goes to `asked`; each look at the state takes a line of `states`, and each run its status from `runs`.
GCLOUD = """
echo "$*" >> "$FOLDER/asked"
take() { head -n 1 "$1"; sed -i 1d "$1"; }
case "$*" in
*"queued-resources describe"*) take "$FOLDER/states" ;;
*launch.py*) exit "$(take "$FOLDER/runs")" ;;
esac
"""


@pytest.mark.parametrize(
    "states, runs, status, creations, said",
    [
        # Asked for, waited for, taken away in the middle, asked for again.
        (["", "PROVISIONING", "ACTIVE", "SUSPENDED", "", "ACTIVE"], [255, 0], 0, 2, "pod was taken away"),
        # There already, and the run fails on it.
        (["ACTIVE"] * 9, [1, 1, 1], 1, 0, "the run failed 3 times on a slice that is there"),
        # Not to be had at first.
        (["", "FAILED", "", "ACTIVE"], [0], 0, 2, "asking for pod, v4-32"),
    ],
)
def test_a_queued_tpu_is_asked_for_again_until_the_run_is_done(tmp_path, states, runs, status, creations, said):
    stand_in(tmp_path, "gcloud", GCLOUD)
    for name, lines in (("states", states), ("runs", runs)):
        (tmp_path / name).write_text("".join(f"{line}\n" for line in lines))
    variables = {"TPU": "pod", "ZONE": "here", "TYPE": "v4-32", "RUNTIME": "image", "EVERY": "0"}
    words = ("--experiment=alexnet_imagenet", "--workdir=gs://bucket/run")
    done = run_script("tpu_queued.sh", tmp_path, *words, **variables)
    assert done.returncode == status and said in done.stderr, done.stderr
    asked = (tmp_path / "asked").read_text().splitlines()
    created = [line for line in asked if "queued-resources create" in line]
    assert len(created) == creations
    for line in created:
        assert "create pod --node-id=pod --accelerator-type=v4-32 --runtime-version=image --spot --zone=here" in line
    started = [line for line in asked if "launch.py" in line]
    assert len(started) == len(runs) and all("--workdir=gs://bucket/run" in line for line in started)
    assert "queued-resources delete pod --force --quiet --zone=here" in asked[-1]


@pytest.mark.parametrize(
    "status, restarts, requeued",
    [(0, 0, False), (1, 0, False), (75, 50, True), (76, 0, True), (134, 9, True), (76, 10, False)],
)
def test_a_job_of_slurm_is_queued_again_where_the_run_goes_on(tmp_path, status, restarts, requeued):
    stand_in(tmp_path, "srun", f"exit {status}\n")
    stand_in(tmp_path, "scontrol", 'echo "$*" > "$FOLDER/asked"\n')
    variables = {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(REPOSITORY), "SLURM_RESTART_COUNT": str(restarts)}
    assert run_script("slurm.sbatch", tmp_path, "--experiment=x", **variables).returncode == status
    asked = tmp_path / "asked"
    assert (asked.read_text() if asked.exists() else "") == "requeue 7\n" * requeued


@pytest.mark.parametrize("tasks, together", [("8", True), ("1", False)])
def test_a_job_of_one_process_meets_no_others(tmp_path, tasks, together):
    """One GPU, or one of the jobs of a study."""
    stand_in(tmp_path, "srun", 'echo "$*" > "$FOLDER/asked"\n')
    variables = {"SLURM_JOB_ID": "7", "SLURM_SUBMIT_DIR": str(REPOSITORY), "SLURM_NTASKS": tasks}
    assert run_script("slurm.sbatch", tmp_path, "--experiment=x", **variables).returncode == 0
    asked = (tmp_path / "asked").read_text()
    assert ("--distributed=on" in asked) == together and asked.endswith("launch.py --experiment=x\n") != together
