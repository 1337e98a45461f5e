"""The report's page: self-contained, accessible, the same bytes twice, whole with pieces missing; and `--show`."""

import copy
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from stages.parts.images.table import write_table
from stages.report import __main__ as report
from stages.report import figures, inputs, markup, pictures, tables

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
TERMS = ("ce_visible", "triplet_visible", "ce_infrared", "triplet_infrared", "discriminator", "alignment")
TRAIN_COLUMNS = ("loss", *TERMS, "accuracy_transport", "accuracy_argmax", "empty_labels", "transport_iterations")
LABEL_COLUMNS = ("loss_source", "loss_target", "clusters", "unclustered_share", "ari", "nmi", "purity", "persons")
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
            for split in ["train" if person <= 4 else "query" if modality == "infrared" else "gallery"]
        ]
    )


def write_parameters(folder: Path, dataset: str, setting: str, source: str) -> str:
    """params.yaml for the case; returns the layout."""
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    layout = dataset if dataset != "synthetic" else "sysu_mm01"
    tree["profiles"].setdefault(dataset, copy.deepcopy(tree["profiles"]["sysu_mm01"]))
    tree["profiles"][dataset]["data"]["layout"] = layout
    tree["profiles"][dataset]["evaluate"]["modes"] = list(MODES[layout])
    tree["dataset"], tree["train"]["setting"], tree["spcl"]["source"] = dataset, setting, source
    write(folder / "params.yaml", yaml.safe_dump(tree))
    return layout


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
        for rank, (found, owner) in enumerate(zip(gallery["row"], gallery["person"], strict=True), 1)
        if rank <= 20
    ]
    for mode in MODES[layout]:
        write(folder / f"{mode}.csv", pd.DataFrame(rows, columns=RANKING_COLUMNS))


def write_run(
    folder: Path, dataset: str = "synthetic", setting: str = "unsupervised", source: str = "market1501"
) -> None:
    """What the other stages leave behind, small."""
    layout = write_parameters(folder, dataset, setting, source)
    table = target_table(layout)
    write_store(folder / "data/images/target", table)
    sources = [(f"{p}.jpg", p, 1 + p % 6, "visible", "train") for p in range(20)] if source != "none" else []
    write_store(folder / "data/images/source", table_of(sources))
    infrared = table.loc[(table["modality"] == "infrared") & (table["split"] == "train"), "row"]
    labels = pd.DataFrame({"row": infrared, "label": np.arange(len(infrared)) % 3, "confidence": 0.5, "age": 0})
    write(folder / "data/labels/infrared.csv", labels)
    write_rankings(folder / "data/rankings", layout, table)
    scores = dict.fromkeys(MEASURES, 0.25) | {f"{name}_sd": 0.0125 for name in MEASURES}
    alone: dict[str, Any] = {mode: {"rank1": 0.1, "map": 0.08, "minp": 0.05} for mode in MODES[layout]}
    if layout == "sysu_mm01":
        alone["visible"] = {"rank1": 0.6, "map": 0.5}
    write(folder / "metrics/evaluate.json", dict.fromkeys(MODES[layout], scores) | {"pseudo_label": alone})
    curves = [
        (name, rank, rank / 20)
        for mode in MODES[layout]
        for name in (mode, f"{mode} (pseudo labels only)")
        for rank in range(1, 21)
    ]
    write(folder / "metrics/evaluate/cmc.csv", pd.DataFrame(curves, columns=["mode", "rank", "cmc"]))
    counts = {"images": len(table), "train": {"visible": 16, "infrared": 8, "persons": 4}}
    for name, facts in {"prepare": counts, "source": counts, "train": {"labels": 4}}.items():
        write(folder / f"metrics/{name}.json", facts)
    write(folder / "metrics/pseudo_label.json", {"clusters": 3, "persons": 4})
    train = pd.DataFrame({"epoch": [1, 2, 3]} | {name: [0.3, 0.2, 0.1] for name in TRAIN_COLUMNS})
    write(folder / "metrics/train/epochs.csv", train)
    epochs = pd.DataFrame({"epoch": [1, 2, 3, 4], "phase": ["warmup", "warmup", "spcl", "spcl"]})
    for name in LABEL_COLUMNS:
        epochs[name] = [None, None, 0.5, 0.6]
    write(folder / "metrics/pseudo_label/epochs.csv", epochs)
    write(folder / "logs/train.json", {"seconds": 75.0})


