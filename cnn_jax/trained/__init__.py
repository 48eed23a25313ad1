"""Networks that are already trained, a weight file and a model card each. `python -m cnn_jax.trained` makes them."""

from pathlib import Path

FOLDER = Path(__file__).resolve().parent


def names() -> list[str]:
    """Returns the names of all of them, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def path(name: str) -> Path:
    """Returns the weight file of one."""
    return FOLDER / f"{name}.safetensors"
