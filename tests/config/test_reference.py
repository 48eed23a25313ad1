"""The list of all settings: whole, true to the declarations, and the page made of it."""

import dataclasses

import pytest
from launching import REPOSITORY

from cnn_jax import config
from cnn_jax.config import experiments, fields, overrides, reference
from cnn_jax.config.study import Study

ENTRIES = {entry.path: entry for entry in reference.entries()}


def test_every_setting_of_every_network_is_there_with_its_default_and_meaning():
    for model in config.MODELS:
        for leaf in fields.leaves(config.Config(model=model())):
            if leaf.path != "experiment":
                own = [value for kinds, value in ENTRIES[leaf.path].defaults.items() if model.name in kinds]
                assert leaf.value in (own or ENTRIES[leaf.path].defaults.values()) or leaf.path == "model.name"
    assert {f"study.{name}" for name in fields.names(config.Protocol)} <= set(ENTRIES)
    assert [entry.path for entry in ENTRIES.values() if not entry.comment and not entry.kinds] == []


def test_who_reads_a_setting_is_what_a_refusal_says():
    assert ENTRIES["optimizer.trust"].read_by == "optimizer.name = lars"
    assert ENTRIES["model.pool.beta"].read_by == "model.name = any but mlp and model.pool.kind = log_sum_exp, soft"
    assert ENTRIES["model.groups"].read_by == "model.name = alexnet, alexnet_bn"
    assert ENTRIES["optimizer.learning_rate"].read_by == ""
    with pytest.raises(Exception, match="it is read by lars"):
        overrides.apply(config.Config(), ["optimizer.trust=1"])


def test_rules_and_comments_are_those_of_the_declaration():
    entry = ENTRIES["optimizer.accumulate"]
    assert (entry.default, entry.allowed) == ("1", "whole number, 1 to 65536")
    assert entry.comment.startswith("split each batch into this many parts, one after the other, in less memory;")
    assert ENTRIES["model.padding.fill"].allowed == f"one of {', '.join(config.networks.FILLS)}"
    assert ENTRIES["model.pool.window"].default.startswith("2 (lenet, lenet1, lenet5, ")
    assert ENTRIES["data.mean"].default == '""' and ENTRIES["train.precision"].default == "float32"
    assert ENTRIES["model.pool.kind"].kinds["max"] == "The largest value of each window."


@pytest.mark.parametrize("name", experiments.names())
def test_what_an_experiment_changes_makes_it_from_the_defaults(name):
    found = experiments.load(name)
    settings = found.base if isinstance(found, Study) else found
    changes = reference.changes(settings)
    start = config.Config(model=type(settings.model)(), experiment=settings.experiment)
    specs = [f"{path}={value if value != chr(34) * 2 else ''}" for path, value in changes.items()]
    made = overrides.apply(start, specs, check=lambda config: [])
    assert dataclasses.asdict(made) == dataclasses.asdict(settings)


def test_the_page_is_up_to_date():
    page = (REPOSITORY / "docs" / "settings.md").read_text(encoding="utf-8")
    assert page == reference.PAGE + reference.markdown(reference.entries()), "run `make docs`"


def test_the_list_for_a_terminal_fits_and_marks_what_an_experiment_changes():
    settings = experiments.load("alexnet_bn_imagenet")
    found = reference.matching(reference.entries(settings), ["optimizer", "model."])
    assert {entry.path.partition(".")[0] for entry in found} == {"optimizer", "model"}
    text = reference.text(found, reference.changes(settings), width=80)
    assert "optimizer.learning_rate = 0.8" in text and "changed by the experiment; the default is 0.001" in text
    assert "model.connections" not in text  # of another network
    assert max(len(line) for line in text.splitlines() if line.startswith("  ")) <= 80
