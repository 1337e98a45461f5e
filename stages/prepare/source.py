"""`python -m stages.prepare.source`: the labeled source → `data/images/source/`, `metrics/source.json`.

`none` gives an empty store. The whole tree is checked, its training images are stored: nothing reads the others, and
MSMT17 has 94,000 of them. A stage of its own, so that another source does not prepare the target again.
"""

from pathlib import Path

import pandas as pd

from stages.parts.run import params
from stages.parts.run.console import message
from stages.parts.run.files import resolve, write_json
from stages.parts.run.settings import Data, Images, Spcl
from stages.parts.run.stage import run_stage
from stages.prepare import counts, dukemtmc, folder, market1501, msmt17
from stages.prepare.build import build
from stages.prepare.tree import find_tree, table_of

READERS = {"market1501": market1501, "dukemtmc": dukemtmc, "msmt17": msmt17, "folder": folder}
FOLDER = Path("data/images/source")
METRICS = Path("metrics/source.json")
SYNTHETIC = Path("data/synthetic")  # trees below it are rendered and have their own sizes


def main() -> None:
    """Read the source's tree, check it, write the image store."""
    with run_stage("source"):
        tree = params.load()
        data, images = params.section(tree, "data", Data), params.section(tree, "images", Images)
        source = params.section(tree, "spcl", Spcl).source
        root, table = (
            (Path("none"), table_of(Path("none"), [])) if source == "none" else _read(source, data)
        )
        build(root, table, FOLDER, images.height, images.width)
        write_json(METRICS, counts.summary(table))
        message(
            "source: none" if source == "none" else counts.sentence(table, READERS[source].FOLDER)
        )


def _read(source: str, data: Data) -> tuple[Path, pd.DataFrame]:
    reader = READERS[source]
    roots = {"data.root": resolve(data.root)}
    if data.source_root is not None:
        roots["data.source_root"] = resolve(data.source_root)
    if source == "folder":
        root = folder.find_source(roots)
        table, remarks = folder.read_source(root)
    else:
        root, remarks = find_tree(reader.FOLDER, reader.MARKER, roots), []
        table = reader.read(root)
    counts.refuse_shared_persons(table, root)
    if not root.resolve().is_relative_to(resolve(SYNTHETIC).resolve()):
        remarks += counts.compare(table, reader.PUBLISHED, str(root))
    for line in remarks:
        message(line)
    table = table[table["split"] == "train"].reset_index(drop=True)
    return root, table.assign(row=table.index)


if __name__ == "__main__":
    main()
