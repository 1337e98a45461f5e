"""The tables of the experiments, with the result of each run as a dot."""

from stages.report.inputs import Comparison, Row
from stages.report.page import markup
from stages.report.page.markup import heads, lines, note, percent, row, tag, text

WIDTH, HEIGHT = 110, 16  # units of the drawing of the dots


def comparison(content: Comparison, charts: str) -> str:
    """Return title, tables, notes and charts of one comparison."""
    title = tag("h3", text(content.title))
    main = [title, _table(content), note(" ".join(content.notes))]
    return lines([*main, *_differences(content), charts])


def _differences(content: Comparison) -> list[str]:
    """Return the table of paired differences and its notes, if there is one."""
    paired = content.differences
    if paired is None:
        return []
    table = markup.Table("Paired differences", paired.heads, paired.cells)
    return [markup.table(table), note(" ".join(paired.notes))]


def _table(content: Comparison) -> str:
    """Return the table; a row that has no values of its own is the paper's."""
    values = {each.name: each for each in content.rows}
    key = next(key for key in content.rows[0].metrics if key.endswith(".rank1"))
    highest = max((max(_known(each, key), default=0.0) for each in content.rows), default=0.0)
    rows = []
    for name, *cells in content.cells:
        shown = list(map(text, cells))
        if name in values:
            known = _known(values[name], key)
            changes = ", ".join(values[name].changes) or "as params.yaml has it"
            head = text(name) + tag("span", text(changes), class_="changes")
            rows.append(row(head, [_dots(known, highest), *shown]))
        else:
            rows.append(row(text(name), ["", *shown], class_="paper"))
    corner, first, *others = content.heads
    # The heading above the table says the same as its caption.
    caption = tag("caption", text(content.title), class_="unseen")
    head = heads([corner, f"{first}, each run", first, *others])
    table = tag("table", caption, head, tag("tbody", *rows), class_="numbers comparison")
    # Wider than a phone: the keyboard can reach it and scroll.
    return tag("div", table, class_="table", tabindex="0", role="region", aria_label=content.title)


def _known(values: Row, key: str) -> list[float]:
    """Return a figure of each seed, without those that have none."""
    return [float(value) for value in values.metrics.get(key) or [] if value is not None]


def _dots(values: list[float], highest: float) -> str:
    """Return the value of each seed as a dot between 0 and `highest`."""
    scale = (WIDTH - 10) / highest if highest > 0 else 0.0
    middle = HEIGHT // 2
    drawn = [tag("path", d=f"M5 {middle}H{WIDTH - 5}", class_="rule")]
    for value in values:
        x = f"{5 + scale * value:.1f}"
        drawn.append(tag("circle", cx=x, cy=str(middle), r="3.2", class_="dot"))
    words = f"Each run, per cent: {', '.join(map(percent, values)) or 'none'}"
    size = {"viewBox": f"0 0 {WIDTH} {HEIGHT}", "width": str(WIDTH), "height": str(HEIGHT)}
    return tag("svg", *drawn, role="img", aria_label=words, **size)
