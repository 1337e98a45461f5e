"""Curves by epoch as DVCLive writes them: a file a figure, one point an epoch."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from dvclive import Live


class Log(Protocol):
    """What `curves` hands out."""

    def __call__(self, figures: dict[str, Any]) -> None:
        """The next point of every curve."""


@contextmanager
def curves(folder: Path, series: Iterable[str], past: Iterable[dict[str, Any]]) -> Iterator[Log]:
    """Write the figures named in `series` below `folder`/plots/metrics; `past` are those of the epochs before.

    An epoch that lacks a figure, or has None for it, leaves its curve a point short. Nothing here may depend on the
    clock: the files are tracked.
    """
    names = tuple(series)
    with Live(
        str(folder), dvcyaml=None, report=None, save_dvc_exp=False, monitor_system=False
    ) as live:

        def log(figures: dict[str, Any]) -> None:
            for name in names:
                if figures.get(name) is not None:
                    live.log_metric(name, figures[name], plot=True)
            live.next_step()

        for figures in past:
            log(figures)
        yield log
    (folder / "plots" / "metrics").mkdir(
        parents=True, exist_ok=True
    )  # DVC misses it where there was no epoch
