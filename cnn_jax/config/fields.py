"""The building blocks of settings: groups, the rule of each setting, and kinds with settings of their own.

A group is a frozen dataclass. Where one of several kinds is chosen, such as a pooling or an optimiser, the group has a
field made by `choice`, whose value is the declaration of that kind: a `Kind` with the settings that it alone reads.
Written down, in --set and in config.json, these stand beside the group's own: model.pool.kind=soft, model.pool.beta=2.

Nothing in this package imports jax or opens a file.
"""

import dataclasses
import typing
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, NamedTuple, Self

# Of `to_dict`: 1 had, in every group, the settings of all its kinds; before 3, adaptive polyphase pooling chose after
# its blur; before 4, data.subsets was "first", and images of a folder were read as
# ImageNet's are.
FORMAT = 4


def setting(default, *, identity: bool = True, choices: tuple | None = None, low=None, high=None) -> Any:
    """Returns a field with its rule.

    Args:
      default: the field's default value.
      identity: whether two runs that differ in it are different runs. Where data lies and how many devices
        share the work change no result, so a run may be resumed with other values of those.
      choices: the allowed values.
      low: the smallest allowed value.
      high: the largest allowed value.
    """
    rule = {"identity": identity, "choices": choices, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=rule)


class Kind:
    """The declaration of a kind: its name, and as dataclass fields the settings that it alone reads."""

    name: ClassVar[str]

    @classmethod
    def named(cls, text: str) -> Self | None:
        """Returns the declaration that a name stands for, with its defaults; None if it is not this kind's."""
        return cls() if text == cls.name else None

    def passed_on(self, kind: "Kind") -> dict[str, Any]:
        """Settings of another kind that takes this one's place, where they are not those of the same name here."""
        return {}


class Choice(NamedTuple):
    """One of several kinds, or none of them.

    Attributes:
      kinds: their declarations, in the order of messages.
      label: the name by which one is chosen, relative to the group.
      inside: what the names of the kind's own settings begin with, relative to the group.
      optional: whether "" stands for none of them.
    """

    kinds: tuple[type[Kind], ...]
    label: str
    inside: str = ""
    optional: bool = False

    @property
    def names(self) -> list[str]:
        """The names that may be written, including "" where nothing need be chosen."""
        return [""] * self.optional + [kind.name for kind in self.kinds]

    def named(self, text: str) -> Kind | None:
        """Returns the declaration that a name stands for; None for "" where that is allowed.

        Raises:
          ValueError: it is none of the names.
        """
        for kind in self.kinds:
            found = kind.named(text)
            if found is not None:
                return found
        if text == "" and self.optional:
            return None
        raise ValueError(f"must be one of {', '.join(filter(None, self.names))}")

    def readers(self, setting: str) -> list[str]:
        """Returns names of the kinds that have a setting."""
        return [kind.name for kind in self.kinds if setting in names(kind)]


def choice(kinds, default, label: str, inside: str = "", optional: bool = False) -> Any:
    """Returns a field that holds the declaration of one of several kinds. Arguments as `Choice`."""
    metadata = {"choice": Choice(tuple(kinds), label, inside, optional), "identity": True}
    return dataclasses.field(default=default, metadata=metadata)


class Leaf(NamedTuple):
    """One setting.

    Attributes:
      path: dotted, such as "model.pool.window".
      value: its value; the name of what is chosen where a kind is.
      rule: see `setting`; for a kind, its `Choice` under "choice".
      type: of the value.
    """

    path: str
    value: Any
    rule: Mapping
    type: Any


def names(kind: type) -> list[str]:
    """Returns names of the settings of a kind."""
    return [item.name for item in dataclasses.fields(kind) if item.name != "name"]


