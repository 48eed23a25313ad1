"""Accelerators whose plugin is missing, in file systems made for the test."""

import logging

import pytest

from cnn_jax.devices import accelerators

none = lambda name: None
all_of_them = lambda name: object()


@pytest.fixture
def machine(tmp_path):
    """Makes a machine with a GPU (its driver's version, "" for one that does not say), or with a TPU's PCI device."""

    def make(driver=None, tpu=None):
        if driver is not None:
            (tmp_path / "dev").mkdir()
            (tmp_path / "dev" / "nvidia0").touch()
        if driver:
            place = tmp_path / "proc/driver/nvidia"
            place.mkdir(parents=True)
            (place / "version").write_text(f"NVRM version: NVIDIA UNIX x86_64 Kernel Module  {driver}  Tue\nGCC\n")
        if tpu:
            place = tmp_path / "sys/bus/pci/devices/0000:00:04.0"
            place.mkdir(parents=True)
            (place / "vendor").write_text("0x1ae0\n")
            (place / "device").write_text(f"{tpu}\n")
        return tmp_path

    return make


@pytest.mark.parametrize(
    "machinery, extra",
    [
        ({"driver": "580.65.06"}, "cuda13"),
        ({"driver": "550.54.14"}, "cuda12"),
        ({"driver": ""}, "cuda13"),
        ({"tpu": "0x006f"}, "tpu"),
    ],
)
def test_a_missing_plugin_is_told_with_the_command_that_mends_it(machine, machinery, extra):
    root = machine(**machinery)
    line = accelerators.missing({}, root, none)
    assert f"requirements-{extra}.txt" in line and " -m pip install " in line and "\n" not in line
    assert ("an NVIDIA GPU" if "cuda" in extra else "a TPU") in line
    assert accelerators.missing({}, root, all_of_them) == ""
    assert accelerators.missing({"JAX_PLATFORMS": "cpu"}, root, none) == ""


def test_nothing_is_said_where_nothing_is_missing(machine, tmp_path):
    assert accelerators.missing({}, tmp_path, none) == ""
    assert accelerators.missing({}, machine(tpu="0x0042"), none) == ""  # Google's network card


def test_without_the_lock_the_extra_is_named(machine, monkeypatch, tmp_path):
    monkeypatch.setattr(accelerators, "__file__", str(tmp_path / "site-packages/cnn_jax/devices/accelerators.py"))
    assert "pip install 'jax[cuda13]==" in accelerators.missing({}, machine(driver="580.1"), none)


def test_jax_does_not_say_it_again(caplog):
    log = logging.getLogger("jax._src.xla_bridge")
    before = list(log.filters)
    try:
        accelerators.silence_jax()
        log.warning("An NVIDIA GPU may be present on this machine, but a CUDA-enabled jaxlib is not installed.")
        log.warning("something else")
    finally:
        log.filters[:] = before
    assert [record.message for record in caplog.records] == ["something else"]


def test_it_is_told_once_on_standard_error(monkeypatch, capsys):
    monkeypatch.setattr(accelerators, "missing", lambda: "there is an NVIDIA GPU here")
    log = logging.getLogger("jax._src.xla_bridge")
    before = list(log.filters)
    accelerators.tell_once.cache_clear()
    try:
        accelerators.tell_once(), accelerators.tell_once()
    finally:
        log.filters[:] = before
        accelerators.tell_once.cache_clear()
    assert capsys.readouterr().err == "there is an NVIDIA GPU here\n"
