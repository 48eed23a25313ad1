"""The packages; everything else about the project is in pyproject.toml.

The experiments lie beside the package in a checkout, and in it, as cnn_jax/experiments, where it is installed.
"""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["cnn_jax", "cnn_jax.*"]), "cnn_jax.experiments"],
    package_dir={"cnn_jax.experiments": "experiments"},
)
