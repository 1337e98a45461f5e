"""`python -m stages.prepare.source`: the labeled source → `data/images/source/`.

Writes `metrics/source.json`, too. The source `none` gives an empty store. The whole tree is
checked, but only its training images are stored: no stage reads the others, and MSMT17 has 94,000
of them. This is a stage of its own, so another source does not prepare the target again.
"""

from pathlib import Path

import pandas as pd

from stages.parts.run import params
from stages.parts.run.console import message
from stages.parts.run.files import resolve, write_json
from stages.parts.run.settings import Data, Images, Spcl
from stages.parts.run.stage import run_stage
from stages.prepare import counts
from stages.prepare.build import build
from stages.prepare.readers import SOURCES, read_checked
from stages.prepare.tree import table_of

FOLDER = Path("data/images/source")
METRICS = Path("metrics/source.json")


def main() -> None:
    """Read the source's tree, check it and write the image store."""
    with run_stage("source"):
        tree = params.load()
        data = params.section(tree, "data", Data)
        images = params.section(tree, "images", Images)
        source = params.section(tree, "spcl", Spcl).source

        if source == "none":
            root = Path("none")
            table = table_of(root, [])
            upright = False
            sentence = "source: none"
        else:
            root, table = read_training(source, data)
            upright = SOURCES[source].upright
            sentence = counts.sentence(table, SOURCES[source].folder or source)
        build(root, table, FOLDER, images.height, images.width, upright)
        write_json(METRICS, counts.summary(table))
        message(sentence)


def read_training(source: str, data: Data) -> tuple[Path, pd.DataFrame]:
    """Return the folder of a labeled data set and the table of its training images."""
    roots = {"data.root": resolve(data.root)}
    if data.source_root is not None:
        roots["data.source_root"] = resolve(data.source_root)
    root, table = read_checked(SOURCES[source], roots)
    if source != "folder":  # whose CSV has training images only
        for warning in counts.warn_no_test(table, str(root)):
            message(warning)
    training = table[table["split"] == "train"].reset_index(drop=True)
    return root, training.assign(row=training.index)


if __name__ == "__main__":
    main()