def page_of(folder: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(folder)
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


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("run")
    write_run(made)
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return page_of(folder, monkeypatch)


def test_page_needs_nothing_from_elsewhere(page: str) -> None:
    reader = Reader(page)
    ids = [attributes["id"] for _, attributes, _ in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes, _ in reader.elements:
        assert tag not in ("script", "iframe", "object", "embed")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            address = attributes.get(name, "data:")
            assert address.startswith(("data:", "#"))
            assert not address.startswith("#") or address[1:] in ids
    assert not re.search(r"url\((?!#)|@import|http-equiv=.refresh", page)
    policy = next(a["content"] for a in reader.all("meta") if a.get("http-equiv") == "Content-Security-Policy")
    assert "default-src 'none'" in policy
    assert len(page.encode()) < 3_000_000


def test_page_can_be_read_without_seeing_it(page: str) -> None:
    reader = Reader(page)
    pictures_shown = reader.all("img")
    assert len(pictures_shown) > 50
    assert all(len(attributes.get("alt", "")) > 5 for attributes in pictures_shown)
    drawings = [a for a in reader.all("svg") if a.get("aria-hidden") != "true"]
    assert len(drawings) == 2 + 3 + 2 + 6  # CMC, visible labels, infrared labels, losses
    assert all(a["role"] == "img" and len(a["aria-label"]) > 20 for a in drawings)
    levels = [int(tag[1]) for tag, _, _ in reader.elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later <= earlier + 1 for earlier, later in pairwise(levels))
    assert len(reader.all("table")) == len(reader.all("caption")) > 10
    assert all(attributes.get("scope") in ("row", "col") for attributes in reader.all("th"))
    assert 'lang="en"' in page
    assert 'name="viewport"' in page


def test_page_suits_light_dark_and_paper(page: str) -> None:
    style = page[page.index("<style>") : page.index("</style>")]
    assert "@media (prefers-color-scheme: dark)" in style
    assert "@media print" in style
    declared = set(re.findall(r"--([a-z-]+):", style))
    used = set(re.findall(r"var\(--([a-z-]+)\)", page))
    assert used <= declared
    assert not any(color in page for color in figures.STAND_INS.values())
    assert not re.search(r"(fill|stroke): #", page[page.index("</style>") :])  # would not follow the scheme


@pytest.mark.parametrize("block", ["light", "dark"])
def test_letters_stand_out_from_what_is_behind(block: str) -> None:
    """WCAG 2.1: text needs a contrast of 4.5."""
    blocks = (ROOT / "stages/report/page.css").read_text().split("@media (prefers-color-scheme: dark)")
    css = blocks[0] if block == "light" else blocks[1]
    colors = dict(reversed(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", css)))  # the first of a name counts

    def luminance(color: str) -> float:
        parts = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(colors[one]), luminance(colors[other])))
        return (high + 0.05) / (low + 0.05)

    for name in ("ink", "muted", "visible", "infrared", "full", "alone", "other", "right", "wrong"):
        assert min(contrast(name, "ground"), contrast(name, "card")) >= 4.5, name
    assert contrast("warning-ink", "warning") >= 4.5


def test_same_bytes_twice_but_for_run_times(folder: Path, page: str, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder / "logs/train.json", {"seconds": 3725.0})
    again = page_of(folder, monkeypatch)
    write(folder / "logs/train.json", {"seconds": 75.0})
    assert "1 min 15 s" in page
    assert again.replace("1 h 02 min", "1 min 15 s") == page


def test_numbers_on_the_page_are_those_of_the_files(page: str) -> None:
    words = " ".join(Reader(page).words)
    assert "25.00 ± 1.25" in words
    assert "2.50 times as many" in words
    assert "Rank-1 60.00 % and mAP 50.00 %" in words
    assert "mean ± sd over 10 gallery draws" in words
    assert "not recorded" in words  # stages without a log


def test_one_gallery_has_no_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, "regdb")
    words = " ".join(Reader(page_of(tmp_path, monkeypatch)).words)
    assert "one gallery, no draws" in words
    assert "25.00" in words
    assert "±" not in words


def test_curves_below_zero_stay_in_the_drawing() -> None:
    y = np.array([0.2, -0.05])
    chart = figures.Chart("ARI", "epoch", (figures.Series("ARI", np.array([1.0, 2.0]), y, "full"),), top=1)
    svg = figures.draw(chart, "x")
    path = re.search(r'<path d="([^"]*)"[^>]*stroke: var\(--full\); stroke-width: 1\.8', svg)
    assert path is not None
    ends = [float(part.split()[-1]) for part in re.split("[ML]", path[1])[1:]]
    assert ends[0] < ends[1] <= figures.HEIGHT * (1 - 0.165) + 0.01  # downwards, and above the labels of the axis
    assert svg == figures.draw(chart, "x") != figures.draw(chart, "y")
    assert "ARI from 0.2 at 1 to -0.05 at 2" in svg


def test_frames_and_marks_follow_the_ranking(folder: Path, page: str) -> None:
    ranking = pd.read_csv(folder / "data/rankings/all.csv")
    reader = Reader(page)
    kinds = [a.get("class") for a in reader.all("figure")]
    marks = [a["alt"] for a in reader.all("img") if a["alt"].startswith("Rank ")]
    shown = ranking.loc[ranking["rank"] <= pictures.SHOWN].groupby("query")["correct"].sum()
    asked = ranking["query"].unique()[[0, 2, 4, 6]]  # each test identity once; both modes have the same lists
    expected = 2 * int(shown.loc[asked].sum())
    assert kinds.count("right") == sum(", right:" in mark for mark in marks) == expected > 0
    assert kinds.count("wrong") == sum(", wrong:" in mark for mark in marks) == 2 * 4 * pictures.SHOWN - expected
    words = "".join(reader.words)
    assert words.count("✓ ") == expected
    for person, rank in zip((5, 6, 7, 8), (1, 5, 9, 13), strict=True):  # four cameras an identity, in order
        assert words.count(f"Person {person}, camera 3: first right at rank {rank}") == 2


def test_synthetic_data_say_so_and_show_no_published_numbers(page: str) -> None:
    assert "Rendered data, not comparable with published numbers." in page
    assert "SYSU-MM01 (rendered stand-in), unsupervised, source Market-1501 (rendered)" in page
    assert "Paper" not in page


@pytest.mark.parametrize(
    ("dataset", "setting", "expected", "absent"),
    [
        ("sysu_mm01", "unsupervised", ["29.9", "27.1", "29.8", "38.8"], "48.2"),
        ("sysu_mm01", "semi-supervised", ["48.2", "43.9", "47.4", "56.8"], "29.9"),
        ("sysu_mm01", "supervised", ["29.9", "48.2"], "32.9"),
        ("regdb", "unsupervised", ["32.9", "29.7", "32.1", "28.6"], "29.9"),
        ("regdb", "semi-supervised", ["49.9", "41.8", "49.6", "42.8"], "32.1"),
        ("llcm", "unsupervised", [], "Paper"),
    ],
)
def test_real_data_stand_beside_the_papers_numbers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    dataset: str,
    setting: str,
    expected: list[str],
    absent: str,
) -> None:
    write_run(tmp_path, dataset, setting)
    reader = Reader(page_of(tmp_path, monkeypatch))
    assert set(expected) <= set(reader.words)
    assert not any(absent in word for word in reader.words)
    assert not any("Rendered" in word for word in reader.words)


