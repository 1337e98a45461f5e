"""The report's figures: attention, embeddings, label counts, times, comparisons, and the same as PNG."""

import json
import re
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from report_run import Reader, comparison, page_of, write, write_extras, write_run

from stages.parts.run import params
from stages.parts.run.settings import SECTIONS
from stages.report import charts, comparisons, curves, embedding, inputs, matrices, sections


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
        return inputs.read_run(tree["dataset"], tree["seed"], own)


@pytest.fixture(scope="module")
def run(folder: Path) -> inputs.Run:
    return read(folder)


def cells_of(svg: str) -> np.ndarray:
    """The opacity of each cell of a drawn matrix."""
    columns, rows = map(int, re.search(r'viewBox="0 0 (\d+) (\d+)"', svg).groups())  # type: ignore[union-attr]
    drawn = np.zeros((rows, columns))
    for path, opacity in re.findall(r'<path d="([^"]*)" opacity="([^"]*)"', svg):
        for x, y, length in re.findall(r"M(\d+) (\d+)h(\d+)v1h-\3z", path):
            part = drawn[int(y), int(x) : int(x) + int(length)]
            assert (part == 0).all()  # no cell twice
            part[:] = float(opacity)
    return drawn


def test_a_drawn_matrix_is_the_matrix() -> None:
    values = np.random.default_rng(0).random((7, 5))
    values[2] = (0, 1, 1, 0, 1)
    drawn = cells_of(matrices.draw(matrices.Matrix("x", "y", values)))
    assert np.abs(drawn - values).max() <= 1 / matrices.LEVELS + 0.001
    assert (drawn[values == 0] == 0).all()
    assert (drawn[values == 1] == 1).all()


def test_attention_stands_beside_the_truth(run: inputs.Run) -> None:
    """In the made-up batch a weight is 0.5 on the diagonal, 0.1 elsewhere; two cameras see each of three persons."""
    truth_v, weight_v, truth_i, weight_i = matrices.attention(run)
    assert run.attention is not None
    person = run.target.table["person"].to_numpy()
    for kind, truth in (("v2i", truth_v), ("i2i", truth_i)):
        part = run.attention.loc[run.attention["kind"] == kind]
        expected = person[part["query"]] == person[part["key"]]
        assert np.array_equal(truth.values, expected.reshape(6, 6))
    for weight in (weight_v, weight_i):
        assert np.array_equal(weight.values, np.eye(6))
        assert weight.note.endswith("light 0.100, dark 0.500")
    same = truth_i.values.astype(bool)
    reached = np.where(np.eye(6, dtype=bool), 0.5, 0.1)[same].sum() / 6
    assert weight_i.note.startswith(f"{100 * reached:.1f} % of the weight on the same person")
    assert truth_i.note == f"{100 * same.mean():.1f} % of the pairs"
    assert "6 queries down, 6 keys across" in matrices.draw(weight_i)


def test_even_attention_is_drawn(run: inputs.Run) -> None:
    assert run.attention is not None
    even = replace(run, attention=run.attention.assign(weight=1 / 6))
    assert all((matrix.values == 0).all() for matrix in matrices.attention(even)[1::2])


@pytest.mark.parametrize("rows", [slice(0, 35), slice(0, 36), slice(36, 72), slice(0, 71)])
def test_half_a_matrix_is_refused(run: inputs.Run, rows: slice) -> None:
    assert run.attention is not None
    with pytest.raises(
        ValueError, match=r"data/attention.csv: \d+ rows of kind (v2i|i2i), expected a matrix"
    ):
        matrices.attention(replace(run, attention=run.attention.iloc[rows]))


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
    for place, person in zip(
        points.places, points.person, strict=True
    ):  # the made-up groups are far apart
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
    svg = embedding.figure(points)
    assert svg.count("<title>") == (points.look >= 0).sum()
    assert len(Reader(svg).all("circle", "path")) == embedding.IMAGES + 2 + 1 + embedding.SHOWN
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
    assert [chart.title for chart in drawn] == [
        f"Epoch {epoch}: images of each label" for epoch in (1, 3, 5)
    ]
    for chart in drawn:
        transport, argmax = chart.series
        assert transport.y.tolist() == [2, 2, 2, 2, 2]
        assert argmax.y.tolist() == [5, 2, 1, 0, 0]  # the last once more, to end the last step
        assert chart.level == ("equal shares: 2.0", 2.0)
        assert chart.note == "4 labels; transport: largest 2, 0 empty; argmax: largest 5, 1 empty"
        assert chart.top == drawn[0].top
        assert "optimal transport: 4 bars from 2 down to 2" in charts.describe(chart)


