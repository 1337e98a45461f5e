"""The files that the report is made of, read and named."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.parts.images.store import ImageStore
from stages.parts.run.files import LOGS, file_hash, read_json

STAGES = ("synthesize", "prepare", "source", "pseudo_label", "train", "evaluate")
METRICS = Path("metrics")
EVALUATION = METRICS / "evaluate.json"
RANKINGS = Path("data/rankings")
COUNTS = Path("data/labels/infrared_counts.csv")
ATTENTION = Path("data/attention.csv")
COMPARISONS = METRICS / "comparisons"
SYNTHETIC = (
    "data/synthetic"  # what is read from elsewhere was not rendered by the stage `synthesize`
)


class Embeddings(NamedTuple):
    """Test images as the full network sees them: rows of the target's table (N,) int64, values (N, D) float32."""

    rows: np.ndarray
    values: np.ndarray


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
    metrics: dict[
        str, dict[str, Any]
    ]  # last figures by stage: prepare, source, pseudo_label, train
    infrared: pd.DataFrame  # row, label, confidence, age
    label_counts: pd.DataFrame | None  # epoch, label, transport, argmax; None where absent
    attention: pd.DataFrame | None  # kind, query, key, weight; row by row of the matrices
    embeddings: Embeddings | None
    comparisons: dict[str, dict[str, Any]]  # plan → what the experiments wrote
    target: ImageStore
    source: ImageStore  # no images where there is no source
    fingerprints: dict[str, str]  # target, source: sha256 of the lists of raw files
    seconds: dict[str, float]  # stage → run time; without the stages that left none
    epoch_seconds: (
        pd.DataFrame
    )  # of training: epoch, train_seconds, assign_seconds, transport_seconds; or no rows

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
        """Whether the target's pictures were drawn by the stage `synthesize`."""
        layout, root = self.sections["synthesize"].layout, self.sections["data"].root
        return layout not in ("none", "sources") and root == SYNTHETIC

    @property
    def source_rendered(self) -> bool:
        """Whether the source's pictures were: `data.root` may hold a real one, then its size tells."""
        own, data = self.sections["synthesize"], self.sections["data"]
        read = SYNTHETIC in (data.root, data.source_root) and own.layout != "none"
        return read and self.metrics["source"]["train"]["persons"] == own.source_persons


def read_run(dataset: str, seed: int, sections: dict[str, Any]) -> Run:
    """Read what the other stages wrote. FileNotFoundError names what is missing, ValueError what is not readable."""
    protocol = read_json(RANKINGS / "protocol.json")
    folders = {name: Path("data/images") / name for name in ("target", "source")}
    target = ImageStore(folders["target"])
    return Run(
        dataset=dataset,
        seed=seed,
        sections=sections,
        evaluation=read_json(EVALUATION),
        protocol=protocol,
        cmc=read_csv(METRICS / "evaluate/cmc.csv", ("mode", "rank", "cmc")),
        rankings={
            mode: read_csv(
                RANKINGS / f"{mode}.csv", ("query", "rank", "gallery", "similarity", "correct")
            )
            for mode in protocol["modes"]
        },
        label_epochs=read_csv(METRICS / "pseudo_label/epochs.csv", ("epoch", "phase")),
        train_epochs=read_csv(METRICS / "train/epochs.csv", ("epoch", "loss")),
        metrics={
            name: read_json(METRICS / f"{name}.json")
            for name in ("prepare", "source", "pseudo_label", "train")
        },
        infrared=read_csv(Path("data/labels/infrared.csv"), ("row", "label")),
        label_counts=read_csv_if_there(COUNTS, ("epoch", "label", "transport", "argmax")),
        attention=read_csv_if_there(ATTENTION, ("kind", "query", "key", "weight")),
        embeddings=read_embeddings(RANKINGS, len(target.table)),
        comparisons={path.stem: read_json(path) for path in sorted(COMPARISONS.glob("*.json"))},
        target=target,
        source=ImageStore(folders["source"]),
        fingerprints={name: file_hash(folder / "files.csv") for name, folder in folders.items()},
        seconds=read_seconds(LOGS),
        epoch_seconds=read_epoch_seconds(LOGS / "train_epochs.jsonl"),
    )


def read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """The table of a CSV file. ValueError names the file and the first of `columns` that it lacks."""
    table = pd.read_csv(path)
    for column in columns:
        if column not in table.columns:
            raise ValueError(
                f"{path}: column {column} is missing; found {', '.join(table.columns)}"
            )
    return table


def read_csv_if_there(path: Path, columns: tuple[str, ...]) -> pd.DataFrame | None:
    """As `read_csv`; None where there is no such file or no row in it."""
    table = read_csv(path, columns) if path.is_file() else pd.DataFrame()
    return table if len(table) else None


def read_embeddings(folder: Path, images: int) -> Embeddings | None:
    """`embeddings.npy` (N, D) and `rows.npy` (N,) below `images`; None where one is absent. ValueError if unfit."""
    paths = folder / "rows.npy", folder / "embeddings.npy"
    if not all(path.is_file() for path in paths):
        return None
    rows, values = (np.load(path, allow_pickle=False) for path in paths)
    if values.ndim != 2 or rows.shape != values.shape[:1]:
        raise ValueError(
            f"{paths[1]}: {values.shape} for rows {rows.shape}, expected (N, D) for (N,)"
        )
    if len(rows) and (rows.min() < 0 or rows.max() >= images):
        raise ValueError(f"{paths[0]}: rows {rows.min()} to {rows.max()} of a table of {images}")
    return Embeddings(rows, values)


def read_seconds(folder: Path) -> dict[str, float]:
    """Run time by stage, of those that left one in `folder`."""
    found = {name: folder / f"{name}.json" for name in STAGES}
    return {
        name: float(read_json(path)["seconds"]) for name, path in found.items() if path.is_file()
    }


def read_epoch_seconds(path: Path) -> pd.DataFrame:
    """Run times by epoch, the last of each that the log has (a run that went on after a crash may have two)."""
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    table = pd.DataFrame(
        lines, columns=["epoch", "train_seconds", "assign_seconds", "transport_seconds"]
    )
    return table.drop_duplicates("epoch", keep="last").sort_values("epoch", ignore_index=True)
