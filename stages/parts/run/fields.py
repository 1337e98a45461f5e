"""Dataclass fields that carry the values they accept, and the reading of one value by its type."""

import math
import types
import typing
from dataclasses import Field, field
from typing import Any

Check = tuple[str, typing.Callable[[Any], bool]]  # what is expected, in words; whether a value is it


def _checked(expected: str, accept: typing.Callable[[Any], bool]) -> Any:
    return field(metadata={"check": (expected, accept)})


def one_of(*choices: str) -> Any:
    """A field that holds one of `choices`."""
    return _checked("one of " + ", ".join(choices), lambda value: value in choices)


def each_of(*choices: str) -> Any:
    """A field that holds a list, not empty, each entry one of `choices`, none twice."""
    return _checked(
        "a list of " + ", ".join(choices) + ", none twice",
        lambda value: bool(value) and set(value) <= set(choices) and len(set(value)) == len(value),
    )


def between(low: float, high: float) -> Any:
    """A number from `low` to `high`, both included."""
    return _checked(f"a number from {low} to {high}", lambda value: low <= value <= high)


def more_than(low: float, high: float) -> Any:
    """A number above `low`, at most `high`."""
    return _checked(f"a number above {low}, at most {high}", lambda value: low < value <= high)


def share() -> Any:
    """A number from 0 to 1."""
    return between(0, 1)


def positive() -> Any:
    """A finite number above 0."""
    return _checked("a number above 0", lambda value: 0 < value < math.inf)


def accepts_empty(hint: Any) -> bool:
    """Whether a field of type `hint` may be empty (``X | None``)."""
    return isinstance(hint, types.UnionType) and type(None) in typing.get_args(hint)


def read_value(value: Any, hint: Any, of: "Field[Any]") -> Any:
    """`value` as the type `hint`, checked against what the field accepts.

    An int stands for a float; a list becomes a tuple. Raises ValueError that says what was expected.
    """
    if accepts_empty(hint):
        if value is None:
            return None
        hint = next(arg for arg in typing.get_args(hint) if arg is not type(None))
    if typing.get_origin(hint) is tuple:
        item = typing.get_args(hint)[0]
        if not isinstance(value, list):
            raise ValueError(f"{value!r} is not a list")
        value = tuple(_typed(entry, item) for entry in value)
    else:
        value = _typed(value, hint)
    check: Check | None = of.metadata.get("check")
    if check is not None and not check[1](value):
        raise ValueError(f"{value!r} is not {check[0]}")
    return value


def _typed(value: Any, kind: type) -> Any:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if type(value) is not kind:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise ValueError(f"{value!r} is not {names[kind]}")
    return value