def test_no_logs_no_source_no_clustering_one_mode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, "synthetic", "supervised", "none")
    (tmp_path / "logs/train.json").unlink()
    epochs = pd.read_csv(tmp_path / "metrics/pseudo_label/epochs.csv")
    write(tmp_path / "metrics/pseudo_label/epochs.csv", epochs.iloc[:0])
    labels = pd.read_csv(tmp_path / "data/labels/infrared.csv")
    write(tmp_path / "data/labels/infrared.csv", labels.assign(label=-1))
    trained = pd.read_csv(tmp_path / "metrics/train/epochs.csv").iloc[:1]
    empty = ["accuracy_transport", "transport_iterations", "discriminator", "alignment", "ce_infrared"]
    write(tmp_path / "metrics/train/epochs.csv", trained.assign(**dict.fromkeys(empty)))
    facts = json.loads((tmp_path / "data/rankings/protocol.json").read_text())
    write(tmp_path / "data/rankings/protocol.json", facts | {"modes": ["all"]})
    reader = Reader(page_of(tmp_path, monkeypatch))
    words = " ".join(reader.words)
    assert "no clustering was run" in words
    assert "No source" in words
    assert "training used the true visible and infrared labels" in words
    assert "Indoor" not in words
    drawings = [a["aria-label"] for a in reader.all("svg") if "aria-label" in a]
    assert len(drawings) == 1 + 1 + 3  # CMC, right infrared labels, total, cross-entropy, triplet
    assert not any("transport" in label or "nan" in label for label in drawings)
    assert len(Reader((tmp_path / "metrics/report/index.html").read_text()).all("section")) == 6


def test_warm_up_alone_is_no_clustering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, "synthetic", "semi-supervised")
    epochs = pd.read_csv(tmp_path / "metrics/pseudo_label/epochs.csv").iloc[:2]
    write(tmp_path / "metrics/pseudo_label/epochs.csv", epochs.assign(loss_source=[2.0, 1.0]))
    page = page_of(tmp_path, monkeypatch)
    assert "source from 2 at 1 to 1 at 2" in page
    assert "before the first clustering" not in page


