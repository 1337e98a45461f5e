"""HTML from plain values: escaped text, elements, tables, lists of terms."""

import html
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

VOID = ("img", "meta", "link", "br")


@dataclass(frozen=True)
class Table:
    """Cells of a table as text; each row's first cell is its head."""

    caption: str
    columns: Sequence[str]  # heads, that of the first column included
    rows: Sequence[Sequence[str]]
    kind: str = "numbers"  # CSS class: numbers (right-aligned) | words


def text(value: object) -> str:
    """`value` as text that cannot be taken for markup."""
    return html.escape(str(value))


def tag(name: str, *children: str, **attributes: str) -> str:
    """`<name …>children</name>`. Children are markup already, values of attributes are escaped; `class_` is `class`."""
    listed = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{html.escape(value)}"'
        for key, value in attributes.items()
    )
    return f"<{name}{listed}>" if name in VOID else f"<{name}{listed}>{''.join(children)}</{name}>"


def table(content: Table) -> str:
    """A `<table>` with caption and scopes, in a box of its own that scrolls where a screen is too narrow."""
    head = tag("tr", *[tag("th", text(name), scope="col") for name in content.columns])
    rows = [
        tag(
            "tr", tag("th", text(row[0]), scope="row"), *[tag("td", text(cell)) for cell in row[1:]]
        )
        for row in content.rows
    ]
    caption = tag("caption", text(content.caption))
    whole = tag("table", caption, tag("thead", head), tag("tbody", *rows), class_=content.kind)
    return tag("div", whole, class_="table")


def paragraph(line: str, **attributes: str) -> str:
    """A `<p>` of plain text."""
    return tag("p", text(line), **attributes)


def lines(parts: Iterable[str]) -> str:
    """Parts of markup below each other, so that the page's source can be read and compared."""
    return "\n".join(part for part in parts if part)
