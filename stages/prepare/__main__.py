"""`python -m stages.prepare`: the target's tree → `data/images/target/`, `metrics/prepare.json`."""

from pathlib import Path

from stages.parts.run import params, records
from stages.parts.run.settings import Data, Images
from stages.prepare import counts, llcm, regdb, sysu_mm01
from stages.prepare.build import build
from stages.prepare.tree import find_tree

READERS = {"sysu_mm01": sysu_mm01, "regdb": regdb, "llcm": llcm}
FOLDER = Path("data/images/target")
METRICS = Path("metrics/prepare.json")


def main() -> None:
    """Read the target's tree, check it, write the image store."""
    with records.stage("prepare"):
        tree = params.load()
        data, images = params.section(tree, "data", Data), params.section(tree, "images", Images)
        reader = READERS[data.layout]
        root = find_tree(reader.FOLDER, reader.MARKER, {"data.root": records.resolve(data.root)})
        table = regdb.read(root, data.trial) if data.layout == "regdb" else reader.read(root)
        counts.refuse_shared_persons(table, root)
        # A profile that is called like the layout claims to be the real data set.
        published = reader.PUBLISHED if tree["dataset"] == data.layout else ()
        for line in [*counts.compare(table, published, str(root)), *counts.warn_one_sided(table, str(root))]:
            records.say(line)
        build(root, table, FOLDER, images.height, images.width)
        records.write_json(METRICS, counts.summary(table) | {"one_modality_persons": len(counts.one_sided(table))})
        records.say(counts.sentence(table, reader.FOLDER))


if __name__ == "__main__":
    main()