def leaves(group, prefix: str = "") -> Iterator[Leaf]:
    """Yields each setting of a group, of the groups in it, and of the kinds that are chosen."""
    kinds = typing.get_type_hints(type(group))
    seen = set()
    for item in dataclasses.fields(group):
        value = getattr(group, item.name)
        chosen = item.metadata.get("choice")
        if chosen:
            path = f"{prefix}{chosen.label}"
            yield Leaf(path, value.name if value else "", item.metadata, str)
            seen.add(path)
            for leaf in leaves(value, f"{prefix}{chosen.inside}") if value else ():
                if leaf.path not in seen:  # two kinds of one group may share a setting
                    seen.add(leaf.path)
                    yield leaf
        elif dataclasses.is_dataclass(value):
            yield from leaves(value, f"{prefix}{item.name}.")
        else:
            yield Leaf(f"{prefix}{item.name}", value, item.metadata, kinds[item.name])


def mistyped(group, prefix: str = "") -> list[str]:
    """Returns the settings of a group whose value is not of the setting's type, one line each."""
    wrong = [leaf for leaf in leaves(group, prefix) if not _is(leaf.value, leaf.type)]
    return [f"{leaf.path} = {leaf.value!r:.80} must be {_words(leaf.type)}" for leaf in wrong]


def _is(value, kind) -> bool:
    if typing.get_origin(kind) is tuple:
        return isinstance(value, tuple) and all(_is(each, typing.get_args(kind)[0]) for each in value)
    return type(value) in {int: (int,), float: (int, float)}.get(kind, (kind,))  # True and False are no numbers


def _words(kind):
    named = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    if typing.get_origin(kind) is tuple:
        return f"a list, each {named[typing.get_args(kind)[0]]}"
    return named.get(kind, "a group of settings")


def choices(group, prefix: str = "") -> Iterator[tuple[str, Choice, Kind | None]]:
    """Yields everywhere in a group where a kind is chosen: the path of the group, the choice, and what is chosen."""
    for item in dataclasses.fields(group):
        value = getattr(group, item.name)
        chosen = item.metadata.get("choice")
        if chosen:
            yield prefix, chosen, value
            yield from choices(value, f"{prefix}{chosen.inside}") if value else ()
        elif dataclasses.is_dataclass(value):
            yield from choices(value, f"{prefix}{item.name}.")


def replaced(group, path: str, value):
    """Returns the group with one setting changed, by its path relative to the group.

    A kind is chosen by its name; what the kind before had set and the new one has as well is kept.

    Raises:
      ValueError: no kind has that name.
      KeyError: there is no such setting.
    """
    changes = {}
    for item in dataclasses.fields(group):
        held = getattr(group, item.name)
        chosen = item.metadata.get("choice")
        if chosen and path == chosen.label:
            return dataclasses.replace(group, **{item.name: _switched(chosen.named(value), held)})
        if chosen:
            inner = path.removeprefix(chosen.inside)
            if held and path.startswith(chosen.inside) and inner in {leaf.path for leaf in leaves(held)}:
                changes[item.name] = replaced(held, inner, value)
        elif dataclasses.is_dataclass(held):
            if path.startswith(f"{item.name}."):
                return dataclasses.replace(group, **{item.name: replaced(held, path.partition(".")[2], value)})
        elif path == item.name:
            return dataclasses.replace(group, **{path: value})
    if not changes:
        raise KeyError(path)
    return dataclasses.replace(group, **changes)


def _switched(kind, before):
    if kind is None or before is None:
        return kind
    shared = [name for name in names(type(kind)) if name in names(type(before))]
    return dataclasses.replace(kind, **{name: getattr(before, name) for name in shared} | before.passed_on(kind))


class Group:
    """Base of all groups of settings."""

    @classmethod
    def of(cls, **values) -> Self:
        """Returns the group, written as in --set: kinds by their names, and their settings beside the group's own.

        Pool.of(kind="soft", beta=2.0, window=3) is Pool(kind=poolings.Soft(beta=2.0), window=3).

        Raises:
          ValueError: there is no such setting or kind, or the kind does not have that setting.
        """
        return build(cls, values)

    def changed(self, **values) -> Self:
        """Returns the group with settings changed, each by the name it has in --set, those of the chosen kind included.

        Raises:
          KeyError: there is no such setting.
        """
        group = self
        for name, value in values.items():
            group = replaced(group, name, value)
        return group