def test_a_missing_file_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_run(tmp_path)
    (tmp_path / "metrics/evaluate/cmc.csv").unlink()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit, match=r"error in report: .*metrics/evaluate/cmc\.csv"):
        report.main([])
    assert not (tmp_path / "metrics/report").exists()


def test_a_missing_column_is_named(tmp_path: Path) -> None:
    write(tmp_path / "x.csv", "epoch,cmc\n1,2\n")
    with pytest.raises(ValueError, match=r"x\.csv: column rank is missing; found epoch, cmc"):
        inputs.read_csv(tmp_path / "x.csv", ("epoch", "rank"))


def test_show_prints_the_table(folder: Path, page: str, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.chdir(folder)
    report.main(["--show"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["all", "indoor"]
    assert [line.split()[0] for line in lines[2:8]] == ["Rank-1", "Rank-5", "Rank-10", "Rank-20", "mAP", "mINP"]
    assert lines[2].split() == ["Rank-1", *["25.00", "±", "1.25", "10.00"] * 2]
    assert lines[3].split() == ["Rank-5", *["25.00", "±", "1.25", "–"] * 2]
    assert lines[8].split()[:3] == ["ratio", "2.50", "2.50"]
    assert lines[-1] == "report: metrics/report/index.html"
    assert max(map(len, lines)) <= 100


def test_show_reads_the_metrics_file_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    scores = dict.fromkeys(MEASURES, 0.5) | {f"{name}_sd": 0.0 for name in MEASURES}
    write(tmp_path / "metrics/evaluate.json", {"all": scores, "pseudo_label": {"all": {"rank1": 0.0}}})
    monkeypatch.chdir(tmp_path)
    report.main(["--show"])
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("ratio")).split()[1] == "–"
    assert lines[-1].startswith("report: not written")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "metrics/evaluate.json is not here"),
        ("{", "metrics/evaluate.json is not what"),
        ('{"all": {}}', "metrics/evaluate.json is not what"),
        ("[]", "metrics/evaluate.json is not what"),
    ],
)
def test_show_without_a_result_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None, message: str
) -> None:
    if content is not None:
        write(tmp_path / "metrics/evaluate.json", content)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        report.main(["--show"])
    assert isinstance(stopped.value.code, str)  # Python prints it and ends with 1
    assert message in stopped.value.code
    assert "\n" not in stopped.value.code


def test_markup_cannot_be_broken_by_names() -> None:
    nasty = "<b onload='x'>\"&"
    cells = markup.table(markup.Table(nasty, [nasty, nasty], [[nasty, nasty]]))
    assert Reader(cells + markup.tag("img", alt=nasty)).all("b") == []
    assert Reader(markup.tag("img", alt=nasty)).all("img")[0]["alt"] == nasty


def test_spread_is_even_and_keeps_both_ends() -> None:
    for count in range(1, 40):
        chosen = pictures.spread(count, 6)
        assert len(chosen) == min(count, 6)
        assert len(set(chosen)) == len(chosen)
        assert (chosen[0], chosen[-1]) == (0, count - 1) or count == 1
        assert np.ptp(np.diff(chosen)) <= 1 if count > 2 else True
    assert len(pictures.spread(0, 6)) == 0


@pytest.mark.parametrize(
    ("seconds", "said"), [(None, "not recorded"), (5.04, "5.0 s"), (75, "1 min 15 s"), (3599.7, "1 h 00 min")]
)
def test_durations_are_said_as_people_do(seconds: float | None, said: str) -> None:
    assert tables.duration(seconds) == said


def test_plot_template_draws_each_mode_and_each_revision(tmp_path: Path) -> None:
    from dvc_render.vega import VegaRenderer

    points = [
        {"mode": mode, "rank": rank, "cmc": 0.5, "rev": rev}
        for mode in ("all", "indoor")
        for rank in (1, 2)
        for rev in ("HEAD", "workspace")
    ]
    renderer = VegaRenderer(points, "cmc", template="cmc", template_dir=str(ROOT / ".dvc/plots"), x="rank", y="cmc")
    filled = renderer.get_filled_template()
    assert "<DVC_METRIC" not in json.dumps(filled)
    assert filled["data"]["values"] == points
    assert filled["encoding"]["color"]["field"] == "mode"
    assert filled["encoding"]["strokeDash"]["field"] == "rev"
    assert (filled["encoding"]["x"]["field"], filled["encoding"]["y"]["field"]) == ("rank", "cmc")
    assert "transform" not in filled  # no smoothing
