"""What a parameter accepts, and the reading of one value by its annotated type."""

import math
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple


class Accepts(NamedTuple):
    """The values of a parameter: in words, and as a test."""

    expected: str
    test: Callable[[Any], bool]


def one_of(*choices: str) -> Accepts:
    """One of `choices`."""
    return Accepts("one of " + ", ".join(choices), lambda value: value in choices)


def each_of(*choices: str) -> Accepts:
    """A list, not empty, each entry one of `choices`, none twice."""
    return Accepts(
        "a list of " + ", ".join(choices) + ", none twice",
        lambda value: bool(value) and set(value) <= set(choices) and len(set(value)) == len(value),
    )


def between(low: float, high: float) -> Accepts:
    """A number from `low` to `high`, both included."""
    return Accepts(f"a number from {low} to {high}", lambda value: low <= value <= high)


def more_than(low: float, high: float) -> Accepts:
    """A number above `low`, at most `high`."""
    return Accepts(f"a number above {low}, at most {high}", lambda value: low < value <= high)


def share() -> Accepts:
    """A number from 0 to 1."""
    return between(0, 1)


def positive() -> Accepts:
    """A finite number above 0."""
    return Accepts("a number above 0", lambda value: 0 < value < math.inf)


def accepts_empty(hint: Any) -> bool:
    """Whether a parameter annotated with `hint` may be empty (`X | None`)."""
    kind, _ = _taken_apart(hint)
    return isinstance(kind, types.UnionType) and type(None) in typing.get_args(kind)


def read_value(value: Any, hint: Any) -> Any:
    """`value` as its annotation wants it: `Annotated[type, Accepts]`, or a type alone.

    A whole number stands for a float; a list becomes a tuple. Raises ValueError that says what was expected.
    """
    kind, accepts = _taken_apart(hint)
    if accepts_empty(hint):
        if value is None:
            return None
        kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{value!r} is not a list")
        value = tuple(_typed(entry, typing.get_args(kind)[0]) for entry in value)
    else:
        value = _typed(value, kind)
    if accepts is not None and not accepts.test(value):
        raise ValueError(f"{value!r} is not {accepts.expected}")
    return value


def _taken_apart(hint: Any) -> tuple[Any, Accepts | None]:
    if typing.get_origin(hint) is typing.Annotated:
        kind, accepts = typing.get_args(hint)
        return kind, accepts
    return hint, None


def _typed(value: Any, kind: type) -> Any:
    if kind is float and type(value) is int:
        return float(value)
    if type(value) is not kind:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise ValueError(f"{value!r} is not {names[kind]}")
    return value
