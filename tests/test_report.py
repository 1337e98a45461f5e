"""The report's page: self-contained, accessible, the same bytes twice, whole without some files."""

import io
import json
import os
import re
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_run import Reader, page_of, write, write_extras, write_run

from stages.report import __main__ as report
from stages.report import inputs
from stages.report.figures import chart, drawing
from stages.report.page import pictures
from stages.report.page.sections import TIMES

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("run")
    write_run(made)
    write_extras(made)
    return made


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    with pytest.MonkeyPatch.context() as monkeypatch:
        return page_of(folder, monkeypatch, figures=True)


def test_page_needs_nothing_from_elsewhere(page: str) -> None:
    reader = Reader(page)
    ids = [attributes["id"] for _, attributes, _ in reader.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    for tag, attributes, _ in reader.elements:
        assert tag not in ("script", "iframe", "object", "embed")
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href"):
            address = attributes.get(name, "data:")
            assert address.startswith(("data:", "#")) or (tag == "a" and address == TIMES)
            assert not address.startswith("#") or address[1:] in ids
    assert not re.search(r"url\((?!#)|@import|http-equiv=.refresh", page)
    policy = next(
        a["content"] for a in reader.all("meta") if a.get("http-equiv") == "Content-Security-Policy"
    )
    assert "default-src 'none'" in policy
    assert len(page.encode()) < 3_000_000


def test_page_can_be_read_without_seeing_it(page: str) -> None:
    reader = Reader(page)
    pictures_shown = reader.all("img")
    assert len(pictures_shown) > 50
    assert all(len(attributes.get("alt", "")) > 5 for attributes in pictures_shown)
    drawings = [a for a in reader.all("svg") if a.get("aria-hidden") != "true"]
    # CMC, comparison (dots, charts by group), visible and infrared labels, counts, attention,
    # embeddings, losses
    assert len(drawings) == 2 + (3 + 2) + 3 + 3 + 3 + 2 + 1 + 6
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
    for block in style.split("@media"):  # light, dark, then rules for sizes, then paper
        declared = set(re.findall(r"--([a-z-]+):", block))
        assert not declared or set(re.findall(r"var\(--([a-z-]+)\)", page)) <= declared
    body = page[page.index("</style>") :]
    assert not any(color in body for color in drawing.COLORS.values())
    assert not re.search(r"(fill|stroke): #", body)  # would not follow the scheme


@pytest.mark.parametrize("block", ["light", "dark"])
def test_letters_stand_out_from_what_is_behind(block: str) -> None:
    """WCAG 2.1: text needs a contrast of 4.5."""
    light, dark, _ = (ROOT / "stages/report/colors.css").read_text().split("@media")
    css = light if block == "light" else dark
    colors = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{6});", css))

    def luminance(color: str) -> float:
        parts = np.array([int(color[at : at + 2], 16) for at in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    def contrast(one: str, other: str) -> float:
        low, high = sorted((luminance(colors[one]), luminance(colors[other])))
        return (high + 0.05) / (low + 0.05)

    for name in (
        "ink",
        "muted",
        "visible",
        "infrared",
        "full",
        "alone",
        "other",
        "right",
        "wrong",
        *drawing.PERSONS,
    ):
        assert min(contrast(name, "ground"), contrast(name, "card")) >= 4.5, name
    assert contrast("warning-ink", "warning") >= 4.5


def figures_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (folder / "metrics/figures").iterdir()}


def test_run_times_change_no_byte_of_page_and_figures(
    folder: Path, page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    for log in (copy / "logs").iterdir():
        log.unlink()
    assert page_of(copy, monkeypatch, figures=True) == page
    write(copy / "logs/train.json", {"seconds": 3725.0})
    write(copy / "logs/evaluate.json", {"seconds": 5.0})
    epoch = {"epoch": 1, "train_seconds": 70, "label_seconds": 30, "assignment_seconds": 20}
    write(copy / "logs/train_epochs.jsonl", json.dumps(epoch))
    assert page_of(copy, monkeypatch, figures=True) == page
    assert figures_of(copy) == figures_of(folder)


def test_another_environment_changes_no_byte_of_page_and_figures(
    folder: Path, page: str, tmp_path: Path
) -> None:
    """Other orders of sets, another folder, time zone and locale, a matplotlibrc of the user."""
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    shutil.rmtree(copy / "metrics/report")
    write(copy / "matplotlibrc", "font.size: 20\nsavefig.bbox: tight\nlines.linewidth: 5\n")
    settings = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONPATH": str(ROOT)}
    settings |= {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # ASCII, not Python's UTF-8 for C
    command = [sys.executable, "-m", "stages.report"]
    subprocess.run(command, cwd=copy, env=os.environ | settings, check=True)
    assert (copy / "metrics/report/index.html").read_text() == page
    assert figures_of(copy) == figures_of(folder)
    shown = [*command, "--show"]
    said = subprocess.run(
        shown, cwd=copy, env=os.environ | settings, check=True, capture_output=True
    )
    assert rb"30.00 \xb1" in said.stdout or rb"\u2013" in said.stdout


def test_run_times_are_on_a_page_of_their_own(folder: Path, page: str) -> None:
    written = folder / "metrics/report" / TIMES
    assert written.resolve() == (folder / report.TIMES).resolve()
    reader = Reader(written.read_text())
    assert "1 min 15 s" in reader.words
    assert "not recorded" in reader.words  # stages without a log
    assert np.__version__ in reader.words
    sentence = "Optimal transport takes 0.2 s of the 10.0 s of an epoch on average: 2 %."
    assert sentence in reader.words
    assert len(reader.all("svg")) == 1
    for words in ("1 min 15 s", "on average", np.__version__):
        assert words not in page


def test_figures_are_small_png_files(folder: Path, page: str) -> None:
    files = figures_of(folder)
    assert sorted(files) == [
        "attention.png",
        "cmc.png",
        "comparison_ablation.png",
        "embeddings.png",
        "infrared_labels.png",
        "label_counts.png",
        "losses.png",
        "visible_labels.png",
    ]
    assert sum(map(len, files.values())) < 600_000
    for content in files.values():
        picture = Image.open(io.BytesIO(content))
        assert picture.format == "PNG"
        assert picture.info == {}  # neither a clock nor a version
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 2


def test_numbers_on_the_page_are_those_of_the_files(page: str) -> None:
    words = " ".join(Reader(page).words)
    assert "25.00 ± 1.25" in words
    assert "2.50 times as many" in words
    assert "Rank-1 60.00 % and mAP 50.00 %" in words
    assert "mean ± sd over 10 gallery draws" in words


def test_one_gallery_has_no_spread(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, "regdb")
    words = " ".join(Reader(page_of(tmp_path, monkeypatch)).words)
    assert "one gallery, no draws" in words
    assert "25.00" in words
    assert "±" not in words


def test_curves_below_zero_stay_in_the_drawing() -> None:
    y = np.array([0.2, -0.05])
    line = chart.Series("ARI", np.array([1.0, 2.0]), y, chart.FULL)
    drawn = chart.draw(chart.Chart("ARI", "epoch", [line], top=1))
    svg = drawing.svg(drawn, "x")
    look = r"[^>]*stroke: var\(--full\); stroke-width: 1\.8"
    path = re.search(r'<path d="([^"]*)"' + look, svg)
    assert path is not None
    ends = [float(part.split()[-1]) for part in re.split("[ML]", path[1])[1:]]
    _, height = drawing.size(drawn)
    # downwards, and above the labels of the axis
    assert ends[0] < ends[1] <= height - drawing.BELOW + 0.01
    assert svg == drawing.svg(drawn, "x") != drawing.svg(drawn, "y")
    assert "ARI from 0.2 at 1 to -0.05 at 2" in drawn.words


def test_frames_and_marks_follow_the_ranking(folder: Path, page: str) -> None:
    ranking = pd.read_csv(folder / "data/rankings/all.csv")
    reader = Reader(page)
    seen = [(tag, a) for tag, a, inside in reader.elements if "details" not in inside]
    kinds = [a.get("class") for tag, a in seen if tag == "figure"]
    marks = [a["alt"] for tag, a in seen if tag == "img" and a["alt"].startswith("Rank ")]
    shown = ranking.loc[ranking["rank"] <= pictures.SHOWN].groupby("query")["correct"].sum()
    asked = ranking["query"].unique()[
        [0, 2, 4, 6]
    ]  # each test identity once; both modes have the same lists
    expected = 2 * int(shown.loc[asked].sum())
    assert kinds.count("right") == sum(", right:" in mark for mark in marks) == expected > 0
    assert (
        kinds.count("wrong")
        == sum(", wrong:" in mark for mark in marks)
        == 2 * 4 * pictures.SHOWN - expected
    )
    words = "".join(reader.words)
    assert words.count("✓ ") == sum(a.get("class") == "right" for a in reader.all("figure"))
    # four cameras an identity, in order; whoever is not found at once is a failure too
    for person, rank, times in zip((5, 6, 7, 8), (1, 5, 9, 13), (2, 4, 4, 4), strict=True):
        assert words.count(f"Person {person}, camera 3: first right at rank {rank}") == times


def test_failures_are_folded_up_the_hardest_first(page: str) -> None:
    reader = Reader(page)
    assert [a for a in reader.all("details") if "open" in a] == []
    assert (
        "Hardest failures first: 3 persons, from 6 queries whose first result is wrong"
        in reader.words
    )
    asked = [a["alt"] for tag, a, inside in reader.elements if "details" in inside and tag == "img"]
    asked = [alt for alt in asked if alt.startswith("Query")]
    assert asked == 2 * [f"Query: person {person}, camera 3" for person in (8, 7, 6)]


def test_hardness_is_the_depth_of_the_first_right_answer_then_certainty() -> None:
    found = {
        1: [1, 0, 0],
        2: [0, 0, 1],
        3: [0, 0, 0],
        4: [0, 1, 1],
        5: [0, 0, 0],
        6: [0, 1, 0],
    }  # by rank
    surest = {1: 0.9, 2: 0.9, 3: 0.4, 4: 0.5, 5: 0.6, 6: 0.7}
    rows = [
        (q, rank, surest[q] - rank / 10, c)
        for q, right in found.items()
        for rank, c in enumerate(right, 1)
    ]
    ranking = pd.DataFrame(rows, columns=["query", "rank", "similarity", "correct"])
    assert pictures.hardest_queries(ranking).tolist() == [5, 3, 2, 6, 4]
    assert pictures.hardest_queries(ranking.sample(frac=1, random_state=0)).tolist() == [
        5,
        3,
        2,
        6,
        4,
    ]
    assert len(pictures.hardest_queries(ranking.loc[ranking["query"] == 1])) == 0


def test_synthetic_data_say_so_and_show_no_published_numbers(page: str) -> None:
    assert page.count("Synthetic data, not comparable with published numbers.") == 1
    assert "SYSU-MM01 (rendered stand-in), unsupervised, source Market-1501 (rendered)" in page
    assert "Paper" not in page


@pytest.mark.parametrize(
    ("layout", "setting", "expected", "absent"),
    [
        ("sysu_mm01", "unsupervised", ["29.9", "27.1", "29.8", "38.8"], "48.2"),
        ("sysu_mm01", "semi-supervised", ["48.2", "43.9", "47.4", "56.8"], "29.9"),
        ("sysu_mm01", "supervised", ["29.9", "48.2"], "32.9"),
        ("regdb", "unsupervised", ["32.9", "29.7", "32.1", "28.6"], "29.9"),
        ("regdb", "semi-supervised", ["49.9", "41.8", "49.6", "42.8"], "32.1"),
        ("llcm", "unsupervised", ["The paper reports no numbers on LLCM."], "Paper"),
    ],
)
def test_real_data_stand_beside_the_papers_numbers(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    layout: str,
    setting: str,
    expected: list[str],
    absent: str,
) -> None:
    write_run(tmp_path, layout, "paper", setting)
    reader = Reader(page_of(tmp_path, monkeypatch))
    assert set(expected) <= set(reader.words)
    assert not any(absent in word for word in reader.words)
    assert not any("ynthetic data" in word or "rendered" in word for word in reader.words)
    assert not any("not comparable" in word for word in reader.words)
    differs = [word for word in reader.words if "This run differs" in word]
    assert len(differs) == (setting == "supervised")


@pytest.mark.parametrize(
    ("scale", "root", "title", "warning"),
    [
        (
            "small",
            "data/raw",
            "a tree like RegDB's",
            "Data of your own, or not at the paper's scale",
        ),
        ("small", "data/synthetic", "RegDB (rendered stand-in)", "Synthetic data"),
        ("paper", "data/synthetic", "RegDB (rendered stand-in)", "Synthetic data"),
    ],
)
def test_other_data_stand_alone(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scale: str,
    root: str,
    title: str,
    warning: str,
) -> None:
    write_run(tmp_path, "regdb", scale, **{"data.root": root})
    page = page_of(tmp_path, monkeypatch)
    assert f"<h1>{title.replace(chr(39), '&#x27;')}, unsupervised" in page
    words = Reader(page).words
    assert f"{warning}, not comparable with published numbers." in words
    assert not any("Paper" in word for word in words)


def test_no_logs_no_source_no_clustering_one_mode(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_run(tmp_path, setting="supervised", source="none")
    (tmp_path / "logs/train.json").unlink()
    epochs = pd.read_csv(tmp_path / "metrics/pseudo_label/epochs.csv")
    write(tmp_path / "metrics/pseudo_label/epochs.csv", epochs.iloc[:0])
    labels = pd.read_csv(tmp_path / "data/labels/infrared.csv")
    write(tmp_path / "data/labels/infrared.csv", labels.assign(label=-1))
    trained = pd.read_csv(tmp_path / "metrics/train/epochs.csv").iloc[:1]
    empty = ["accuracy", "assignment_iterations", "discriminator", "alignment", "ce_infrared"]
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
    # CMC; infrared labels: right, entropy, largest; total, cross-entropy, triplet
    assert len(drawings) == 1 + 3 + 3
    assert not any("transport" in label or "nan" in label for label in drawings)
    assert len(Reader((tmp_path / "metrics/report/index.html").read_text()).all("section")) == 6


def test_warm_up_alone_is_no_clustering(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path, setting="semi-supervised")
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
