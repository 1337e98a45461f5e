"""The report's figures: attention, embeddings, label counts, times, comparisons."""

import base64
import io
import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from report_run import Reader, comparison, page_of, write, write_extras, write_run

from stages.parts.run import params
from stages.parts.run.settings import SECTIONS
from stages.report import inputs
from stages.report.figures import attention, chart, comparisons, curves, drawing, embedding
from stages.report.figures.all import all_drawings
from stages.report.page import comparisons as tables
from stages.report.page import frame, published
from stages.report.page import times as times_page
from stages.report.times import Times, read_epochs, read_times
from stages.train.diagnostics import PROTOTYPE_FIGURES


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("run")
    write_run(made)
    write_extras(made)
    return made


def read(folder: Path) -> inputs.Run:
    """The run in `folder`, as the stage reads it."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.chdir(folder)
        tree = params.load()
        own = {name: params.section(tree, name, kind) for name, kind in SECTIONS.items()}
        return inputs.read_run(tree, own)


@pytest.fixture(scope="module")
def run(folder: Path) -> inputs.Run:
    return read(folder)


@pytest.fixture(scope="module")
def times(folder: Path) -> Times:
    return read_times(folder / "logs")


def with_settings(run: inputs.Run, section: str, **changes: object) -> inputs.Run:
    """The run with other parameters."""
    changed = replace(run.sections[section], **changes)
    return replace(run, sections=run.sections | {section: changed})


def shades_of(svg: str) -> list[np.ndarray]:
    """The ink of each drawn matrix, in [0, 1]."""
    found = re.findall(r'<image href="data:image/png;base64,([^"]*)"', svg)
    pictures = [Image.open(io.BytesIO(base64.b64decode(part))) for part in found]
    return [np.asarray(picture)[..., 3] / 255 for picture in pictures]


def test_a_drawn_matrix_is_the_matrix() -> None:
    weight = np.random.default_rng(0).random((7, 5))
    weight[2] = (0, 1, 1, 0, 1)
    drawn = attention.draw(attention.Attention("x", weight > 0.5, weight))
    truth, learned = shades_of(drawing.svg(drawn, "x"))
    assert np.array_equal(truth, weight > 0.5)
    assert np.abs(learned - weight).max() <= 1 / 255
    assert (learned[weight == 0] == 0).all()
    assert (learned[weight == 1] == 1).all()


def test_attention_stands_beside_the_truth(run: inputs.Run) -> None:
    """A weight is 0.5 on the diagonal, 0.1 elsewhere; two cameras see each of three persons."""
    assert run.attention is not None
    person = run.target.table["person"].to_numpy()
    pairs = attention.attention(run)
    for kind, pair in zip(("v2i", "i2i"), pairs, strict=True):
        part = run.attention.loc[run.attention["kind"] == kind]
        expected = person[part["query"]] == person[part["key"]]
        truth, learned = pair.matrices
        assert np.array_equal(truth.shades, expected.reshape(6, 6))
        assert np.array_equal(learned.shades, np.eye(6))
        assert learned.note.endswith("0.100 to 0.500")
        reached = np.where(np.eye(6, dtype=bool), 0.5, 0.1)[pair.same].sum() / 6
        assert learned.note.startswith(f"{100 * reached:.1f} % on the same person")
        assert truth.note == f"{100 * pair.same.mean():.1f} % of the pairs"
        assert "6 queries down, 6 keys across" in attention.draw(pair).words


def test_even_attention_is_drawn(run: inputs.Run) -> None:
    assert run.attention is not None
    even = replace(run, attention=run.attention.assign(weight=1 / 6))
    for pair in attention.attention(even):
        _, learned = pair.matrices
        assert (learned.shades == 0).all()


@pytest.mark.parametrize("rows", [slice(0, 35), slice(0, 36), slice(36, 72), slice(0, 71)])
def test_half_a_matrix_is_refused(run: inputs.Run, rows: slice) -> None:
    assert run.attention is not None
    with pytest.raises(
        ValueError, match=r"data/attention.csv: \d+ rows of kind (v2i|i2i), expected a matrix"
    ):
        attention.attention(replace(run, attention=run.attention.iloc[rows]))


def test_embeddings_are_laid_out_evenly_and_alike_each_time(run: inputs.Run) -> None:
    points = embedding.points(run)
    assert points is not None
    assert points.places.shape == (24, 2)
    assert points.places.min() == 0
    assert points.places.max() == 1
    assert points.shown == [5, 6, 7, 8]
    again = embedding.points(run)
    assert again is not None
    assert np.array_equal(points.places, again.places)
    assert points.infrared.sum() == 8
    middle = {
        person: points.places[points.person == person].mean(axis=0) for person in points.shown
    }
    # the made-up groups are far apart
    for place, person in zip(points.places, points.person, strict=True):
        assert min(middle, key=lambda other: float(np.linalg.norm(middle[other] - place))) == person


def test_many_embeddings_are_thinned_out_and_take_seconds(run: inputs.Run) -> None:
    count = 3000
    modality = np.where(np.arange(count) % 3, "visible", "infrared")
    table = pd.DataFrame(
        {"row": range(count), "person": np.arange(count) // 30, "camera": 1, "modality": modality}
    )
    store = type("Store", (), {"table": table})()
    values = np.random.default_rng(0).normal(size=(count, 32)).astype(np.float32)
    crowd = replace(run, target=store, embeddings=inputs.Embeddings(np.arange(count), values))
    started = time.process_time()
    points = embedding.points(crowd)
    assert time.process_time() - started < 15  # some 3 s of one core
    assert points is not None
    assert len(points.places) == embedding.IMAGES
    assert np.bincount(points.person).min() >= 5
    assert np.bincount(points.person).max() <= 7
    assert len(points.shown) == embedding.SHOWN
    assert points.total == count
    drawn = embedding.draw(points)
    svg = drawing.svg(drawn, "x")
    # each image, and in the legend both modalities, the others and the persons
    assert len(Reader(f"<svg>{svg}</svg>").all("use")) == embedding.IMAGES + 3 + embedding.SHOWN
    words = Reader(f"<svg>{svg}</svg>").words
    assert {"visible", "infrared", "others", *map(str, points.shown)} <= set(words)
    assert len(svg) < 100_000


def test_too_few_embeddings_are_left_out(run: inputs.Run) -> None:
    few = inputs.Embeddings(np.arange(3), np.ones((3, 2), dtype=np.float32))
    assert embedding.points(replace(run, embeddings=few)) is None
    assert embedding.points(replace(run, embeddings=None)) is None


@pytest.mark.parametrize(
    ("rows", "values", "message"),
    [
        (
            np.arange(3),
            np.ones((2, 4)),
            r"embeddings.npy: \(2, 4\) for rows \(3,\), expected \(N, D\)",
        ),
        (np.array([0, 99]), np.ones((2, 4)), r"rows.npy: rows 0 to 99 of a table of 10"),
    ],
)
def test_embeddings_that_do_not_fit_are_refused(
    tmp_path: Path, rows: np.ndarray, values: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "rows.npy", rows)
    assert inputs.read_embeddings(tmp_path, 10) is None
    np.save(tmp_path / "embeddings.npy", values)
    with pytest.raises(ValueError, match=message):
        inputs.read_embeddings(tmp_path, 10)


def test_counts_are_sorted_in_the_first_the_middle_and_the_last_epoch(run: inputs.Run) -> None:
    drawn = curves.label_counts(run)
    for each in drawn:
        transport, argmax = each.series
        assert transport.y.tolist() == [2, 2, 2, 2, 2]
        assert argmax.y.tolist() == [5, 2, 1, 0, 0]  # the last once more, to end the last step
        assert each.level == ("equal shares: 2.0", 2.0)
        assert each.note == (
            "4 labels; optimal transport: largest 2, 0 empty; "
            "argmax of the prediction: largest 5, 1 empty"
        )
        assert each.top == drawn[0].top
        assert "optimal transport: 4 bars from 2 down to 2" in chart.describe(each)
    assert [each.title for each in drawn] == [
        f"Epoch {epoch}: images of each label" for epoch in (1, 3, 5)
    ]


def test_counts_without_transport_and_of_one_epoch(run: inputs.Run) -> None:
    assert run.label_counts is not None
    part = run.label_counts.loc[run.label_counts["epoch"] == 2].assign(assigned=np.nan)
    (drawn,) = curves.label_counts(replace(run, label_counts=part))
    assert [series.name for series in drawn.series] == ["argmax of the prediction"]
    # an older run: the labels themselves
    (drawn,) = curves.label_counts(replace(run, label_counts=None))
    assert drawn.series[0].y.tolist() == [3, 3, 2, 0, 0]


@pytest.mark.parametrize(
    ("assignment", "names"),
    [
        ("transport", ["optimal transport", "argmax of the prediction"]),
        ("argmax", ["argmax of the prediction"]),
        ("none", ["argmax of the prediction"]),
        ("hungarian", ["hungarian", "argmax of the prediction"]),
    ],
)
def test_a_method_of_assignment_has_its_own_name(
    run: inputs.Run, times: Times, assignment: str, names: list[str]
) -> None:
    """Argmax is one line: what was assigned is the argmax of the same predictions."""
    other = with_settings(run, "otla", assignment=assignment)
    right, *_ = curves.infrared_labels(other)
    assert [series.name for series in right.series] == names
    for counts in curves.label_counts(other):
        assert [series.name for series in counts.series] == names
    if assignment == "hungarian":
        assert curves.times(other, times)[0].series[-1].name == "hungarian alone"
        assert times_page.time_of_assignment(other, times).startswith("Hungarian takes 0.2 s")


def test_a_new_loss_term_has_a_chart_of_its_own(run: inputs.Run) -> None:
    assert len(curves.losses(run)) == 6
    epochs = run.train_epochs.copy()
    epochs.insert(list(epochs.columns).index("learning_rate"), "center", [3.0, 2.0, 1.0])
    drawn = curves.losses(replace(run, train_epochs=epochs))
    assert [each.title for each in drawn][-2:] == [
        "Training: center",
        "Pseudo labels: contrastive loss",
    ]
    assert drawn[-2].series[0].y.tolist() == [3, 2, 1]


def with_prototypes(run: inputs.Run) -> inputs.Run:
    """The run as one of prototypes, whose first epoch has no association."""
    first = {name: [0.5, 0.25, 0.75] for name in PROTOTYPE_FIGURES}
    first["associations_right"] = [None, 0.25, 0.75]
    clusters = {"infrared_clusters": [9, 8, 7], "infrared_ari": [0.5, 0.6, 0.7]}
    terms = {"own": [2.0, None, None], "unified": [None, 4.0, 3.0]}
    epochs = run.train_epochs.assign(**first, **clusters)
    place = list(epochs.columns).index("learning_rate")
    for name, values in terms.items():
        epochs.insert(place, name, values)
    changed = replace(run, train_epochs=epochs)
    return with_settings(changed, "train", objective="prototypes")


def test_prototypes_have_charts_of_clusters_labels_and_cosines(run: inputs.Run) -> None:
    clusters, agreement, labels, cosines = curves.infrared_clusters(with_prototypes(run))
    assert clusters.series[0].y.tolist() == [9, 8, 7]
    assert agreement.series[0].y.tolist() == [0.5, 0.6, 0.7]
    matched, right = labels.series
    assert matched.y.tolist() == [50, 25, 75]
    np.testing.assert_array_equal(right.y, [np.nan, 25, 75])
    assert len(cosines.series) == 5
    assert len({series.style for series in cosines.series}) == 5
    (losses,) = [each for each in curves.losses(with_prototypes(run)) if "prototypes" in each.title]
    assert [series.name for series in losses.series] == ["own modality", "both modalities"]
    assert curves.infrared_clusters(run) == []


@pytest.mark.parametrize(
    ("association", "names"),
    [
        ("transport", ["optimal transport", "argmax of the prediction"]),
        ("global", ["clusters of both modalities", "argmax of the prediction"]),
        ("none", ["argmax of the prediction"]),
    ],
)
def test_the_labels_of_prototypes_have_the_name_of_their_association(
    run: inputs.Run, association: str, names: list[str]
) -> None:
    changed = with_settings(with_prototypes(run), "prototypes", association=association)
    right, *_ = curves.infrared_labels(changed)
    assert [series.name for series in right.series] == names


def test_clusters_have_a_heading_on_the_page(run: inputs.Run) -> None:
    for each, expected in ((run, False), (with_prototypes(run), True)):
        page = frame.page(each, all_drawings(each))
        assert ("<h3>Infrared clusters</h3>" in page) == expected


def test_prototypes_are_not_beside_the_papers_time(run: inputs.Run) -> None:
    real = replace(with_settings(run, "data", root="data/raw"), scale="paper")
    assert published.transport(real) is not None
    assert published.transport(with_prototypes(real)) is None
    assert "prototypes in place of a classifier" in published.differences(with_prototypes(real))


def test_a_new_source_is_shown_under_its_own_name(run: inputs.Run) -> None:
    assert frame.source_of(run) == "source Market-1501 (rendered)"
    assert frame.source_of(with_settings(run, "spcl", source="cuhk03")).startswith("source cuhk03")
    assert frame.source_of(with_settings(run, "spcl", source="none")) == "without a source"


def test_time_of_transport_beside_the_papers(run: inputs.Run, times: Times) -> None:
    sentence = "Optimal transport takes 0.2 s of the 10.0 s of an epoch on average: 2 %."
    assert times_page.time_of_assignment(run, times) == sentence
    (drawn,) = curves.times(run, times)
    assert [series.y[0] for series in drawn.series] == [10, 1, 0.2]
    real = replace(with_settings(run, "data", root="data/raw"), scale="paper")
    paper = " Paper: 6.832 s, 2.293 % (TITAN RTX)."
    assert times_page.time_of_assignment(real, times) == sentence + paper
    by_argmax = with_settings(real, "otla", assignment="argmax")
    assert "Paper" not in times_page.time_of_assignment(by_argmax, times)
    untimed = replace(times, epochs=times.epochs.assign(assignment_seconds=None))
    expected = "An epoch takes 10.0 s; no assignment was timed."
    assert times_page.time_of_assignment(run, untimed) == expected
    assert len(curves.times(run, untimed)[0].series) == 2


def test_an_epoch_that_ran_twice_counts_once(tmp_path: Path) -> None:
    lines = [
        {"epoch": 2, "train_seconds": 5},
        {"epoch": 1, "train_seconds": 1},
        {"epoch": 2, "train_seconds": 7},
    ]
    write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, lines)))
    assert read_epochs(tmp_path / "x.jsonl")["train_seconds"].tolist() == [1, 7]
    assert len(read_epochs(tmp_path / "none.jsonl")) == 0


def test_comparisons_show_mean_spread_and_every_seed(run: inputs.Run) -> None:
    reader = Reader(tables.comparison(run.comparisons["ablation"], "<p>charts</p>"))
    words = reader.words
    assert "30.00 ± 10.00" in words
    assert "10.00 ± 0.00" in words
    assert "0.500 ± 0.000" in words  # the ARI is no share; one of its seeds has none
    assert "62" in words
    assert words.count("paper") == words.count("29.90") == 1
    assert not any("mAP" in word for word in words)
    assert "as params.yaml has it" in words
    assert "Mean ± sample standard deviation over seed 0, 1, 2. A second note." in words
    dots = [
        a["aria-label"] for a in reader.all("svg") if a.get("aria-label", "").startswith("Each run")
    ]
    assert dots[0] == "Each run, per cent: 20.00, 30.00, 40.00"
    assert len(reader.all("circle")) >= 3 + 3 + 1


def test_comparisons_show_differences_if_the_file_has_them(tmp_path: Path) -> None:
    tree = comparison()
    for expected in (True, False):
        write(tmp_path / "ablation.json", tree)
        read_back = inputs.read_comparison(tmp_path / "ablation.json")
        words = Reader(tables.comparison(read_back, "")).words
        assert ("-20.0 ± 24.8 (n. d.)" in words) == expected
        assert ("Differences by seed." in words) == expected
        tree.pop("differences", None)  # as in files of earlier versions


def test_comparisons_draw_the_mean_by_epoch(run: inputs.Run) -> None:
    right, even = comparisons.charts(run.comparisons["ablation"])
    assert even.title == "Entropy of the label shares (1: all equal), group"
    assert even.series[1].y == pytest.approx([0.5])
    assert right.title == "Infrared labels: right, %, group"
    assert [series.name for series in right.series] == ["true", "false"]
    # (10 + 30 + 20) / 3, then one seed with a second epoch
    assert right.series[0].y == pytest.approx([20, 20])
    assert len({series.style for series in right.series}) == 2


def test_numbered_styles_differ() -> None:
    assert len({chart.numbered(number) for number in range(18)}) == 18


@pytest.mark.parametrize(
    ("lacking", "message"),
    [
        ("rows", "is not a comparison: KeyError 'rows'"),
        ("table", "is of an older version; run python -m experiments odd again"),
    ],
)
def test_a_file_that_is_no_comparison_is_named(tmp_path: Path, lacking: str, message: str) -> None:
    tree = comparison()
    del tree[lacking]
    write(tmp_path / "odd.json", tree)
    with pytest.raises(ValueError, match=rf"odd\.json {message}$"):
        inputs.read_comparison(tmp_path / "odd.json")


def test_what_is_not_there_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path)
    page = Reader(page_of(tmp_path, monkeypatch, figures=True))
    assert len(page.all("section")) == 6
    words = " ".join(page.words)
    assert not any(title in words for title in ("Comparisons", "Attention", "Embeddings"))
    assert "Time of the assignment" not in (tmp_path / "logs/times.html").read_text()
    names = {path.stem for path in (tmp_path / "metrics/figures").iterdir()}
    assert names == {"cmc", "infrared_labels", "label_counts", "losses", "visible_labels"}
    # no label has images in both modalities
    write(tmp_path / "data/attention.csv", "kind,query,key,weight\n")
    assert read(tmp_path).attention is None
