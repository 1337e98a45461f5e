"""The files that the report is made of, read and named."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from stages.parts.images.store import ImageStore
from stages.parts.run.files import file_hash, read_json
from stages.parts.run.rendered import is_rendered, rendered_layout

METRICS = Path("metrics")
EVALUATION = METRICS / "evaluate.json"
RANKINGS = Path("data/rankings")
COUNTS = Path("data/labels/infrared_counts.csv")
ATTENTION = Path("data/attention.csv")
COMPARISONS = METRICS / "comparisons"

# Names for people. What is not listed is shown under its own name.
PUBLISHED = {"sysu_mm01": "SYSU-MM01", "regdb": "RegDB", "llcm": "LLCM"}
METHODS = {
    "transport": "optimal transport",
    "argmax": "argmax of the prediction",
    "matching": "one-to-one matching",
    "global": "clusters of both modalities",
}
MODES = {
    "all": "All search",
    "indoor": "Indoor search",
    "infrared_to_visible": "Infrared → visible",
    "visible_to_infrared": "Visible → infrared",
}


def mode_name(mode: str) -> str:
    """Return the name of a mode of evaluation."""
    return MODES.get(mode, mode)


def method_name(assignment: str) -> str:
    """Return the name of a method that assigns infrared labels."""
    return METHODS.get(assignment, assignment)


class Embeddings(NamedTuple):
    """Test images as the full network embeds them."""

    rows: np.ndarray  # (N,) int64, of the target's table
    values: np.ndarray  # (N, D) float32


class Row(NamedTuple):
    """The values behind a row of a comparison's table."""

    name: str
    changes: list[str]  # of parameters
    metrics: dict[str, list[float | None]]  # a value for each seed
    epochs: dict[str, list[list[float | None]]]  # a curve for each seed


class Differences(NamedTuple):
    """The table of paired differences of a comparison, as text."""

    heads: list[str]
    cells: list[list[str]]
    notes: list[str]


@dataclass(frozen=True)
class Comparison:
    """What the experiments wrote about one plan."""

    title: str
    heads: list[str]
    cells: list[list[str]]  # the table's rows; the first cell is the row's name
    notes: list[str]
    rows: list[Row]
    differences: Differences | None


@dataclass(frozen=True)
class Run:
    """All that the page shows; nothing of it is computed again, nothing is of the machine."""

    dataset: str
    scale: str
    seed: int
    sections: dict[str, Any]  # settings in effect, a dataclass a section
    evaluation: dict[str, Any]  # metrics/evaluate.json
    protocol: dict[str, Any]  # how the numbers came about
    cmc: pd.DataFrame  # mode, rank, cmc
    rankings: dict[str, pd.DataFrame]  # mode → query, rank, gallery, similarity, correct
    label_epochs: pd.DataFrame  # of the pseudo-label stage; may have no rows
    train_epochs: pd.DataFrame
    metrics: dict[str, dict[str, Any]]  # of the last epoch, by stage
    infrared: pd.DataFrame  # row, label, confidence, age
    label_counts: pd.DataFrame | None  # epoch, label, assigned, argmax
    attention: pd.DataFrame | None  # kind, query, key, weight; row by row of the matrices
    embeddings: Embeddings | None
    comparisons: dict[str, Comparison]  # by plan
    target: ImageStore
    source: ImageStore  # no images where there is no source
    fingerprints: dict[str, str]  # target, source: sha256 of the lists of raw files

    @property
    def modes(self) -> list[str]:
        """Modes of the protocol, in its order."""
        return list(self.protocol["modes"])

    @property
    def setting(self) -> str:
        """`unsupervised`, `semi-supervised` or `supervised`."""
        return str(self.sections["train"].setting)

    @property
    def assignment(self) -> str:
        """The method that assigns the infrared labels, as its parameter names it."""
        if self.sections["train"].objective == "prototypes":
            return str(self.sections["prototypes"].association)
        return str(self.sections["otla"].assignment)

    @property
    def assigns(self) -> bool:
        """Whether the assigned labels can differ from the argmax of the predictions."""
        return self.assignment not in ("argmax", "none")

    @property
    def rendered(self) -> bool:
        """Whether the target's images are rendered."""
        return is_rendered(self.sections["data"].root)

    @property
    def published(self) -> bool:
        """Whether the target is a published data set at the scale of its papers."""
        return self.scale == "paper" and self.dataset in PUBLISHED and not self.rendered

    @property
    def source_rendered(self) -> bool:
        """Whether the source's images are rendered.

        The roots may hold a rendered source and a real one. The number of persons tells which.
        """
        settings, data = self.sections["synthesize"], self.sections["data"]
        layout = rendered_layout(self.dataset, self.scale, settings.layout)
        roots = [root for root in (data.root, data.source_root) if root is not None]
        is_there = layout != "none" and any(map(is_rendered, roots))
        return is_there and self.metrics["source"]["train"]["persons"] == settings.source_persons


