"""A made-up run for the report's tests, small, and a reader of the page."""

import json
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from experiments.tables import side_by_side
from stages.parts.images.store import seal
from stages.parts.images.table import write_table
from stages.report import __main__ as report

ROOT = Path(__file__).parents[1]
MODES = {
    "sysu_mm01": ("all", "indoor"),
    "regdb": ("infrared_to_visible", "visible_to_infrared"),
    "llcm": ("infrared_to_visible", "visible_to_infrared"),
}
CAMERAS = {
    "sysu_mm01": {"visible": (1, 2, 4, 5), "infrared": (3, 6)},
    "regdb": {"visible": (1,), "infrared": (2,)},
    "llcm": {"visible": range(1, 10), "infrared": range(1, 10)},
}
MEASURES = ("rank1", "rank5", "rank10", "rank20", "map", "minp")
TERMS = (
    "ce_visible",
    "triplet_visible",
    "ce_infrared",
    "triplet_infrared",
    "discriminator",
    "alignment",
)
LABELS = ("accuracy", "accuracy_argmax", "label_entropy", "label_max_share", "empty_labels")
TRAIN_COLUMNS = ("loss", *TERMS, "learning_rate", *LABELS, "assignment_iterations")
LABEL_COLUMNS = (
    "loss_source",
    "loss_target",
    "clusters",
    "unclustered_share",
    "ari",
    "nmi",
    "purity",
    "persons",
)
RANKING_COLUMNS = ["query", "rank", "gallery", "similarity", "correct"]
VOID = {"img", "meta", "link", "br"}


def write(path: Path, content: Any) -> None:
    """JSON for trees, CSV for tables, text as it is; folders as needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(content, pd.DataFrame):
        content.to_csv(path, index=False)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def write_store(folder: Path, table: pd.DataFrame) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rows = len(table)
    pixels = np.random.default_rng(rows).integers(0, 256, (rows, 32, 16, 3), dtype=np.uint8)
    np.save(folder / "pixels.npy", pixels)
    write_table(table, folder / "table.csv")
    write(folder / "files.csv", pd.DataFrame({"row": range(rows), "bytes": 9, "sha256": "ab"}))
    seal(folder)


def table_of(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    names = ["path", "person", "camera", "modality", "split"]
    return pd.DataFrame(rows, columns=names).rename_axis("row").reset_index()


def target_table(layout: str) -> pd.DataFrame:
    """Eight identities, half of them for testing; each camera sees each once."""
    return table_of(
        [
            (f"{modality}/cam{camera}/{person:04d}.jpg", person, camera, modality, split)
            for person in range(1, 9)
            for modality, cameras in CAMERAS[layout].items()
            for camera in cameras
            for split in [
                "train" if person <= 4 else "query" if modality == "infrared" else "gallery"
            ]
        ]
    )


def write_parameters(folder: Path, changes: dict[str, Any]) -> None:
    """Write params.yaml with values by name, `train.setting`."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    for name, value in changes.items():
        section, _, leaf = name.rpartition(".")
        (tree[section] if section else tree)[leaf] = value
    write(folder / "params.yaml", yaml.safe_dump(tree))


def write_rankings(folder: Path, layout: str, table: pd.DataFrame) -> None:
    query, gallery = table.loc[table["split"] == "query"], table.loc[table["split"] == "gallery"]
    facts = {
        "layout": layout,
        "modes": list(MODES[layout]),
        "draws": "agw" if layout != "regdb" else "none: the gallery is all images",
        "trials": 10 if layout != "regdb" else 1,
        "shots": 1 if layout != "regdb" else None,
        "queries": dict.fromkeys(MODES[layout], len(query)),
        "gallery": dict.fromkeys(MODES[layout], len(gallery)),
        "unmatched": dict.fromkeys(MODES[layout], 0),
        "flip": False,
        "checkpoint": "last epoch",
        "data": "ab" * 32,
        "architecture": "narrow",
    }
    write(folder / "protocol.json", facts)
    rows = [
        (asked, rank, found, 1 - rank / 20, int(person == owner))
        for asked, person in zip(query["row"], query["person"], strict=True)
        for rank, (found, owner) in enumerate(
            zip(gallery["row"], gallery["person"], strict=True), 1
        )
        if rank <= 20
    ]
    for mode in MODES[layout]:
        write(folder / f"{mode}.csv", pd.DataFrame(rows, columns=RANKING_COLUMNS))


