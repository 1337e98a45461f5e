"""Which values a parameter accepts, and how one value is read by its annotated type."""

import math
import re
import types
import typing
from collections.abc import Callable
from typing import Any, NamedTuple


class Accepts(NamedTuple):
    """The accepted values of a parameter: in words, and as a test."""

    expected: str
    test: Callable[[Any], bool]


def one_of(*choices: str) -> Accepts:
    """Accept one of `choices`."""
    return Accepts("one of " + ", ".join(choices), lambda value: value in choices)


def each_of(*choices: str) -> Accepts:
    """Accept a list that is not empty, each entry one of `choices`, none twice."""
    return Accepts(
        "a list of " + ", ".join(choices) + ", none twice",
        lambda value: bool(value) and set(value) <= set(choices) and len(set(value)) == len(value),
    )


def matching(expected: str, pattern: str) -> Accepts:
    """Accept a text that the regular expression `pattern` describes, in words `expected`."""
    return Accepts(expected, lambda value: re.fullmatch(pattern, value) is not None)


def power_of_two(high: int) -> Accepts:
    """Accept 1, 2, 4 … up to `high`."""
    return Accepts(
        f"a power of two from 1 to {high}",
        lambda value: 1 <= value <= high and value & (value - 1) == 0,
    )


def between(low: float, high: float) -> Accepts:
    """Accept a number from `low` to `high`, both included."""
    return Accepts(f"a number from {low} to {high}", lambda value: low <= value <= high)


def more_than(low: float, high: float) -> Accepts:
    """Accept a number above `low`, at most `high`."""
    return Accepts(f"a number above {low}, at most {high}", lambda value: low < value <= high)


def limits() -> Accepts:
    """Accept two finite numbers above 0, the lower one first."""
    return Accepts(
        "two numbers above 0, the lower one first",
        lambda value: len(value) == 2 and 0 < value[0] <= value[1] < math.inf,
    )


def share() -> Accepts:
    """Accept a number from 0 to 1."""
    return between(0, 1)


def positive() -> Accepts:
    """Accept a finite number above 0."""
    return Accepts("a number above 0", lambda value: 0 < value < math.inf)


def accepts_empty(hint: Any) -> bool:
    """Return whether a parameter annotated with `hint` may be empty (`X | None`)."""
    kind, _ = _split_hint(hint)
    return isinstance(kind, types.UnionType) and type(None) in typing.get_args(kind)


def read_value(value: Any, hint: Any) -> Any:
    """Return `value` in the type of its annotation: `Annotated[type, Accepts]`, or a type alone.

    A whole number stands for a float; a list becomes a tuple.

    Raises:
        ValueError: says what was expected.
    """
    kind, accepts = _split_hint(hint)
    if accepts_empty(hint):
        if value is None:
            return None
        kind = next(arg for arg in typing.get_args(kind) if arg is not type(None))
    if typing.get_origin(kind) is tuple:
        if not isinstance(value, list):
            raise ValueError(f"{value!r} is not a list")
        entry_kind = typing.get_args(kind)[0]
        value = tuple(_typed(entry, entry_kind) for entry in value)
    else:
        value = _typed(value, kind)
    if accepts is not None and not accepts.test(value):
        raise ValueError(f"{value!r} is not {accepts.expected}")
    return value


def _split_hint(hint: Any) -> tuple[Any, Accepts | None]:
    """Return the type and the accepted values of an annotation."""
    if typing.get_origin(hint) is typing.Annotated:
        kind, accepts = typing.get_args(hint)
        return kind, accepts
    return hint, None


def _typed(value: Any, kind: type) -> Any:
    if kind is float and type(value) is int:
        try:
            return float(value)
        except OverflowError:
            raise ValueError("the number is too large") from None
    if type(value) is not kind:
        names = {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}
        raise ValueError(f"{value!r} is not {names[kind]}")
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{value!r} holds a NUL character")
    return value
