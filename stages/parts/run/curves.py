"""Curves over epochs, written by DVCLive: one file for each value, one point for each epoch."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from dvclive.live import Live

from stages.parts.run.console import is_first


class Log(Protocol):
    """What `curves` yields."""

    def __call__(self, values: dict[str, Any]) -> None:
        """Add the next point of every curve."""


@contextmanager
def curves(folder: Path, series: Iterable[str], past: Iterable[dict[str, Any]]) -> Iterator[Log]:
    """Write the values named in `series` below `folder`/plots/metrics.

    `past` holds the values of the epochs that were done before. If an epoch has no value of a
    name, or None, its curve has no point for this epoch. Nothing here may depend on the clock,
    because the files are tracked.
    """
    if not is_first():
        yield lambda _: None
        return
    names = tuple(series)
    with Live(
        str(folder), dvcyaml=None, report=None, save_dvc_exp=False, monitor_system=False
    ) as live:

        def log(values: dict[str, Any]) -> None:
            for name in names:
                if values.get(name) is not None:
                    live.log_metric(name, values[name], plot=True)
            live.next_step()

        for values in past:
            log(values)
        yield log
    # DVC expects the folder of the curves even if there was no epoch.
    (folder / "plots" / "metrics").mkdir(parents=True, exist_ok=True)
