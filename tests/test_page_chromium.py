"""The report's page in a browser, on a screen and on a phone.

Nothing is missing, nothing overlaps, nothing is fetched.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from chromium import NEEDED, Browser
from report_run import page_of, write_extras, write_run

from stages.report.page.sections import TIMES

pytestmark = [NEEDED, pytest.mark.slow]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    opened = Browser(tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    write_run(folder)
    write_extras(folder)
    with pytest.MonkeyPatch.context() as monkeypatch:
        page_of(folder, monkeypatch)
    return folder / "metrics/report/index.html"


def test_the_page_of_run_times_fits_a_phone(browser: Browser, page: Path) -> None:
    """Slow: a browser takes seconds to start."""
    found = browser.look((page.parent / TIMES).resolve(), 390)
    assert found["scroll"] <= 390
    assert found["boxes"] > 50
    for fault in ("overlaps", "outside", "broken", "fetched", "console"):
        assert found[fault] == [], fault


@pytest.mark.parametrize("opened", [False, True])
@pytest.mark.parametrize("width", [1280, 390])
def test_page_fits_screen_and_phone(browser: Browser, page: Path, width: int, opened: bool) -> None:
    """Slow: a browser takes seconds to start, and the page is written first."""
    found = browser.look(page, width, opened)
    assert found["width"] == width
    assert found["scroll"] <= width
    assert found["images"] > 50
    assert found["boxes"] > 500
    for fault in ("overlaps", "outside", "broken", "fetched", "console"):
        assert found[fault] == [], fault
    assert (found["silent"], found["small"]) == (0, 0)


def test_the_measure_sees_faults(browser: Browser, tmp_path: Path) -> None:
    """A page with one fault of each kind."""
    faulty = tmp_path / "faulty.html"
    faulty.write_text(
        "<!DOCTYPE html><html><head>"
        "<meta name='viewport' content='width=device-width, minimum-scale=1'></head><body>"
        "<p>One line</p><p style='margin-top: -30px'>Another line over it</p>"
        "<img src='data:image/png;base64,xx' alt='not a picture'><img src='missing.png'>"
        "<div style='width: 3000px'><p style='text-align: right; font-size: 6px'>far away</p></div>"
        "<script>console.error('oh')</script></body></html>"
    )
    found = browser.look(faulty, 390)
    assert found["width"] == 390
    assert found["scroll"] >= 3000
    assert found["overlaps"] == ["P One line | P Another line over it"]
    assert found["broken"] == ["IMG not a picture", "IMG "]
    assert (found["silent"], found["small"]) == (1, 1)
    assert found["outside"] == ["P far away"]
    assert [url.rpartition("/")[2] for url in found["fetched"]] == ["missing.png"]
    assert any('"oh"' in line for line in found["console"])
