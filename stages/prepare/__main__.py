"""`python -m stages.prepare`: the target's tree → `data/images/target/`, `metrics/prepare.json`."""

from pathlib import Path

from stages.parts.run import params
from stages.parts.run.console import message
from stages.parts.run.files import resolve, write_json
from stages.parts.run.settings import Data, Images
from stages.parts.run.stage import run_stage
from stages.prepare import counts
from stages.prepare.build import build
from stages.prepare.readers import TARGETS, read_checked
from stages.prepare.source import read_training
from stages.prepare.unpaired import with_unpaired

FOLDER = Path("data/images/target")
METRICS = Path("metrics/prepare.json")


def main() -> None:
    """Read the target's tree, check it and write the image store."""
    with run_stage("prepare"):
        tree = params.load()
        data = params.section(tree, "data", Data)
        images = params.section(tree, "images", Images)
        dataset = tree["dataset"]
        roots = {"data.root": resolve(data.root)}

        compare = tree["scale"] == "paper"  # small trees do not claim to be the published ones
        root, table = read_checked(TARGETS[dataset], roots, data.trial, compare)
        counts.refuse_missing_part(table, root)
        sources = None
        if data.unpaired:
            other_root, others = read_training(data.unpaired_from, data)
            table, sources = with_unpaired(table, root, others, other_root, data.unpaired)
        for warning in counts.warn_one_sided(table, str(root)):
            message(warning)
        upright = TARGETS[dataset].upright
        build(root, table, FOLDER, images.height, images.width, upright, sources)

        summary = counts.summary(table)
        summary["one_modality_persons"] = len(counts.one_sided(table))
        write_json(METRICS, summary)
        message(counts.sentence(table, TARGETS[dataset].folder or dataset))


if __name__ == "__main__":
    main()