def write_run(
    folder: Path,
    layout: str = "sysu_mm01",
    scale: str = "small",
    setting: str = "unsupervised",
    source: str = "market1501",
    **changes: Any,
) -> None:
    """What the other stages leave behind, small."""
    chosen = {"dataset": layout, "scale": scale, "train.setting": setting, "spcl.source": source}
    write_parameters(folder, chosen | changes)
    table = target_table(layout)
    write_store(folder / "data/images/target", table)
    sources = (
        [(f"{p}.jpg", p, 1 + p % 6, "visible", "train") for p in range(20)]
        if source != "none"
        else []
    )
    write_store(folder / "data/images/source", table_of(sources))
    infrared = table.loc[(table["modality"] == "infrared") & (table["split"] == "train"), "row"]
    labels = pd.DataFrame(
        {"row": infrared, "label": np.arange(len(infrared)) % 3, "confidence": 0.5, "age": 0}
    )
    write(folder / "data/labels/infrared.csv", labels)
    write_rankings(folder / "data/rankings", layout, table)
    scores = dict.fromkeys(MEASURES, 0.25) | {f"{name}_sd": 0.0125 for name in MEASURES}
    alone: dict[str, Any] = {
        mode: {"rank1": 0.1, "map": 0.08, "minp": 0.05} for mode in MODES[layout]
    }
    if layout == "sysu_mm01":
        alone["visible"] = {"rank1": 0.6, "map": 0.5}
    write(
        folder / "metrics/evaluate.json",
        dict.fromkeys(MODES[layout], scores) | {"pseudo_label": alone},
    )
    curves = [
        (name, rank, rank / 20)
        for mode in MODES[layout]
        for name in (mode, f"{mode} (pseudo labels only)")
        for rank in range(1, 21)
    ]
    write(
        folder / "metrics/evaluate/cmc.csv", pd.DataFrame(curves, columns=["mode", "rank", "cmc"])
    )
    counts = {"images": len(table), "train": {"visible": 16, "infrared": 8, "persons": 4}}
    rendered = {"visible": 1600, "infrared": 0, "persons": 200}  # as synthesize makes them
    written = {"images": 1600, "train": rendered}
    for name, facts in {"prepare": counts, "source": written, "train": {"labels": 4}}.items():
        write(folder / f"metrics/{name}.json", facts)
    write(folder / "metrics/pseudo_label.json", {"clusters": 3, "persons": 4})
    train = pd.DataFrame({"epoch": [1, 2, 3]} | {name: [0.3, 0.2, 0.1] for name in TRAIN_COLUMNS})
    write(folder / "metrics/train/epochs.csv", train)
    epochs = pd.DataFrame({"epoch": [1, 2, 3, 4], "phase": ["warmup", "warmup", "spcl", "spcl"]})
    for name in LABEL_COLUMNS:
        epochs[name] = [None, None, 0.5, 0.6]
    write(folder / "metrics/pseudo_label/epochs.csv", epochs)
    write(folder / "logs/train.json", {"seconds": 75.0})


