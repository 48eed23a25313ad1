"""Damage to bytes and to values, drawn by hypothesis."""

import json

from hypothesis import strategies as st


@st.composite
def mutated(draw, sound: bytes) -> bytes:
    """Bytes that were changed in a few places, cut short, repeated, or replaced."""
    kind = draw(st.sampled_from(["changed"] * 4 + ["cut", "inserted", "other"]))
    if kind == "other":
        return draw(st.binary(max_size=200))
    content = bytearray(sound)
    if kind == "cut":
        return bytes(content[: draw(st.integers(0, len(content)))])
    # Headers, where formats keep their sizes, are met as often as all the rest.
    place = st.one_of(st.integers(0, min(len(content), 200) - 1), st.integers(0, len(content) - 1))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(place)
        if kind == "inserted":
            content[at:at] = draw(st.binary(min_size=1, max_size=20))
        else:
            content[at] = draw(st.integers(0, 255))
    return bytes(content)


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(-(10**20), 10**20), st.floats(allow_nan=True), st.text(max_size=8),
    st.sampled_from([[], {}, "", "train", -1, 0, 10**400, 1e308, [1, 2], {"a": 1}, "../../x", "\ud800"]),
)  # fmt: skip
VALUES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner))


@st.composite
def changed(draw, sound):
    """Values that JSON can hold, with something else in a few places, removed or added."""
    values = json.loads(json.dumps(sound))
    for _ in range(draw(st.integers(1, 3))):
        place = values
        while True:
            names = list(place) if isinstance(place, dict) else range(len(place))
            if not names:
                break
            name = draw(st.sampled_from(names))
            if isinstance(place[name], dict | list) and place[name] and draw(st.booleans()):
                place = place[name]
                continue
            act = draw(st.sampled_from(["replace", "replace", "remove", "add"]))
            if act == "replace":
                place[name] = draw(VALUES)
            elif act == "remove":
                del place[name]
            elif isinstance(place, dict):
                place[draw(st.text(max_size=8))] = draw(VALUES)
            break
        if not isinstance(values, dict | list) or not values:
            break
    return draw(VALUES) if draw(st.integers(0, 20)) == 0 else values
