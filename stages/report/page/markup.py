"""HTML from plain values: escaped text, elements, tables, numbers as people read them."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

VOID = ("img", "meta", "link", "br")
NONE = "–"


@dataclass(frozen=True)
class Table:
    """Cells of a table as text; each row's first cell is its head."""

    caption: str
    columns: Sequence[str]  # heads, that of the first column included
    rows: Sequence[Sequence[str]]
    kind: str = "numbers"  # CSS class: numbers (right-aligned) | words


def text(value: object) -> str:
    """Return `value` as text that cannot be taken for markup."""
    return html.escape(str(value))


def tag(name: str, *children: str, **attributes: str) -> str:
    """Return the element `<name …>children</name>`.

    Children are markup already; values of attributes are escaped; `class_` stands for `class`.
    """
    listed = ""
    for key, value in attributes.items():
        listed += f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
    return f"<{name}{listed}>" if name in VOID else f"<{name}{listed}>{''.join(children)}</{name}>"


def row(head: str, cells: Iterable[str], **attributes: str) -> str:
    """Return a `<tr>` of a head and cells, which are markup already."""
    listed = [tag("td", cell) for cell in cells]
    return tag("tr", tag("th", head, scope="row"), *listed, **attributes)


def heads(names: Iterable[str]) -> str:
    """Return a `<thead>` of plain texts."""
    return tag("thead", tag("tr", *[tag("th", text(name), scope="col") for name in names]))


def table(content: Table) -> str:
    """Return a `<table>` with caption and scopes, in a box that scrolls on a narrow screen."""
    caption = tag("caption", text(content.caption))
    rows = [row(text(head), map(text, cells)) for head, *cells in content.rows]
    body = tag("tbody", *rows)
    whole = tag("table", caption, heads(content.columns), body, class_=content.kind)
    return tag("div", whole, class_="table")


def paragraph(line: str, **attributes: str) -> str:
    """Return a `<p>` of plain text."""
    return tag("p", text(line), **attributes)


def note(line: str) -> str:
    """Return a remark below or above what it is about."""
    return paragraph(line, class_="note")


def lines(parts: Iterable[str]) -> str:
    """Return markup with a line for each part, so that the page's source can be compared."""
    return "\n".join(part for part in parts if part)


def percent(share: float | None, digits: int = 2) -> str:
    """Return a fraction in per cent, without the sign; a dash for None."""
    return NONE if share is None else f"{100 * share:.{digits}f}"


def with_spread(mean: float, spread: float) -> str:
    """Return mean and standard deviation of a fraction in per cent."""
    return f"{percent(mean)} ± {percent(spread)}"


def ratio(numerator: float, denominator: float | None) -> str:
    """Return how many times `denominator` fits into `numerator`; a dash without one."""
    return f"{numerator / denominator:.2f}" if denominator else NONE


def whole(count: float) -> str:
    """Return a count with separators."""
    return f"{int(count):,}"


def duration(seconds: float | None) -> str:
    """Return seconds as people say them."""
    if seconds is None:
        return "not recorded"
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"