def read_run(tree: dict[str, Any], sections: dict[str, Any]) -> Run:
    """Return what the other stages wrote.

    Args:
        tree: params.yaml.
        sections: its sections as dataclasses.

    Raises:
        FileNotFoundError: names the file that is missing.
        ValueError: names the file that is not readable.
    """
    protocol = read_json(RANKINGS / "protocol.json")
    ranking = ("query", "rank", "gallery", "similarity", "correct")
    folders = {name: Path("data/images") / name for name in ("target", "source")}
    target = ImageStore(folders["target"])
    stages = ("prepare", "source", "pseudo_label", "train")
    return Run(
        dataset=tree["dataset"],
        scale=tree["scale"],
        seed=tree["seed"],
        sections=sections,
        evaluation=read_json(EVALUATION),
        protocol=protocol,
        cmc=read_csv(METRICS / "evaluate/cmc.csv", ("mode", "rank", "cmc")),
        rankings={mode: read_csv(RANKINGS / f"{mode}.csv", ranking) for mode in protocol["modes"]},
        label_epochs=read_csv(METRICS / "pseudo_label/epochs.csv", ("epoch", "phase")),
        train_epochs=read_csv(METRICS / "train/epochs.csv", ("epoch", "loss", "learning_rate")),
        metrics={name: read_json(METRICS / f"{name}.json") for name in stages},
        infrared=read_csv(Path("data/labels/infrared.csv"), ("row", "label")),
        label_counts=read_csv_if_there(COUNTS, ("epoch", "label", "assigned", "argmax")),
        attention=read_csv_if_there(ATTENTION, ("kind", "query", "key", "weight")),
        embeddings=read_embeddings(RANKINGS, len(target.table)),
        comparisons={
            path.stem: read_comparison(path) for path in sorted(COMPARISONS.glob("*.json"))
        },
        target=target,
        source=ImageStore(folders["source"]),
        fingerprints={name: file_hash(folder / "files.csv") for name, folder in folders.items()},
    )


def read_csv(path: Path, columns: tuple[str, ...]) -> pd.DataFrame:
    """Return the table of a CSV file. ValueError names the first of `columns` that it lacks."""
    try:
        table = pd.read_csv(path)
    except ValueError as error:  # pandas' own message names no file
        raise ValueError(f"{path}: {error}") from None
    for column in columns:
        if column not in table.columns:
            found = ", ".join(table.columns)
            raise ValueError(f"{path}: column {column} is missing; found {found}")
    return table


def read_csv_if_there(path: Path, columns: tuple[str, ...]) -> pd.DataFrame | None:
    """Return as `read_csv`; None if there is no such file or no row in it."""
    table = read_csv(path, columns) if path.is_file() else pd.DataFrame()
    return table if len(table) else None


def read_embeddings(folder: Path, images: int) -> Embeddings | None:
    """Return `embeddings.npy` (N, D) of the images `rows.npy` (N,); None if one is absent.

    Raises:
        ValueError: if they do not fit each other or a table of `images` rows.
    """
    paths = folder / "rows.npy", folder / "embeddings.npy"
    if not all(path.is_file() for path in paths):
        return None
    rows, values = (_read_array(path) for path in paths)
    if values.ndim != 2 or rows.shape != values.shape[:1]:
        shapes = f"{values.shape} for rows {rows.shape}"
        raise ValueError(f"{paths[1]}: {shapes}, expected (N, D) for (N,)")
    if len(rows) and (rows.min() < 0 or rows.max() >= images):
        raise ValueError(f"{paths[0]}: rows {rows.min()} to {rows.max()} of a table of {images}")
    return Embeddings(rows, values)


def _read_array(path: Path) -> np.ndarray:
    """Return the array of a .npy file. ValueError names a file that is not whole."""
    try:
        with path.open("rb") as opened:
            array: np.ndarray = np.lib.format.read_array(opened, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} is not a whole array: {error}") from None
    return array


def read_comparison(path: Path) -> Comparison:
    """Return a comparison. ValueError names a file that is not what the experiments write."""
    tree = read_json(path)
    try:
        rows = [
            Row(row["name"], row["changes"], row["metrics"], row.get("epochs") or {})
            for row in tree["rows"]
        ]
        if "table" not in tree:
            again = f"run python -m experiments {path.stem} again"
            raise ValueError(f"{path} is of an older version; {again}")
        table = tree["table"]
        heads, cells, notes = table["heads"], table["rows"], table["notes"]
        differences = None
        paired = tree.get("differences")  # files of earlier versions have none
        if paired and paired["rows"]:
            differences = Differences(paired["heads"], paired["rows"], paired["notes"])
        return Comparison(tree["title"], heads, cells, notes, rows, differences)
    except (KeyError, TypeError, AttributeError) as error:
        reason = f"{type(error).__name__} {error}"
        raise ValueError(f"{path} is not a comparison: {reason}") from None


def spread(count: int, wanted: int) -> np.ndarray:
    """Return up to `wanted` positions (M,) below `count`, ascending and evenly apart."""
    positions = np.linspace(0, max(count - 1, 0), min(count, wanted))
    return np.unique(positions.round().astype(np.int64))
