"""The page of ranked lists: self-contained, and whole on a screen and on a phone."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from chromium import NEEDED, Browser

from search.__main__ import main
from tests.search_model import PATTERN, Workplace, picture


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """An index some of whose pictures have names that are markup, or very long."""
    place = Workplace(tmp_path_factory.mktemp("place"), 40)
    picture(200).save(
        place.pictures / "<script>alert(1)</script> & 'x' \"y\".png".replace("/", "∕")
    )
    picture(201).save(place.pictures / f"{'long' * 50}.png")
    place.update("--pattern", PATTERN)
    return place


@pytest.fixture(scope="module")
def page(place: Workplace) -> Path:
    """Two queries with 25 results; one picture has gone since it was indexed."""
    (place.pictures / "cam1/000003.png").unlink(missing_ok=True)
    queries = [place.pictures / "cam2/000001.png", place.pictures / f"{'long' * 50}.png"]
    out = place.pictures.parent / "page.html"
    place.run("query", *queries, "--top", 50, "--html", out)
    return out


def test_the_page_is_one_file_and_names_are_no_markup(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text
    assert "&lt;script&gt;alert(1)" in text
    sources = re.findall(r'(?:src|href)="([^"]*)"', text)
    assert len(sources) > 80
    assert all(source.startswith("data:") for source in sources)
    assert "cam1/000003.png (cannot be read any more)" in text
    assert "2 queries among 42 pictures." in text


def test_the_page_says_what_was_searched(place: Workplace, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    words = ["--camera", "1,2", "--from", "3", "--html", str(out)]
    place.run("query", place.pictures / "cam2/000001.png", *words)
    expected = "1 query among 42 pictures (camera 1, 2; within the time that was asked for)."
    assert expected in out.read_text(encoding="utf-8")


def test_the_same_answer_gives_the_same_page(place: Workplace, page: Path, tmp_path: Path) -> None:
    queries = [place.pictures / "cam2/000001.png", place.pictures / f"{'long' * 50}.png"]
    place.run("query", *queries, "--top", 50, "--html", tmp_path / "again.html")
    assert (tmp_path / "again.html").read_bytes() == page.read_bytes()


def test_names_that_are_not_utf8_are_shown(place: Workplace, tmp_path: Path) -> None:
    """Those of the query and of the folder; within a folder they are refused."""
    folder = tmp_path / os.fsdecode(b"\xff")
    folder.mkdir()
    picture(300).save(folder / "a.png")
    main(["index", *map(str, (folder, "--model", place.model, "--index", tmp_path / "index"))])
    query = tmp_path / os.fsdecode(b"q\xfe.png")
    picture(300).save(query)
    out = tmp_path / "page.html"
    words = ["--model", place.model, "--index", tmp_path / "index", "--html", out]
    main(["query", *map(str, (query, *words))])
    text = out.read_text(encoding="utf-8")
    assert r"q\xfe.png" in text
    assert r"\xff/a.png" in text


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@NEEDED
@pytest.mark.slow
@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_screen_and_phone(browser: Browser, page: Path, width: int) -> None:
    """Slow: a browser takes seconds to start."""
    found = browser.look(page, width)
    assert found["width"] == width
    assert found["scroll"] <= width
    assert found["images"] == 2 * (42 + 1)
    assert found["boxes"] > 200
    for fault in ("overlaps", "outside", "broken", "fetched", "console"):
        assert found[fault] == [], fault
    assert (found["silent"], found["small"]) == (0, 0)


def test_the_commands_have_help(capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("index", "query", "embed"):
        with pytest.raises(SystemExit) as ended:
            main([command, "--help"])
        assert ended.value.code == 0
        assert "--model" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [["--top", "0"], ["--top", "x"], ["--from", "noon"], ["--camera", ","]],
)
def test_wrong_options_are_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["query", "a.png", "--index", "b", *words])
    assert ended.value.code == 2
    assert words[0] in capsys.readouterr().err
