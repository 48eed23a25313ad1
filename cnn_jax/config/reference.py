"""The reference of all settings: default, rule, meaning, and which kinds read them, from their declarations."""

import ast
import dataclasses
import functools
import inspect
import io
import textwrap
import tokenize
import typing
from collections.abc import Iterator, Sequence
from typing import Any

from cnn_jax.config import fields
from cnn_jax.config.fields import Choice
from cnn_jax.config.networks import MODELS
from cnn_jax.config.run import Config
from cnn_jax.config.study import PREFIX, Protocol

FEW = 2  # networks, up to which those that do not read a setting are named in place of those that do
TYPES = {int: "whole number", float: "number", bool: "true or false", str: "text"}


@dataclasses.dataclass(kw_only=True)
class Entry:
    """One setting, of all the kinds that read it.

    Attributes:
      path: dotted, such as "model.pool.beta".
      type: of the value.
      rule: see `fields.setting`.
      comment: what it means.
      defaults: the default by the kinds that were chosen on the way to it, such as ("lenet", "soft").
      readers: by the setting that chooses a kind, the kinds that read this one, where not all of them do.
    """

    path: str
    type: Any
    rule: typing.Mapping
    comment: str
    defaults: dict[tuple[str, ...], Any]
    readers: dict[str, list[str]] = dataclasses.field(default_factory=dict)

    @property
    def allowed(self) -> str:
        """The values that may be set, in words."""
        chosen: Choice | None = self.rule.get("choice")
        choices = chosen.names if chosen else self.rule.get("choices")
        if choices:
            return "one of " + ", ".join(map(shown, choices))
        name = TYPES.get(self.type, "list, separated by commas")
        low, high = self.rule.get("low"), self.rule.get("high")
        if low is not None and high is not None:
            return f"{name}, {low} to {high}"
        return name + (f", {low} or more" if low is not None else "")

    @property
    def default(self) -> str:
        """The default as --set would say it; of several, those of each network."""
        by_value: dict[str, list[str]] = {}
        for kinds, value in self.defaults.items():
            by_value.setdefault(shown(value), []).append(kinds[0] if kinds else "")
        if len(by_value) == 1:
            return next(iter(by_value))
        return "; ".join(f"{value} ({', '.join(dict.fromkeys(kinds))})" for value, kinds in by_value.items())

    @property
    def kinds(self) -> dict[str, str]:
        """The first line on each kind, by its name, of a setting that chooses one."""
        chosen: Choice | None = self.rule.get("choice")
        return {kind.name: (inspect.getdoc(kind) or "").partition("\n")[0] for kind in (chosen.kinds if chosen else ())}

    @property
    def read_by(self) -> str:
        """The kinds that read it, in words; "" where all do."""
        return " and ".join(f"{label} = {_named(label, kinds)}" for label, kinds in self.readers.items())


def _named(label, kinds):
    """The names of kinds; of networks those that are missing, where they are few."""
    others = [model.name for model in MODELS if model.name not in kinds] if label == "model.name" else []
    return f"any but {', '.join(others)}" if 0 < len(others) <= FEW else ", ".join(kinds)


def shown(value) -> str:
    """Returns a value as --set would say it."""
    if isinstance(value, tuple):
        return ",".join(map(str, value)) or '""'
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def entries(config: Config | None = None) -> list[Entry]:
    """Lists the settings of runs and studies.

    Args:
      config: list those of its network alone; None: those of all networks.
    """
    found: dict[str, Entry] = {}
    chosen: dict[str, dict[str, None]] = {}  # by path and choice, the kinds seen
    every: dict[str, list[str]] = {}  # by choice, all kinds
    network = type(config.model) if config else None
    for group, prefix in ((Config(), ""), (Protocol(), PREFIX)):
        for path, item, kind, value, way in _walk(group, prefix, (), network, every):
            comment = _comments(kind).get(item.name, "")
            entry = found.setdefault(
                path,
                Entry(path=path, type=_type(kind, item), rule=item.metadata, comment=comment, defaults={}),
            )
            entry.comment = entry.comment or comment
            default = value if not _is_kind(item) else value.name if value else ""
            entry.defaults[tuple(name for _, name in way)] = default
            for label, name in way:
                chosen.setdefault(f"{path} {label}", {})[name] = None
    for key, names in chosen.items():
        path, label = key.split(" ")
        if len(names) < len(every[label]):
            found[path].readers[label] = list(names)
    return [entry for path, entry in found.items() if path != "experiment"]


def _is_kind(item):
    return "choice" in item.metadata


def _type(kind, item):
    return str if _is_kind(item) else typing.get_type_hints(kind)[item.name]


