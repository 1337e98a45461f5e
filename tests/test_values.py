"""Which values a parameter accepts: both ends of each range, and how a value is read."""

import math
from typing import Annotated, Any

import pytest

from stages.parts.run.values import (
    accepts_empty,
    between,
    each_of,
    limits,
    matching,
    more_than,
    one_of,
    positive,
    read_value,
    share,
)

ACCEPTED = [
    (one_of("a", "b"), ["a", "b"], ["", "ab", "c"]),
    (each_of("a", "b"), [("a",), ("b", "a")], [(), ("a", "a"), ("a", "c")]),
    (matching("a digit or two", "[0-9]{1,2}"), ["1", "12"], ["", "123", "a1", "1a"]),
    (between(2, 5), [2, 3, 5], [1.9, 5.1]),
    (more_than(2, 5), [2.1, 5], [2, 5.1]),
    (share(), [0, 0.5, 1], [-0.1, 1.1]),
    (positive(), [1e-300, 1, 1e300], [0, -1, math.inf, math.nan]),
    (
        limits(),
        [(0.5, 1.7), (1, 1), (1e-9, 1e300)],
        [(0, 1), (-1, 1), (1.7, 0.5), (1, math.inf), (math.nan, 1), (1,), (1, 2, 3), ()],
    ),
]


@pytest.mark.parametrize(("accepts", "good", "bad"), ACCEPTED, ids=lambda given: str(given)[:30])
def test_a_range_has_the_ends_that_it_names(accepts: Any, good: list, bad: list) -> None:
    assert [value for value in good if not accepts.test(value)] == []
    assert [value for value in bad if accepts.test(value)] == []


def test_expectations_are_in_words() -> None:
    assert one_of("a", "b").expected == "one of a, b"
    assert between(2, 5).expected == "a number from 2 to 5"
    assert more_than(2, 5).expected == "a number above 2, at most 5"
    assert share().expected == "a number from 0 to 1"


def test_a_whole_number_stands_for_a_float_and_a_list_becomes_a_tuple() -> None:
    value = read_value(3, float)
    assert (value, type(value)) == (3.0, float)
    assert read_value([1, 2.5], tuple[float, ...]) == (1.0, 2.5)
    assert [type(entry) for entry in read_value([1], tuple[float, ...])] == [float]
    assert read_value([], tuple[int, ...]) == ()


@pytest.mark.parametrize(
    ("value", "hint", "message"),
    [
        (3.0, int, "3.0 is not a whole number"),
        (True, int, "True is not a whole number"),
        (True, float, "True is not a number"),
        (1, bool, "1 is not true or false"),
        (1, str, "1 is not a text"),
        (None, int, "None is not a whole number"),
        ("a\0", str, "holds a NUL character"),
        ((1,), tuple[int, ...], r"\(1,\) is not a list"),
        ([1, "2"], tuple[int, ...], "'2' is not a whole number"),
        (10**400, float, "the number is too large"),
        (6, Annotated[int, between(2, 5)], "6 is not a number from 2 to 5"),
        (6, Annotated[int | None, between(2, 5)], "6 is not a number from 2 to 5"),
    ],
)
def test_another_value_is_refused_in_words(value: Any, hint: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        read_value(value, hint)


def test_empty_is_for_types_that_allow_it() -> None:
    optional, needed = Annotated[int | None, between(2, 5)], Annotated[int, between(2, 5)]
    assert accepts_empty(optional)
    assert accepts_empty(str | None)
    assert not accepts_empty(needed)
    assert not accepts_empty(str)
    assert not accepts_empty(tuple[float, float])
    assert read_value(None, optional) is None
    assert read_value(2, optional) == 2
