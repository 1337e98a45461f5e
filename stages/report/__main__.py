"""One page with the tables, the curves and the pictures; `--show` prints the result table.

Reads   params.yaml (all of it, to list it), metrics/*.json, metrics/evaluate/cmc.csv,
        metrics/pseudo_label/epochs.csv, metrics/train/epochs.csv,
        data/{images,labels,rankings}/; if they are there data/attention.csv,
        metrics/comparisons/*.json; for logs/times.html logs/*.json, logs/train_epochs.jsonl;
        `--show`: metrics/evaluate.json only
Writes  metrics/report/index.html, metrics/figures/*.png; what differs between machines goes to
        logs/times.html, which neither git nor DVC tracks
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from stages.parts.run import params
from stages.parts.run.console import busy, message
from stages.parts.run.files import LOGS, read_json, whole_folder, write_text
from stages.parts.run.settings import SECTIONS
from stages.parts.run.stage import run_stage
from stages.report import inputs
from stages.report.figures.all import all_drawings
from stages.report.figures.drawing import png
from stages.report.page import frame, tables, times
from stages.report.times import read_times

FOLDER = Path("metrics/report")
PAGE = FOLDER / "index.html"
FIGURES = Path("metrics/figures")
TIMES = LOGS / "times.html"


def main(arguments: list[str] | None = None) -> None:
    """Write the page and the figures, or with `--show` print the result table."""
    description = (__doc__ or "").split("\n\n")[0]
    parser = argparse.ArgumentParser(prog="python -m stages.report", description=description)
    what = "print the result table of metrics/evaluate.json"
    parser.add_argument("--show", action="store_true", help=what)
    if parser.parse_args(arguments).show:
        show()
        return
    with run_stage("report"):
        tree = params.load()
        sections: dict[str, Any] = {
            name: params.section(tree, name, kind) for name, kind in SECTIONS.items()
        }
        run = inputs.read_run(tree, sections)
        with busy("report: drawing the figures"):
            drawings = all_drawings(run)
        with busy("report: writing the page"), whole_folder(FOLDER) as folder:
            write_text(folder / PAGE.name, frame.page(run, drawings))
            write_text(TIMES, times.page(run, read_times(LOGS)))
        with busy("report: writing the figures"), whole_folder(FIGURES) as folder:
            for name, drawn in drawings.items():
                if drawn:
                    (folder / f"{name}.png").write_bytes(png(drawn))


def show() -> None:
    """Print the result table and the path of the page."""
    path = inputs.EVALUATION
    try:
        lines = tables.terminal(read_json(path))
    except FileNotFoundError:
        sys.exit(f"error: {path} is not here; `dvc repro` (or `make repro`) writes it")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = " ".join(str(error).split())
        sys.exit(f"error: {path} is not what `python -m stages.evaluate` writes: {reason}")
    for line in lines:
        message(line)
    missing = f"not written ({PAGE}; `dvc repro report` writes it)"
    message(f"report: {PAGE if PAGE.is_file() else missing}")


if __name__ == "__main__":
    main(sys.argv[1:])
