"""What the command line says of --mode=explore."""

import dataclasses
import importlib.util

import pytest
from in_process import done, flags


def asked(experiment=None, mode="explore", **given):
    return done(dataclasses.replace(flags(experiment, [], "", mode=mode, **given), workdir=None))


@pytest.fixture
def installed(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True)


def test_where_the_extra_is_missing_one_line_says_so(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    status, said = asked(init_from="lenet_digits")
    assert (status, said) == (1, "error: --mode=explore needs starlette and uvicorn: pip install '.[explore]'\n")


@pytest.mark.parametrize(
    "given, said",
    [
        ({}, "which experiment?"),
        ({"init_from": "nothing"}, "--init_from=nothing: there is no such file or folder"),
        ({"runs": ["lenet_digits", "nothing"]}, "--runs=nothing: there is no such file or folder"),
        ({"runs": ["lenet_digits", "lenet_mnist", "lenet5_mnist"]}, "one network or two different ones"),
        ({"runs": ["lenet_digits", "lenet_digits"]}, "one network or two different ones"),
        ({"runs": ["lenet_digits"], "experiment": "lenet_mnist"}, "--experiment does not go with --runs"),
        ({"init_from": "lenet_digits", "images": ["a.png"]}, "--images goes with --mode=predict and --mode=report"),
        ({"init_from": "lenet_digits", "out": "a.html"}, "--out goes with --mode=export"),
    ],
)
def test_what_does_not_add_up_is_refused(installed, given, said):
    status, found = asked(**given)
    assert status == 2 and said in found, found


def test_a_port_goes_with_it_alone():
    status, said = asked("lenet_digits", mode="summary", port=8765)
    assert status == 2 and "--port=8765 goes with --mode=explore, not --mode=summary" in said
