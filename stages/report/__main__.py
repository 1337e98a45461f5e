"""One page with the tables, the curves and the pictures; `--show` prints the result table.

Reads   params.yaml (all of it, to list it), metrics/*.json, metrics/evaluate/cmc.csv, metrics/pseudo_label/epochs.csv,
        metrics/train/epochs.csv, data/{images,labels,rankings}/; where they are there data/attention.csv,
        metrics/comparisons/*.json, logs/*.json, logs/train_epochs.jsonl; `--show`: metrics/evaluate.json only
Writes  metrics/report/index.html, metrics/figures/*.png
"""

import argparse
import sys
from pathlib import Path
from typing import Any

from stages.parts.run import params
from stages.parts.run.console import busy, message
from stages.parts.run.files import read_json, whole_folder, write_text
from stages.parts.run.settings import SECTIONS
from stages.parts.run.stage import run_stage
from stages.report import embedding, inputs, pngs, tables
from stages.report.page import page

FOLDER = Path("metrics/report")
PAGE = FOLDER / "index.html"
FIGURES = Path("metrics/figures")


def main(arguments: list[str] | None = None) -> None:
    """Write the page, or with `--show` print what was reached."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.report", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "--show", action="store_true", help="print the result table of metrics/evaluate.json"
    )
    if parser.parse_args(arguments).show:
        show()
        return
    with run_stage("report"):
        tree = params.load()
        sections: dict[str, Any] = {
            name: params.section(tree, name, kind) for name, kind in SECTIONS.items()
        }
        run = inputs.read_run(tree["dataset"], tree["seed"], sections)
        with busy("report: laying out the embeddings"):
            points = embedding.points(run)
        with busy("report: drawing the page"), whole_folder(FOLDER) as folder:
            write_text(folder / PAGE.name, page(run, points))
        with busy("report: drawing the figures"), whole_folder(FIGURES) as folder:
            for name, content in pngs.all_figures(run, points).items():
                (folder / f"{name}.png").write_bytes(content)


def show() -> None:
    """The result table and where the page is."""
    try:
        lines = tables.terminal(read_json(inputs.EVALUATION))
    except FileNotFoundError:
        sys.exit(f"error: {inputs.EVALUATION} is not here; `dvc repro` (or `make repro`) writes it")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        sys.exit(
            f"error: {inputs.EVALUATION} is not what `python -m stages.evaluate` writes: {' '.join(str(error).split())}"
        )
    for line in lines:
        message(line)
    message(
        f"report: {PAGE}"
        if PAGE.is_file()
        else f"report: not written ({PAGE}; `dvc repro report` writes it)"
    )


if __name__ == "__main__":
    main(sys.argv[1:])
