"""LeNet-5 and AlexNet in JAX and Flax: train, study and trust them. What a notebook calls, docs/python.md describes."""

import importlib
import typing

__version__ = "0.1.0"
__all__ = [
    "Network", "Predictions", "Run", "StudyRun", "UserError", "augment", "build", "compare", "convolve", "dataset",
    "experiments", "load", "pad", "pool", "pretrained", "settings", "show",
]  # fmt: skip
# Where they are, if not in api.py.
_PLACES = {
    "augment": "operations", "compare": "comparison", "convolve": "operations", "pad": "operations",
    "pool": "operations", "show": "reports.gallery",
}  # fmt: skip

if typing.TYPE_CHECKING:
    from cnn_jax.api import (
        Network,
        Predictions,
        Run,
        StudyRun,
        UserError,
        build,
        dataset,
        experiments,
        load,
        pretrained,
        settings,
    )  # fmt: skip
    from cnn_jax.comparison import compare
    from cnn_jax.operations import augment, convolve, pad, pool
    from cnn_jax.reports.gallery import show


def __getattr__(name: str):
    if name in __all__:
        # When first asked for: it imports jax, which takes a second that the command line often does without.
        return getattr(importlib.import_module(f"cnn_jax.{_PLACES.get(name, 'api')}"), name)
    raise AttributeError(f"module 'cnn_jax' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