def build(kind: type, values: Mapping, prefix: str = "", lenient: bool = False):
    """Returns a group or a declaration from plain values, as `to_dict` writes them.

    Args:
      kind: its class.
      values: by name; dicts for groups inside.
      prefix: of paths, for messages.
      lenient: whether settings of kinds that are not chosen are passed over.

    Raises:
      ValueError: a name is unknown.
    """
    left, made, foreign = dict(values), {}, set()
    for item in dataclasses.fields(kind):
        chosen = item.metadata.get("choice")
        if chosen:
            made[item.name] = _build_chosen(item, chosen, left, values, prefix, lenient)
            foreign |= {name for one in chosen.kinds for name in names(one)} if not chosen.inside else set()
        elif item.name in values:
            value = left.pop(item.name)
            is_group = dataclasses.is_dataclass(item.default)
            if is_group != isinstance(value, Mapping):
                raise ValueError(
                    f"{prefix}{item.name} = {value!r:.80} must {'' if is_group else 'not '}be a group of settings"
                )
            made[item.name] = (
                build(type(item.default), value, f"{prefix}{item.name}.", lenient) if is_group else _frozen(value)
            )
    unknown = sorted(name for name in left if not (lenient and name in foreign))
    if unknown:
        raise ValueError(f"unknown settings {', '.join(prefix + name for name in unknown)}")
    return kind(**made)


def _build_chosen(item, chosen, left, values, prefix, lenient):
    """Builds the kind that is chosen, and removes its values from `left`."""
    if chosen.inside:  # a group of its own, such as model: {"name": "lenet", ...}
        own = left.pop(item.name, None)
        if own is None:
            return item.default
        if not isinstance(own, Mapping):
            raise ValueError(f"{prefix}{item.name} = {own!r:.80} must be a group of settings")
        label = chosen.label.rpartition(".")[2]
        rest = {name: value for name, value in own.items() if name != label}
        found = _named(chosen, own.get(label), f"{prefix}{chosen.label}")
        return build(type(found), rest, f"{prefix}{chosen.inside}", lenient)
    text = left.pop(chosen.label, None)
    if text is not None and not isinstance(text, str):
        raise ValueError(f"{prefix}{chosen.label} = {text!r:.80} must be a name")
    found = item.default if text is None else _named(chosen, text, f"{prefix}{chosen.label}")
    if found is None:
        return None
    own = {name: _frozen(values[name]) for name in names(type(found)) if name in values}
    for name in own:
        left.pop(name, None)
    return dataclasses.replace(found, **own) if own else found


def _named(chosen, text, path):
    try:
        return chosen.named(text)
    except ValueError as error:
        raise ValueError(f"{path} = {text!r} {error}") from None


def _frozen(value):
    return tuple(value) if isinstance(value, list) else value


def to_dict(group, places: bool = True) -> dict:
    """Returns the plain nested dict of a group, ready for JSON.

    Args:
      group: of settings.
      places: whether those are in it that change no result, such as where data lie.
    """
    return _plain(group, places) | {"format": FORMAT}


def _plain(group, places):
    found: dict = {}
    for leaf in leaves(group):
        if not places and not leaf.rule.get("identity", True):
            continue
        *groups, name = leaf.path.split(".")
        place = found
        for each in groups:
            place = place.setdefault(each, {})
        place[name] = leaf.value
    return found


def differences(ours, theirs) -> list[str]:
    """Lists where two runs differ, as "path: theirs -> ours" lines; fields that change no result do not count."""
    old, new = (
        {leaf.path: leaf.value for leaf in leaves(each) if leaf.rule.get("identity", True)} for each in (theirs, ours)
    )
    absent = "(absent)"
    return [
        f"{path}: {old.get(path, absent)!r} -> {new.get(path, absent)!r}"
        for path in sorted(old.keys() | new.keys())
        if old.get(path, absent) != new.get(path, absent)
    ]
