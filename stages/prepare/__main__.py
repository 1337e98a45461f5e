"""`python -m stages.prepare`: the target's tree → `data/images/target/`, `metrics/prepare.json`."""

from pathlib import Path

import pandas as pd

from stages.parts.run import params
from stages.parts.run.console import message
from stages.parts.run.files import resolve, write_json
from stages.parts.run.settings import Data, Images
from stages.parts.run.stage import run_stage
from stages.prepare import counts, folder, llcm, regdb, sysu_mm01
from stages.prepare.build import build
from stages.prepare.tree import find_tree

READERS = {"sysu_mm01": sysu_mm01, "regdb": regdb, "llcm": llcm, "folder": folder}
FOLDER = Path("data/images/target")
METRICS = Path("metrics/prepare.json")


def main() -> None:
    """Read the target's tree, check it, write the image store."""
    with run_stage("prepare"):
        tree = params.load()
        data, images = params.section(tree, "data", Data), params.section(tree, "images", Images)
        reader = READERS[data.layout]
        root, table, remarks = _read(data)
        counts.refuse_shared_persons(table, root)
        # A profile that is called like the layout claims to be the real data set.
        published = reader.PUBLISHED if tree["dataset"] == data.layout else ()
        remarks += [
            *counts.compare(table, published, str(root)),
            *counts.warn_one_sided(table, str(root)),
        ]
        for line in remarks:
            message(line)
        build(root, table, FOLDER, images.height, images.width)
        write_json(
            METRICS, counts.summary(table) | {"one_modality_persons": len(counts.one_sided(table))}
        )
        message(counts.sentence(table, reader.FOLDER))


def _read(data: Data) -> tuple[Path, pd.DataFrame, list[str]]:
    """Folder and table of the target, and what its reader remarks."""
    root = resolve(data.root)
    if data.layout == "folder":
        return root, *folder.read(root)
    reader = READERS[data.layout]
    root = find_tree(reader.FOLDER, reader.MARKER, {"data.root": root})
    return root, regdb.read(root, data.trial) if data.layout == "regdb" else reader.read(root), []


if __name__ == "__main__":
    main()
