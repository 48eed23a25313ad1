"""`--set section.field=value`: replace single fields of a config by text from the command line."""

import dataclasses
import difflib
import typing

from cnn_jax.errors import UsageError
from cnn_jax.rules import problems

TRUE = ("true", "yes", "1")
FALSE = ("false", "no", "0")

# What an experiment is, and so what no override may change.
CHOSEN = {
    "experiment": "the experiment is chosen by --experiment=NAME",
    "model.name": "the kind of network, with settings of its own, is chosen by --experiment=NAME",
}


def apply(config, specs: list[str], check=problems):
    """Replaces the fields that the specs name, the later spec winning, and checks the result as a whole.

    Args:
      config: a Config; it is not changed.
      specs: texts such as "optimizer.learning_rate=0.002". A value is read as the field's type: a bool is one of
        true, false, yes, no, 1, 0; a whole number may be written 60000, 60_000 or 6e4; the items of a tuple are
        separated by commas, and "" or "()" is the empty one.
      check: what is wrong with a config as a whole, one line each.

    Returns:
      The new config.

    Raises:
      UsageError: a spec could not be read, or the result is unsound. One line for each thing wrong.
    """
    found = []
    for spec in specs:
        try:
            config = _apply_one(config, spec)
        except ValueError as error:
            found.append(str(error))
    found += check(config)
    if found:
        raise UsageError("\n".join(found))
    return config


def _apply_one(config, spec):
    path, equals, text = (part.strip() for part in spec.partition("="))
    if not equals or not path:
        raise ValueError(f"{spec!r} is not section.field=value, such as optimizer.learning_rate=0.002")
    kinds = dict(_leaves(config))
    if path not in kinds:
        raise ValueError(_unknown(path, [known for known in kinds if known not in CHOSEN]))
    value = _parse(kinds[path], text, path)
    if path in CHOSEN and value != _get(config, path):
        raise ValueError(f"{path} = {value!r} cannot be set: {CHOSEN[path]}")
    return _replace(config, path.split("."), value)


def _leaves(group, prefix=""):
    """Path and type of every field that is not a group of fields itself."""
    # The types are those of the instance at hand: which settings a model has depends on which model it is.
    kinds = typing.get_type_hints(type(group))
    for item in dataclasses.fields(group):
        value = getattr(group, item.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{item.name}.")
        else:
            yield f"{prefix}{item.name}", kinds[item.name]


def _get(group, path):
    for name in path.split("."):
        group = getattr(group, name)
    return group


def _replace(group, names, value):
    head, *rest = names
    return dataclasses.replace(group, **{head: _replace(getattr(group, head), rest, value) if rest else value})


def _parse(kind, text, path):
    if kind is bool:
        if text.lower() not in TRUE + FALSE:
            raise ValueError(f"{path} = {text!r} must be true or false")
        return text.lower() in TRUE
    if kind is int:
        return _whole_number(text, path)
    if kind is float:
        try:
            return float(text)
        except ValueError:
            raise ValueError(f"{path} = {text!r} must be a number, such as 0.002 or 2e-3") from None
    if kind is str:
        return text
    if kind == tuple[str, ...]:
        items = text.removeprefix("(").removesuffix(")").strip()
        return tuple(item.strip() for item in items.split(",")) if items else ()
    raise TypeError(f"{path}: overrides cannot read a {kind}")


def _whole_number(text, path):
    try:
        return int(text)
    except ValueError:
        pass  # 6e4 and 60000.0 are whole numbers too
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not number.is_integer():
        raise ValueError(f"{path} = {text!r} must be a whole number, such as 60000, 60_000 or 6e4")
    return int(number)


def _unknown(path, paths):
    inside = [known for known in paths if known.startswith(f"{path}.")]
    if inside:
        chosen = f"{CHOSEN[f'{path}.name']}. Its settings" if f"{path}.name" in CHOSEN else "they"
        return f"{path} is a group of settings; {chosen} are set one by one: {', '.join(inside)}"
    group, _, name = path.rpartition(".")
    siblings = [known for known in paths if group and known.startswith(f"{group}.")]
    near = siblings or paths
    # The right name in the wrong group is a likelier slip than a misspelt one.
    close = _named(name, paths) or [
        known for guess in difflib.get_close_matches(name, map(_field, near), n=1) for known in _named(guess, near)
    ]
    hint = f"; did you mean {' or '.join(close)}?" if close else "."
    if siblings:
        valid = (known.removeprefix(f"{group}.") for known in siblings)
        return f"there is no setting {path}{hint} {group} has {', '.join(valid)}"
    tops = dict.fromkeys(known.partition(".")[0] + (".*" if "." in known else "") for known in paths)
    return f"there is no setting {path}{hint} The settings are {', '.join(tops)}"


def _field(path):
    return path.rpartition(".")[2]


def _named(name, paths):
    return [path for path in paths if _field(path) == name]
