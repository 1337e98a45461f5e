"""Run times, from the logs that the stages leave. They differ between runs of the same bytes."""

import json
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.parts.run.files import read_json

STAGES = ("synthesize", "prepare", "source", "pseudo_label", "train", "evaluate", "export")
COLUMNS = ("epoch", "train_seconds", "label_seconds", "assignment_seconds")


@dataclass(frozen=True)
class Times:
    """Wall times in seconds."""

    stages: dict[str, float]  # without the stages that left none
    epochs: pd.DataFrame  # of training: COLUMNS; may have no rows


def read_times(folder: Path) -> Times:
    """Return the times that the stages left in `folder`. ValueError if a log is not readable."""
    paths = {name: folder / f"{name}.json" for name in STAGES}
    there = {name: path for name, path in paths.items() if path.is_file()}
    stages = {name: float(read_json(path)["seconds"]) for name, path in there.items()}
    return Times(stages, read_epochs(folder / "train_epochs.jsonl"))


def read_epochs(path: Path) -> pd.DataFrame:
    """Return the run times by epoch.

    A run that went on after an interruption may have an epoch twice: the last one counts.
    """
    lines = (
        [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        if path.is_file()
        else []
    )
    table = pd.DataFrame(lines, columns=COLUMNS)
    return table.drop_duplicates("epoch", keep="last").sort_values("epoch", ignore_index=True)
