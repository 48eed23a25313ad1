"""`--set section.field=value`: replace single fields of a config by text from the command line."""

import difflib

from cnn_jax.config import fields
from cnn_jax.config.rules import problems
from cnn_jax.errors import UsageError

TRUE = ("true", "yes", "1")
FALSE = ("false", "no", "0")

# What an experiment is, and so what no override may change.
CHOSEN = {
    "experiment": "the experiment is chosen by --experiment=NAME",
    "model.name": "the kind of network, with settings of its own, is chosen by --experiment=NAME",
}


def apply(config, specs: list[str], check=problems, fixed=CHOSEN):
    """Replaces the fields that the specs name, the later spec winning, and checks the result as a whole.

    Kinds are chosen first, wherever they stand among the specs. What was set before for a kind that is not chosen any
    more falls back to its default; `left_out` tells.

    Args:
      config: a Config; it is not changed.
      specs: texts such as "optimizer.learning_rate=0.002". A value is read as the field's type: a bool is one of
        true, false, yes, no, 1, 0; a whole number may be written 60000, 60_000 or 6e4; the items of a tuple are
        separated by commas, and "" or "()" is the empty one.
      check: what is wrong with a config as a whole, one line each.
      fixed: settings that may not change, with why.

    Returns:
      The new config.

    Raises:
      UsageError: a spec could not be read, or the result is unsound. One line for each thing wrong.
    """
    found: dict[int, str] = {}
    failed: set[str] = set()
    kinds = {f"{prefix}{choice.label}" for prefix, choice, _ in fields.choices(config)}
    order = sorted(range(len(specs)), key=lambda place: _path(specs[place]) not in kinds)
    for place in order:
        try:
            config = _apply_one(config, specs[place], failed, fixed)
        except ValueError as error:
            if _path(specs[place]) in kinds:
                failed.add(_path(specs[place]))
            if str(error):
                found[place] = str(error)
    lines = [found[place] for place in sorted(found)] + check(config)
    if lines:
        raise UsageError("\n".join(lines))
    return config


def left_out(before, after) -> list[str]:
    """Settings of a config that do not apply after a change of kinds, where they were not at their default.

    Args:
      before: a config.
      after: the same with overrides.

    Returns:
      A sentence for each.
    """
    now = {leaf.path for leaf in fields.leaves(after)}
    chosen = {leaf.path: leaf.value for leaf in fields.leaves(after) if "choice" in leaf.rule}
    lines = []
    for prefix, choice, held in fields.choices(before):
        defaults = vars(type(held)()) if held is not None and not choice.inside else {}
        for name, default in defaults.items():
            path, value = f"{prefix}{choice.inside}{name}", getattr(held, name)
            if path not in now and value != default:
                label = f"{prefix}{choice.label}"
                lines.append(f"{path} = {value!r} of the experiment does not apply to {label} = {chosen[label]!r}")
    return lines


def _path(spec):
    return spec.partition("=")[0].strip()


def _apply_one(config, spec, failed, fixed):
    path, equals, text = (part.strip() for part in spec.partition("="))
    if not equals or not path:
        raise ValueError(f"{spec!r} is not section.field=value, such as optimizer.learning_rate=0.002")
    leaves = {leaf.path: leaf for leaf in fields.leaves(config)}
    if path not in leaves:
        raise ValueError(_unread(config, path, text, failed) or _unknown(path, [*_known(config, leaves)]))
    value = _parse(leaves[path].type, text, path)
    if path in fixed and value != leaves[path].value:
        raise ValueError(f"{path} = {value!r} cannot be set: {fixed[path]}")
    try:
        return fields.replaced(config, path, value)
    except ValueError as error:
        raise ValueError(f"{path} = {value!r} {error}") from None


def _unread(config, path, text, failed):
    """Returns why a setting of a kind that is not chosen is refused; "" if it is no such setting."""
    lines: list[str] = []
    for prefix, choice, held in fields.choices(config):
        readers = choice.readers(path.removeprefix(f"{prefix}{choice.inside}")) if path.startswith(prefix) else []
        if readers and not choice.inside:
            label = f"{prefix}{choice.label}"
            if label in failed:
                raise ValueError  # the kind is unknown, which is told already
            name = repr(held.name if held else "")
            if lines:
                lines.append(f" and, as {label}, by {', '.join(readers)}")
            else:
                lines.append(
                    f"{path} = {text!r} does not apply to {label} = {name}; it is read by {', '.join(readers)}"
                )
    return "".join(lines)


def _known(config, leaves):
    """Paths that may be meant: those there are, and those of all kinds."""
    yield from (path for path in leaves if path not in CHOSEN)
    for prefix, choice, _ in fields.choices(config):
        if not choice.inside:
            names = dict.fromkeys(name for kind in choice.kinds for name in fields.names(kind))
            yield from (path for name in names if (path := f"{prefix}{name}") not in leaves)


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
    items = text.removeprefix("(").removesuffix(")").strip()
    parts = [item.strip() for item in items.split(",")] if items else []
    if kind == tuple[str, ...]:
        return tuple(parts)
    if kind == tuple[float, ...]:
        try:
            return tuple(map(float, parts))
        except ValueError:
            raise ValueError(f"{path} = {text!r} must be numbers separated by commas, such as 0.5,0.25") from None
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
        valid = dict.fromkeys(known.removeprefix(f"{group}.") for known in siblings)
        return f"there is no setting {path}{hint} {group} has {', '.join(valid)}"
    tops = dict.fromkeys(known.partition(".")[0] + (".*" if "." in known else "") for known in paths)
    return f"there is no setting {path}{hint} The settings are {', '.join(tops)}"


def _field(path):
    return path.rpartition(".")[2]


def _named(name, paths):
    return [path for path in paths if _field(path) == name]
