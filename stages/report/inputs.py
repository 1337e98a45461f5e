"""The files that the report is made of, read and named."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.parts.images.store import ImageStore
from stages.parts.run import records

STAGES = ("synthesize", "prepare", "source", "pseudo_label", "train", "evaluate")
METRICS = Path("metrics")
EVALUATION = METRICS / "evaluate.json"
RANKINGS = Path("data/rankings")


@dataclass(frozen=True)
class Run:
    """All that the page tells; nothing of it is computed again."""

    dataset: str
    seed: int
    sections: dict[str, Any]  # settings in effect, a dataclass a section
    evaluation: dict[str, Any]  # metrics/evaluate.json
    protocol: dict[str, Any]  # how the numbers came about
    cmc: pd.DataFrame  # mode, rank, cmc
    rankings: dict[str, pd.DataFrame]  # mode → query, rank, gallery, similarity, correct
    label_epochs: pd.DataFrame  # of the pseudo-label stage; may have no rows
    train_epochs: pd.DataFrame
    metrics: dict[str, dict[str, Any]]  # last figures by stage: prepare, source, pseudo_label, train
    infrared: pd.DataFrame  # row, label, confidence, age
    target: ImageStore
    source: ImageStore  # no images where there is no source
    fingerprints: dict[str, str]  # target, source: sha256 of the lists of raw files
    seconds: dict[str, float]  # stage → run time; without the stages that left none

    @property
    def modes(self) -> list[str]:
        """Modes of the protocol, in its order."""
        return list(self.protocol["modes"])

    @property
    def setting(self) -> str:
        """`unsupervised`, `semi-supervised` or `supervised`."""
        return str(self.sections["train"].setting)

    @property
    def rendered(self) -> bool:
        """Whether the pictures were drawn by the stage `synthesize`."""
        return bool(self.sections["synthesize"].layout != "none")


def read_run(dataset: str, seed: int, sections: dict[str, Any]) -> Run:
    """Read what the other stages wrote. FileNotFoundError names what is missing, ValueError what is not readable."""
    protocol = records.read_json(RANKINGS / "protocol.json")
    folders = {name: Path("data/images") / name for name in ("target", "source")}
    return Run(
        dataset=dataset,
        seed=seed,
        sections=sections,
        evaluation=records.read_json(EVALUATION),
        protocol=protocol,
        cmc=read_csv(METRICS / "evaluate/cmc.csv", ("mode", "rank", "cmc")),
        rankings={
            mode: read_csv(RANKINGS / f"{mode}.csv", ("query", "rank", "gallery", "correct"))
            for mode in protocol["modes"]
        },
        label_epochs=read_csv(METRICS / "pseudo_label/epochs.csv", ("epoch", "phase")),
        train_epochs=read_csv(METRICS / "train/epochs.csv", ("epoch", "loss")),
        metrics={
            name: records.read_json(METRICS / f"{name}.json") for name in ("prepare", "source", "pseudo_label", "train")
        },
        infrared=read_csv(Path("data/labels/infrared.csv"), ("row", "label")),
        target=ImageStore(folders["target"]),
        source=ImageStore(folders["source"]),
        fingerprints={name: records.file_hash(folder / "files.csv") for name, folder in folders.items()},
        seconds=read_seconds(records.LOGS),
    )


def read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """The table of a CSV file. ValueError names the file and the first of `columns` that it lacks."""
    table = pd.read_csv(path)
    for column in columns:
        if column not in table.columns:
            raise ValueError(f"{path}: column {column} is missing; found {', '.join(table.columns)}")
    return table


def read_seconds(folder: Path) -> dict[str, float]:
    """Run time by stage, of those that left one in `folder`."""
    found = {name: folder / f"{name}.json" for name in STAGES}
    return {name: float(records.read_json(path)["seconds"]) for name, path in found.items() if path.is_file()}
