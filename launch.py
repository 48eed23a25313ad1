"""Trains and studies LeNet-5 and AlexNet: python launch.py --experiment=NAME (see --list, --help)."""

import dataclasses
import sys
import time

from absl import flags

from cnn_jax import cli
from cnn_jax.errors import EXIT_USAGE

STARTED = time.perf_counter()
FLAGS = flags.FLAGS

flags.DEFINE_string("experiment", None, "name of the experiment, see --list")
flags.DEFINE_bool("list", False, "print the experiments and leave")
flags.DEFINE_enum("mode", "train", cli.MODES, "what to do with the experiment")
flags.DEFINE_multi_string("set", [], "replace a setting, such as optimizer.learning_rate=0.002; repeatable")
flags.DEFINE_string("workdir", None, "folder of the run; default: runs/NAME")
flags.DEFINE_integer("seed", None, "seed of every random choice; default: the experiment's", lower_bound=0)
flags.DEFINE_enum(
    "parallel", None, ["auto", "jit", "mesh", "pmap"], "one device, a device mesh, or pmap; default: auto"
)
flags.DEFINE_bool("resume", True, "continue the run in the workdir; --noresume demands a workdir without one")
flags.DEFINE_string("init_from", None, "workdir of a run whose parameters training starts from")
flags.DEFINE_bool("report", True, "write report.html after training")
flags.DEFINE_list("images", [], "predict: image files, separated by commas")
flags.DEFINE_bool("help", False, "print this help and leave", short_name="h")


def main() -> int:
    try:
        rest = FLAGS(sys.argv)[1:]
    except flags.Error as error:
        print(f"error: {error}. See --help", file=sys.stderr)
        return EXIT_USAGE
    if FLAGS.help:
        print(f"{__doc__}\n\n{FLAGS.main_module_help()}")
        return 0
    names = {field.name for field in dataclasses.fields(cli.Wish)} - {"rest", "started"}
    return cli.main(cli.Wish(rest=rest, started=STARTED, **{name: FLAGS[name].value for name in names}))


if __name__ == "__main__":
    sys.exit(main())
