"""Render the synthetic data sets into `data/synthetic`: the target's tree and three labeled sources.

`synthesize.layout: sources` renders the three sources alone; `none` (the profiles of real data) leaves an empty folder.
"""

import os
from pathlib import Path

from stages.parts.run import params
from stages.parts.run.console import message
from stages.parts.run.files import whole_folder
from stages.parts.run.settings import Synthesize
from stages.parts.run.stage import run_stage
from stages.synthesize.trees import write_tree

OUT = Path("data/synthetic")
SOURCES = ("market1501", "dukemtmc", "msmt17")


def main() -> None:
    """Read `params.yaml`, write `data/synthetic` whole or not at all."""
    with run_stage("synthesize"):
        settings = params.section(params.load(), "synthesize", Synthesize)
        with whole_folder(OUT) as folder:
            if settings.layout == "none":
                message(f"{OUT}: empty, the images are real ones")
                return
            targets = () if settings.layout == "sources" else (settings.layout,)
            for layout in (*targets, *SOURCES):
                tree = write_tree(layout, folder, settings, workers=min(8, os.cpu_count() or 1))
                images = sum(path.suffix in (".jpg", ".bmp") for path in tree.rglob("*"))
                message(f"{OUT / tree.name}: {images} images")


if __name__ == "__main__":
    main()
