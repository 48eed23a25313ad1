"""The command line in this process: quicker than launch.py in one of its own."""

import contextlib
import io

from cnn_jax import cli
from cnn_jax.flags import Flags


def flags(experiment, pairs, folder, **others):
    given = dict.fromkeys(Flags.__dataclass_fields__) | {
        "experiment": experiment, "set": pairs, "workdir": str(folder), "mode": "train", "list": False, "resume": True,
        "distributed": "off", "coordinator_timeout": 300, "report": False, "profile": False,
        "profile_process": 0, "images": (), "runs": (), "port": 0, "browser": False, "fresh": (), "measure": (),
        "rest": (),
        "started": 0.0,
    }  # fmt: skip
    return Flags(**given | others)


def done(asked):
    """The status and what was said, of the command line in this process."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
        status = cli.main(asked)
    return status, said.getvalue()