def _walk(group, prefix, way, network, every) -> Iterator[tuple]:
    """Each setting of a group, of the groups in it and of all kinds: path, field, class, default, and the way there."""
    for item in dataclasses.fields(group):
        value = getattr(group, item.name)
        choice: Choice | None = item.metadata.get("choice")
        if choice:
            label = f"{prefix}{choice.label}"
            kinds = [kind for kind in choice.kinds if network is None or not choice.inside or kind is network]
            every[label] = [kind.name for kind in kinds]
            yield label, item, type(group), value, way
            for kind in kinds:
                yield from _walk(kind(), f"{prefix}{choice.inside}", (*way, (label, kind.name)), network, every)
        elif dataclasses.is_dataclass(value):
            yield from _walk(value, f"{prefix}{item.name}.", way, network, every)
        elif item.name != "name":
            yield f"{prefix}{item.name}", item, type(group), value, way


@functools.cache
def _comments(kind: type) -> dict[str, str]:
    """The comment beside each field of a dataclass, and of the classes it inherits from."""
    found = {}
    for each in reversed(kind.__mro__):
        if not dataclasses.is_dataclass(each):
            continue
        source = inspect.getsource(each)
        comments = {
            token.start[0]: token.string.lstrip("# ")
            for token in tokenize.generate_tokens(io.StringIO(source).readline)
            if token.type == tokenize.COMMENT
        }
        body = ast.parse(source).body[0]
        statements = [*body.body, None]  # type: ignore[attr-defined]
        for node, after in zip(statements, statements[1:]):
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                end = after.lineno if after else len(source.splitlines()) + 1
                said = [comments[line] for line in range(node.lineno, end) if line in comments]
                found[node.target.id] = " ".join(line for line in said if not line.startswith("type:"))
    return found


def changes(config: Config) -> dict[str, str]:
    """Returns the settings of a config that are not at the default of its network and other kinds, by path."""
    start, found = Config(model=type(config.model)()), {}
    for leaf in fields.leaves(config):
        if "choice" in leaf.rule:
            before = {each.path: each.value for each in fields.leaves(start)}[leaf.path]
            if before != leaf.value:
                found[leaf.path] = shown(leaf.value)
                start = fields.replaced(start, leaf.path, leaf.value)
    plain = {leaf.path: leaf.value for leaf in fields.leaves(start)}
    for leaf in fields.leaves(config):
        if leaf.path != "experiment" and leaf.value != plain[leaf.path]:
            found[leaf.path] = shown(leaf.value)
    return found


def changes_of_study(protocol: Protocol) -> dict[str, str]:
    """Returns the settings of a study that are not at their defaults, by path; those of its base are in `changes`."""
    plain = {leaf.path: leaf.value for leaf in fields.leaves(Protocol(), PREFIX)}
    asked = fields.leaves(protocol, PREFIX)
    return {leaf.path: shown(leaf.value) for leaf in asked if leaf.value != plain[leaf.path]}


def matching(found: Sequence[Entry], prefixes: Sequence[str]) -> list[Entry]:
    """Returns the entries whose path begins with one of some prefixes; without prefixes, all."""
    return [entry for entry in found if not prefixes or any(entry.path.startswith(each) for each in prefixes)]


def text(found: Sequence[Entry], changed: dict[str, str], width: int = 100) -> str:
    """Returns entries for a terminal.

    Args:
      found: from `entries`.
      changed: by path, what an experiment has in place of the default.
      width: columns.
    """
    lines = []
    for entry in found:
        allowed = "" if entry.kinds else f"    {entry.allowed}"
        lines.append(f"{entry.path} = {changed.get(entry.path, entry.default)}{allowed}")
        about = [entry.comment, f"read by {entry.read_by}" * bool(entry.readers)]
        if entry.path in changed:
            about.append(f"changed by the experiment; the default is {entry.default}")
        wrapped = lambda words, indent: textwrap.wrap(words, width, initial_indent=indent, subsequent_indent=" " * 4)
        lines += [line for each in filter(None, about) for line in wrapped(each, "    ")]
        lines += [line for name, words in entry.kinds.items() for line in wrapped(f"{name}: {words}", "  - ")]
    return "\n".join(lines)


def markdown(found: Sequence[Entry]) -> str:
    """Returns entries as tables, one for each group of settings."""
    lines, group = [], None
    cell = lambda words: words.replace("|", "\\|")
    for entry in found:
        top = entry.path.rpartition(".")[0] or "a run"
        if top != group:
            group = top
            lines += ["", f"## {group}", "", "| setting | default | values | meaning |", "|---|---|---|---|"]
        said = [entry.comment, f"Read by {entry.read_by}" * bool(entry.readers)]
        said += [f"<br>`{name}`: {words}" for name, words in entry.kinds.items()]
        allowed = "" if entry.kinds else entry.allowed
        row = [f"`{entry.path}`", entry.default, allowed, ". ".join(filter(None, said[:2])) + "".join(said[2:])]
        lines.append(f"| {' | '.join(map(cell, row))} |")
    return "\n".join(lines).strip() + "\n"


PAGE = """\
# Settings

Every setting of a run, as `--set section.field=value` replaces it; those that begin with `study.` belong to a study. In
a terminal, `--mode=settings model.pool` lists the ones whose names begin so and, with `--experiment=NAME`, what that
experiment has changed. `make docs` makes this page from the declarations in [cnn_jax/config/](../cnn_jax/config).

"""

if __name__ == "__main__":
    print(PAGE + markdown(entries()), end="")
