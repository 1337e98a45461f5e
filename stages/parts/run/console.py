"""What the person at the terminal sees: messages, progress bars, the end by Ctrl-C."""

import ctypes
import io
import os
import signal
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn, TypeVar

from tqdm import tqdm

Item = TypeVar("Item")
SIGNALS = (signal.SIGINT, signal.SIGTERM)
PR_SET_PDEATHSIG = 1  # of linux/prctl.h


def show_anything() -> None:
    """Print `\\xb1` for a character that the terminal's encoding lacks, instead of an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def end_on_signals() -> None:
    """End this process on Ctrl-C and `kill` as errors do, with one line: exit code 130 or 143.

    A stage also ends when the DVC that runs it is killed. Otherwise it would go on unseen, beside
    the one that the next `dvc repro` starts.
    """
    for number in SIGNALS:
        signal.signal(number, end_by_signal)
    if "DVC_STAGE" in os.environ:
        _signal_when_parent_ends(signal.SIGTERM)


def end_by_signal(number: int, _: FrameType | None = None) -> NoReturn:
    """End with one line: exit code 130 or 143."""
    for each in SIGNALS:
        signal.signal(each, _end_again)
    line = (
        f"stopped by {signal.Signals(number).name}; the same command goes on from what is finished"
    )
    os.write(2, f"\n{line}\n".encode())  # print may be at work already
    sys.exit(128 + number)


def _end_again(number: int, _: FrameType | None) -> NoReturn:
    """End without another line, as for the second signal of `timeout`."""
    sys.exit(128 + number)


def end_with_parent() -> None:
    """Leave Ctrl-C and `kill` to the parent of this worker process, and end when the parent ends.

    A worker that waits for its next task would not notice that its parent was killed.
    """
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    _signal_when_parent_ends(signal.SIGKILL)


def _signal_when_parent_ends(number: signal.Signals) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(number))


def end_without_reader() -> NoReturn:
    """End where stdout has been closed (`… | head`); Python would complain again at exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(1)


def is_first() -> bool:
    """Whether this process speaks for all that were started together (`processes.py`)."""
    return os.environ.get("RANK", "0") == "0"


def message(line: str) -> None:
    """Print one line; a progress bar that is shown stays whole. Only the first process speaks."""
    if not is_first():
        return
    try:
        tqdm.write(line, file=sys.stdout)
        sys.stdout.flush()
    except BrokenPipeError:
        end_without_reader()


def progress(
    items: Iterable[Item], what: str, unit: str, total: int | None = None
) -> Iterable[Item]:
    """Return `items` behind a bar with speed and estimated time left.

    The bar is silent when stderr is not a terminal.
    """
    shown: Iterable[Item] = tqdm(
        items, desc=what, unit=unit, total=total, leave=False, disable=_is_silent()
    )
    return shown


@contextmanager
def busy(what: str) -> Iterator[None]:
    """Show `what` on a terminal while the body runs, for work that has no steps to count."""
    with tqdm(desc=what, bar_format="{desc} …", leave=False, disable=_is_silent()):
        yield


def _is_silent() -> bool:
    return not sys.stderr.isatty() or not is_first()
