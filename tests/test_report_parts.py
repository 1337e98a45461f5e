"""The report's `--show`, and the small parts of its page."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from report_run import MEASURES, Reader, write, write_run

from stages.report import __main__ as report
from stages.report.inputs import spread
from stages.report.page import markup

ROOT = Path(__file__).parents[1]


def test_show_prints_the_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    write_run(tmp_path)
    write(tmp_path / "metrics/report/index.html", "a page")
    monkeypatch.chdir(tmp_path)
    report.main(["--show"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == ["all", "indoor"]
    assert lines[1].split("  ")[-1] == "pseudo-label network"
    assert [line.split()[0] for line in lines[2:8]] == [
        "Rank-1",
        "Rank-5",
        "Rank-10",
        "Rank-20",
        "mAP",
        "mINP",
    ]
    assert lines[2].split() == ["Rank-1", *["25.00", "±", "1.25", "10.00"] * 2]
    assert lines[3].split() == ["Rank-5", *["25.00", "±", "1.25", "–"] * 2]
    assert lines[8].split()[:3] == ["ratio", "2.50", "2.50"]
    assert lines[-1] == "report: metrics/report/index.html"
    assert max(map(len, lines)) <= 100


def test_show_reads_the_metrics_file_only(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    scores = dict.fromkeys(MEASURES, 0.5) | {f"{name}_sd": 0.0 for name in MEASURES}
    write(
        tmp_path / "metrics/evaluate.json", {"all": scores, "pseudo_label": {"all": {"rank1": 0.0}}}
    )
    monkeypatch.chdir(tmp_path)
    report.main(["--show"])
    lines = capsys.readouterr().out.splitlines()
    assert next(line for line in lines if line.startswith("ratio")).split()[1] == "–"
    assert lines[-1].startswith("report: not written")
    assert [path.name for path in tmp_path.iterdir()] == ["metrics"]


def test_show_names_re_ranking(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    scores = dict.fromkeys(MEASURES, 0.5) | {f"{name}_sd": 0.0 for name in MEASURES}
    write(tmp_path / "metrics/evaluate.json", {"rerank": True, "all": scores, "pseudo_label": {}})
    monkeypatch.chdir(tmp_path)
    report.main(["--show"])
    assert "re-ranked (evaluate.rerank)" in capsys.readouterr().out


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
        chosen = spread(count, 6)
        assert len(chosen) == min(count, 6)
        assert len(set(chosen)) == len(chosen)
        assert (chosen[0], chosen[-1]) == (0, count - 1) or count == 1
        assert np.ptp(np.diff(chosen)) <= 1 if count > 2 else True
    assert len(spread(0, 6)) == 0


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(None, "not recorded"), (5.04, "5.0 s"), (75, "1 min 15 s"), (3599.7, "1 h 00 min")],
)
def test_durations_are_said_as_people_do(seconds: float | None, said: str) -> None:
    assert markup.duration(seconds) == said


def test_plot_template_draws_each_mode_and_each_revision(tmp_path: Path) -> None:
    from dvc_render.vega import VegaRenderer

    points = [
        {"mode": mode, "rank": rank, "cmc": 0.5, "rev": rev}
        for mode in ("all", "indoor")
        for rank in (1, 2)
        for rev in ("HEAD", "workspace")
    ]
    renderer = VegaRenderer(
        points, "cmc", template="cmc", template_dir=str(ROOT / ".dvc/plots"), x="rank", y="cmc"
    )
    filled = renderer.get_filled_template()
    assert "<DVC_METRIC" not in json.dumps(filled)
    assert filled["data"]["values"] == points
    assert filled["encoding"]["color"]["field"] == "mode"
    assert filled["encoding"]["strokeDash"]["field"] == "rev"
    assert (filled["encoding"]["x"]["field"], filled["encoding"]["y"]["field"]) == ("rank", "cmc")
    assert "transform" not in filled  # no smoothing
