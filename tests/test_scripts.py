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
        ("slurm.sbatch", {}, "this is a job for SLURM"),
        ("two_processes.sh", {"PYTHON": "/nowhere/python"}, "/nowhere/python is not there"),
    ],
)
def test_usage_is_given_where_something_is_missing(script, variables, message, tmp_path):
    for tool in ("bash", "sed", "dirname"):  # and no gcloud
        (tmp_path / tool).symlink_to(shutil.which(tool))
    unset = ("TPU", "ZONE", "SLURM_JOB_ID")
    env = {name: value for name, value in os.environ.items() if name not in unset} | {"PATH": str(tmp_path)}
    words = ["bash", REPOSITORY / "scripts" / script]
    done = subprocess.run(words, env=env | variables, capture_output=True, text=True)
    assert done.returncode == 2 and done.stderr.startswith(f"error: {message}")
    first = (REPOSITORY / "scripts" / script).read_text(encoding="utf-8").splitlines()[1].removeprefix("# ")
    assert first in done.stderr and "Traceback" not in done.stderr