def test_counts_without_transport_and_of_one_epoch(run: inputs.Run) -> None:
    assert run.label_counts is not None
    part = run.label_counts.loc[run.label_counts["epoch"] == 2].assign(transport=np.nan)
    (chart,) = curves.label_counts(replace(run, label_counts=part))
    assert [series.name for series in chart.series] == ["argmax of the prediction"]
    (chart,) = curves.label_counts(
        replace(run, label_counts=None)
    )  # an older run: the labels themselves
    assert chart.series[0].y.tolist() == [3, 3, 2, 0, 0]


def test_time_of_transport_beside_the_papers(run: inputs.Run) -> None:
    said = sections.time_of_transport(run)
    assert said == "Transport takes 0.2 s of the 10.0 s of an epoch on average: 2 %."
    (chart,) = curves.times(run)
    assert [series.y[0] for series in chart.series] == [10, 1, 0.2]
    own = run.sections | {"synthesize": replace(run.sections["synthesize"], layout="none")}
    real = replace(run, dataset="sysu_mm01", sections=own)
    assert sections.time_of_transport(real).endswith("Paper: 6.832 s, 2.293 % (TITAN RTX).")
    older = replace(run, epoch_seconds=run.epoch_seconds.assign(transport_seconds=None))
    assert sections.time_of_transport(older) == "An epoch takes 10.0 s; no transport was timed."
    assert len(curves.times(older)[0].series) == 2


def test_an_epoch_that_ran_twice_counts_once(tmp_path: Path) -> None:
    lines = [
        {"epoch": 2, "train_seconds": 5},
        {"epoch": 1, "train_seconds": 1},
        {"epoch": 2, "train_seconds": 7},
    ]
    write(tmp_path / "x.jsonl", "\n".join(map(json.dumps, lines)))
    assert inputs.read_epoch_seconds(tmp_path / "x.jsonl")["train_seconds"].tolist() == [1, 7]
    assert len(inputs.read_epoch_seconds(tmp_path / "none.jsonl")) == 0


def test_comparisons_show_mean_spread_and_every_seed(run: inputs.Run) -> None:
    reader = Reader(comparisons.sections(run))
    words = reader.words
    assert "30.00 ± 10.00" in words
    assert "10.00 ± 0.00" in words
    assert "0.500 ± 0.000" in words  # the ARI is no share; one of its seeds has none
    assert "1 min 02 s" in words
    assert words.count("the paper") == words.count("29.90") == 1
    assert "All search, mAP" not in words
    assert "as params.yaml has it" in words
    assert any(
        word.startswith("Mean ± standard deviation over seed 0, 1, 2; commit c0ffee1.")
        for word in words
    )
    dots = [
        a["aria-label"] for a in reader.all("svg") if a.get("aria-label", "").startswith("Each run")
    ]
    assert dots[0] == "Each run, per cent: 20.00, 30.00, 40.00"
    assert len(reader.all("circle")) >= 3 + 3 + 1


def test_comparisons_draw_the_mean_by_epoch() -> None:
    chart, even = comparisons.charts(comparison())
    assert even.title == "Entropy of the label shares (1: all equal), group"
    assert even.series[1].y == pytest.approx([0.5])
    assert chart.title == "Infrared labels: right, %, group"
    assert [series.name for series in chart.series] == ["true", "false"]
    assert chart.series[0].y == pytest.approx(
        [20, 20]
    )  # (10 + 30 + 20) / 3, then one seed with a second epoch
    assert len({series.style for series in chart.series}) == 2


def test_numbered_styles_differ() -> None:
    assert len({charts.STYLES[name] for name in charts.NUMBERED}) == len(charts.NUMBERED) == 18


def test_a_file_that_is_no_comparison_is_named(run: inputs.Run) -> None:
    with pytest.raises(
        ValueError, match=r"metrics/comparisons/odd.json is not a comparison: KeyError 'rows'"
    ):
        comparisons.sections(replace(run, comparisons={"odd": {"title": "x"}}))


def test_what_is_not_there_leaves_no_trace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_run(tmp_path)
    page = Reader(page_of(tmp_path, monkeypatch, figures=True))
    assert len(page.all("section")) == 6
    words = " ".join(page.words)
    assert not any(
        title in words for title in ("Comparisons", "Attention", "Embeddings", "Time of transport")
    )
    names = {path.stem for path in (tmp_path / "metrics/figures").iterdir()}
    assert names == {"cmc", "infrared_labels", "label_counts", "losses", "visible_labels"}
    write(
        tmp_path / "data/attention.csv", "kind,query,key,weight\n"
    )  # no label has images in both modalities
    assert read(tmp_path).attention is None
