"""Render data sets into `data/synthetic`: the target's tree and three labeled sources.

`synthesize.layout: sources` renders the sources alone; `none` (scale `paper`) renders nothing.
"""

import os

from stages.parts.run import params
from stages.parts.run.console import message
from stages.parts.run.files import whole_folder
from stages.parts.run.rendered import FOLDER, rendered_layout
from stages.parts.run.settings import Synthesize
from stages.parts.run.stage import run_stage
from stages.synthesize.trees import write_tree

SOURCES = ("market1501", "dukemtmc", "msmt17")


def main() -> None:
    """Read `params.yaml`, write `data/synthetic` whole or not at all."""
    with run_stage("synthesize"):
        tree = params.load()
        settings = params.section(tree, "synthesize", Synthesize)
        layout = rendered_layout(tree["dataset"], tree["scale"], settings.layout)
        workers = min(8, os.cpu_count() or 1)
        with whole_folder(FOLDER) as folder:
            if layout == "none":
                message(f"{FOLDER}: empty, the images are real ones")
                return
            targets = () if layout == "sources" else (layout,)
            for name in (*targets, *SOURCES):
                written = write_tree(name, folder, settings, workers)
                images = sum(path.suffix in (".jpg", ".bmp") for path in written.rglob("*"))
                message(f"{FOLDER / written.name}: {images} images")


if __name__ == "__main__":
    main()
