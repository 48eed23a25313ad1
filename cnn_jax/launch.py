"""The flags of the command line, read by absl; no logic."""

import dataclasses
import sys
import time

from absl import flags

from cnn_jax import cli
from cnn_jax.errors import EXIT_USAGE
from cnn_jax.flags import MODES, Flags

STARTED = time.perf_counter()
FLAGS = flags.FLAGS

flags.DEFINE_string(
    "experiment",
    None,
    "name of the experiment, see --list, or a file of your own; may be left out where the workdir names it",
)
flags.DEFINE_bool("list", False, "print the experiments and leave")
flags.DEFINE_enum("mode", "train", [*MODES], "what to do, see above")
flags.DEFINE_multi_string("set", [], "replace a setting, such as optimizer.learning_rate=0.002; repeatable")
flags.DEFINE_string(
    "sweep",
    None,
    "SETTING=VALUE,VALUE,...: try values, such as optimizer.learning_rate=0.1,0.03,0.01, on training images held out "
    "for that, and train with the best; of a study, arm by arm",
)
flags.DEFINE_string("workdir", None, "folder of the run; default: runs/NAME")
flags.DEFINE_integer("seed", None, "seed of every random choice; default: the experiment's", lower_bound=0)
flags.DEFINE_enum(
    "parallel", None, ["auto", "jit", "mesh", "pmap"], "one device, a device mesh, or pmap; default: auto"
)
flags.DEFINE_enum(
    "distributed", "auto", ["auto", "on", "off"], "several processes; auto: on Cloud TPU, under SLURM and Open MPI"
)
flags.DEFINE_string("coordinator", None, "HOST:PORT of process 0, where a launcher does not say it")
flags.DEFINE_integer("process_count", None, "number of processes, where a launcher does not say it", lower_bound=1)
flags.DEFINE_integer(
    "process_index", None, "which of the processes this is, from 0, where a launcher does not say it", lower_bound=0
)
flags.DEFINE_integer("coordinator_timeout", 300, "seconds to wait for all processes", lower_bound=1)
flags.DEFINE_bool("resume", True, "continue the run in the workdir; --noresume demands a workdir without one")
flags.DEFINE_string(
    "init_from",
    None,
    "take the weights from a trained network, see --list, a weight file, a run's workdir or a PyTorch file: train "
    "starts from them, eval measures them, predict uses them",
)
flags.DEFINE_list("fresh", [], "with --init_from: layers that are not taken, such as output")
flags.DEFINE_string("like", None, "start the run or study of this workdir once more, in another --workdir")
flags.DEFINE_list(
    "measure",
    [],
    "eval: what to measure besides accuracy, such as corruptions,fgsm,consistency; docs/study.md has them all",
)
flags.DEFINE_bool("report", True, "write report.html after training")
flags.DEFINE_float(
    "watchdog",
    3600,
    "train, and eval by several processes: seconds without progress, after which it ends with status 76; 0: never",
    lower_bound=0,
)
flags.DEFINE_bool("profile", False, "train: write a trace of some steps to the workdir")
flags.DEFINE_integer("profile_process", 0, "with --profile: which of several processes is traced", lower_bound=0)
flags.DEFINE_string(
    "out",
    None,
    "export: the file to write, .safetensors, .stablehlo or .onnx, beside which a model card is put; predict: write "
    "the answers to a .csv or .json file as well, or to an .html page that shows each picture as the network saw it; "
    "compare, and report with --init_from: the .html page",
)
flags.DEFINE_enum(
    "format",
    None,
    ["cnn_jax", "torchvision", "stablehlo", "onnx"],
    "export: what --out is; default: by its name, of .safetensors cnn_jax, which --init_from takes; torchvision is for "
    "PyTorch, of an alexnet_owt",
)
flags.DEFINE_multi_string(
    "images",
    [],
    "predict: image files, folders of them, or patterns such as '*.png'; separated by commas or repeated. report: "
    "likewise, or numbers of test images, to be followed through the network",
)
flags.DEFINE_list(
    "runs",
    [],
    "compare: workdirs of runs that have the same test images; explore: one or two networks, each the workdir of a run "
    "or what --init_from takes",
)
flags.DEFINE_integer(
    "port", 0, "explore: of the page, on this machine; 0: any that is free", lower_bound=0, upper_bound=65535
)
flags.DEFINE_bool("browser", True, "explore: open the page in a browser")
flags.DEFINE_bool("help", False, "print this help and leave", short_name="h")


def main() -> int:
    """Parses the flags and does what they ask for; the exit status."""
    try:
        rest = FLAGS(sys.argv)[1:]
    except flags.Error as error:
        print(f"error: {error}. See --help", file=sys.stderr)
        return EXIT_USAGE
    if FLAGS.help:
        print(cli.help_text(FLAGS.module_help(sys.modules[__name__])))
        return 0
    names = {field.name for field in dataclasses.fields(Flags)} - {"rest", "started"}
    return cli.main(Flags(rest=rest, started=STARTED, **{name: FLAGS[name].value for name in names}))
