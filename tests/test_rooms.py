"""The order of the rooms: imports point downwards only, and in no circle."""

import ast
import pathlib

import cnn_jax

PACKAGE = pathlib.Path(cnn_jax.__file__).parent
# From top to bottom; what stands on one line may not import each other.
ROOMS = [
    ["__main__", "trained.__main__"],
    ["start"],
    ["launch"],
    ["cli"],
    ["modes", "exercises"],
    ["explore", "comparison"],
    ["api"],
    ["reports.study", "reports.run", "reports.predictions", "reports.compare"],
    ["reports.network"],
    ["reports.page"],
    ["predictions"],
    ["reports.gallery"],
    ["reports.figures"],
    ["reports.parts"],
    ["checks"],
    ["studies"],
    ["run", "programs", "attribution", "operations"],
    ["origins"],
    ["workdir", "run_data"],
    ["training"],
    ["devices"],
    ["models"],
    ["layers"],
    ["data.checks"],
    ["data.datasets"],
    ["data.batches", "data.augment"],
    ["data.images"],
    ["weights"],
    ["data.identity", "data.subsets"],
    ["data.facts"],
    ["config"],
    ["flags", "progress", "randomness"],
    ["files", "signals", "streams", "trained", "watchdog"],
    ["leases"],
    ["buckets"],
    ["errors"],
]
FLOORS = {room: floor for floor, rooms in enumerate(ROOMS) for room in rooms}


def room_of(module):
    """The room of a dotted module; None for the package itself and folders that only hold rooms."""
    parts = module.removeprefix("cnn_jax").strip(".").split(".")
    return next((name for n in (2, 1) if (name := ".".join(parts[:n])) in FLOORS), None)


def test_imports_point_downwards_only():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = ".".join(["cnn_jax", *path.relative_to(PACKAGE).with_suffix("").parts]).removesuffix(".__init__")
        own = room_of(module)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cnn_jax"):
                for name in node.names:
                    other = room_of(f"{node.module}.{name.name}")
                    if own and other and other != own and FLOORS[other] <= FLOORS[own]:
                        wrong.append(f"{module} -> {node.module}.{name.name}")
        assert own or module in ("cnn_jax", "cnn_jax.data", "cnn_jax.reports"), f"{module} is in no room"
    assert wrong == []
