"""Curves over epochs: a file for each value, a point for each epoch, nothing of the clock."""

from pathlib import Path

import pytest

from stages.parts.run.curves import curves


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def points(name: str, folder: str = "metrics/train") -> list[list[str]]:
    """The columns step and value of a curve's file."""
    lines = Path(folder, "plots/metrics", f"{name}.tsv").read_text().splitlines()
    assert lines[0].split("\t") == ["step", name]
    return [line.split("\t") for line in lines[1:]]


def test_an_epoch_without_a_value_has_no_point_and_is_counted() -> None:
    with curves(Path("metrics/train"), ["loss", "rate", "never"], []) as log:
        for values in ({"loss": 3.0, "rate": None}, {"rate": 0.5}, {"loss": 0, "other": 1}):
            log(values)
    assert points("loss") == [["0", "3.0"], ["2", "0"]]
    assert points("rate") == [["1", "0.5"]]
    written = Path("metrics/train/plots/metrics").iterdir()
    assert sorted(path.name for path in written) == ["loss.tsv", "rate.tsv"]


def test_past_epochs_are_written_again_before_new_ones() -> None:
    with curves(Path("whole"), ["loss"], []) as log:
        for loss in (3.0, 2.0, 1.0):
            log({"loss": loss})
    with curves(Path("resumed"), ["loss"], ({"loss": loss} for loss in (3.0, 2.0))) as log:
        log({"loss": 1.0})
    assert points("loss", "resumed") == points("loss", "whole")
    assert len(points("loss", "whole")) == 3


def test_without_an_epoch_there_is_a_folder() -> None:
    for _ in range(2):
        with curves(Path("metrics/train"), ["loss"], []):
            pass
    assert list(Path("metrics/train/plots/metrics").iterdir()) == []


def test_nothing_but_the_curves_is_written() -> None:
    with curves(Path("metrics/train"), ["loss"], []) as log:
        log({"loss": 3.0})
    written = {path.as_posix() for path in Path().rglob("*") if path.is_file()}
    assert written - {"metrics/train/metrics.json"} == {"metrics/train/plots/metrics/loss.tsv"}
