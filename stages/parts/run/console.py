"""What the person at the terminal sees: messages, progress bars."""

import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")


def message(line: str) -> None:
    """Print one line; a progress bar that is shown stays whole."""
    tqdm.write(line, file=sys.stdout)
    sys.stdout.flush()


def progress(
    items: Iterable[Item], what: str, unit: str, total: int | None = None
) -> Iterable[Item]:
    """Return `items` behind a bar with speed and estimated time left.

    The bar is silent when stderr is not a terminal.
    """
    silent = not sys.stderr.isatty()
    shown: Iterable[Item] = tqdm(
        items, desc=what, unit=unit, total=total, leave=False, disable=silent
    )
    return shown


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show `what` on a terminal while the body runs, for work that has no steps to count."""
    silent = not sys.stderr.isatty()
    with tqdm(desc=what, bar_format="{desc} …", leave=False, disable=silent):
        yield
