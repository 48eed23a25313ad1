"""Small sets that are published as a few files, and scikit-learn's digits: read whole, each image of one size."""

import http.client
from pathlib import Path

import numpy as np

from cnn_jax.data.datasets import catalog, cifar, mnist
from cnn_jax.data.datasets.base import Stored
from cnn_jax.data.facts import Facts
from cnn_jax.errors import UserError


class Published(Stored):
    """A set of which the facts are in `catalog.DATASETS`; its files are in the format of MNIST."""

    read_folder = staticmethod(mnist.read_folder)

    def facts(self) -> Facts:
        return catalog.DATASETS[self.data.name]

    def write(self, root: Path, download: bool, experiment: str) -> None:
        from cnn_jax.data.datasets import builders  # half a second, and only needed here

        builders.build(self.data.name, root, self.contents(download, experiment))

    def contents(self, download: bool, experiment: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns the images and labels of each split, from data.manual_dir or the network."""
        name = self.data.name
        if self.data.manual_dir:
            return self.read_folder(name, catalog.manual_folder(self.data))
        if not download:
            raise UserError(self.missing(experiment))
        fetched = catalog.data_root(self.data) / "downloads" / name
        try:
            mnist.download(name, fetched)
        except (OSError, http.client.HTTPException) as error:
            raise UserError(self.missing(experiment, failure=error)) from error
        return self.read_folder(name, fetched)

    def missing(self, experiment: str, failure: Exception | None = None) -> str:
        command, files = self.command(experiment), self.facts().files
        if failure:
            first = f"the download from {files.url} failed ({failure})."
        else:
            first = f"Prepare it once, with a network ({files.megabytes} MB):\n  {command}"
        names = "".join(f"\n  {name}" for name in files.sha256)
        these = f"these {len(files.sha256)} files" if len(files.sha256) > 1 else "this file"
        root = catalog.data_root(self.data)
        return (
            f"{self.data.name} is not prepared in {root}{', and ' if failure else '. '}{first}\n"
            f"Without a network, put {these}, published at {files.url}, into a folder:{names}\n"
            f"and name that folder:\n  {command} --set data.manual_dir=FOLDER"
        )


class Cifar10(Published):
    """CIFAR-10, one archive."""

    read_folder = staticmethod(cifar.read_folder)


class Digits(Published):
    """scikit-learn's digits, which need no file."""

    def make_ready(self, experiment: str) -> None:
        if not self.is_prepared():
            self.build(download=False, experiment=experiment)

    def contents(self, download: bool, experiment: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        from cnn_jax.data.datasets import builders

        return builders.digits_arrays()