def write_extras(folder: Path) -> None:
    """What a run may lack: embeddings, counts, attention, times by epoch, a comparison."""
    draws = np.random.default_rng(0)
    table = pd.read_csv(folder / "data/images/target/table.csv")
    tested = table.loc[table["split"].isin(("query", "gallery"))]
    places = draws.normal(size=(9, 8))[tested["person"]] + 0.1 * draws.normal(size=(len(tested), 8))
    np.save(folder / "data/rankings/rows.npy", tested["row"].to_numpy())
    np.save(folder / "data/rankings/embeddings.npy", places.astype(np.float32))
    counts = [(epoch, label, 2, (5, 2, 1, 0)[label]) for epoch in range(1, 6) for label in range(4)]
    columns = ["epoch", "label", "assigned", "argmax"]
    write(folder / "data/labels/infrared_counts.csv", pd.DataFrame(counts, columns=columns))
    trained = table.loc[table["split"] == "train"]
    # A label with few images repeats some.
    chosen = {"visible": [0, 1, 2, 3, 4, 5], "infrared": [0, 0, 2, 3, 4, 5]}
    rows = {
        name: trained.loc[trained["modality"] == name, "row"].to_numpy()[at]
        for name, at in chosen.items()
    }
    cells = [
        (kind, query, key, 0.5 if number == place else 0.1)
        for kind, name in (("v2i", "visible"), ("i2i", "infrared"))
        for place, query in enumerate(rows[name])
        for number, key in enumerate(rows["infrared"])
    ]
    write(
        folder / "data/attention.csv",
        pd.DataFrame(cells, columns=["kind", "query", "key", "weight"]),
    )
    times = [
        {"epoch": e, "train_seconds": 9.0, "label_seconds": 1.0, "assignment_seconds": 0.2}
        for e in (1, 2, 3)
    ]
    write(folder / "logs/train_epochs.jsonl", "".join(json.dumps(line) + "\n" for line in times))
    write(folder / "metrics/comparisons/ablation.json", comparison())


def comparison() -> dict[str, Any]:
    """Two variants with three seeds, one with one seed, without epochs and with a paper's row."""
    rows = [
        {
            "name": f"group: {name}",
            "changes": [f"den.enabled={name}"],
            "seeds": [0, 1, 2],
            "metrics": {"all.rank1": values, "all.minp": values, "visible.ari": [0.5, 0.5, None]},
            "epochs": {
                "accuracy": [[0.1, 0.2], [0.3], [0.2, None]],
                "accuracy_argmax": [],
                "label_entropy": [[0.5]] * 3,
            },
            "seconds": [60.0, 62.0, 64.0],
        }
        for name, values in (("true", [0.2, 0.3, 0.4]), ("false", [0.1, 0.1, 0.1]))
    ]
    alone = {
        "name": "alone",
        "changes": [],
        "seeds": [0],
        "metrics": {"all.rank1": [0.5]},
        "seconds": [None],
    }
    rows.append({**alone, "published": {"all.rank1": 0.299}})
    notes = ["Mean ± sample standard deviation over seed 0, 1, 2.", "A second note."]
    table = side_by_side(rows) | {"notes": notes}
    paired = {
        "heads": ["difference, points", "against", "pairs", "all Rank-1"],
        "rows": [["group: false", "group: true", "3", "-20.0 ± 24.8 (n. d.)"]],
        "notes": ["Differences by seed."],
    }
    tree = {"plan": "ablation", "title": "Parts & pieces", "table": table, "rows": rows}
    return tree | {"differences": paired}


def page_of(folder: Path, monkeypatch: pytest.MonkeyPatch, figures: bool = False) -> str:
    """The page that the report writes about the run in `folder`; PNG files only if asked for."""
    monkeypatch.chdir(folder)
    if not figures:
        monkeypatch.setattr(report, "png", lambda drawings: b"")
    report.main([])
    assert sorted(path.name for path in (folder / "metrics/report").iterdir()) == ["index.html"]
    return (folder / "metrics/report/index.html").read_text()


class Reader(HTMLParser):
    """Collects elements; an element that is closed in the wrong order is an error."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str], tuple[str, ...]]] = []
        self.words: list[str] = []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """HTMLParser's: `<tag>`."""
        self.elements.append((tag, {key: value or "" for key, value in attrs}, tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """HTMLParser's: `<tag/>`."""
        self.elements.append((tag, {key: value or "" for key, value in attrs}, tuple(self.open)))

    def handle_endtag(self, tag: str) -> None:
        """HTMLParser's: `</tag>`."""
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        """HTMLParser's: text."""
        if "style" not in self.open:
            self.words.append(data)

    def all(self, *names: str) -> list[dict[str, str]]:
        """Attributes of every element of these names."""
        return [attributes for tag, attributes, _ in self.elements if tag in names]
