"""A folder that nobody here wrote: odd names, formats, EXIF, broken files, links that lead out."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("onnxruntime")
pytest.importorskip("onnx")

from search.archive import open_state, pictures_of
from search.embedding import Embedder, File
from search.lookup import open_lookup
from search.model import open_model
from search.scan import scan
from stages.parts.run.stage import InputError
from tests.search_model import PATTERN, Workplace, picture

SECRET = 777  # the number of the picture outside of the folder


@pytest.fixture
def place(tmp_path: Path) -> Workplace:
    """Thirty ordinary pictures, and many things beside them."""
    place = Workplace(tmp_path)
    folder = place.pictures
    picture(100).save(folder / "Ünï cödé, \"quotes\" & <b>tags 中文 'x'.PNG")
    picture(101).save(folder / "-rf --index.bmp")
    (folder / "deep/er/est").mkdir(parents=True)
    picture(102).save(folder / "deep/er/est/a..jpg.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by a quarter
    turned = picture(103).transpose(Image.Transpose.ROTATE_90)
    turned.save(folder / "turned.png", exif=exif)
    picture(104).convert("L").save(folder / "gray.png")
    picture(105).convert("P").save(folder / "palette.png")

    outside = tmp_path / "outside"
    outside.mkdir()
    picture(SECRET).save(outside / "secret.png")
    (folder / "link.png").symlink_to(outside / "secret.png")
    (folder / "broken link.png").symlink_to("nowhere.png")
    (folder / "linked folder").symlink_to(outside)
    (folder / "loop").symlink_to(folder)

    whole = (folder / "cam1/000000.png").read_bytes()
    (folder / "cut.png").write_bytes(whole[: len(whole) // 2])
    (folder / "empty.png").touch()
    (folder / "text.jpg").write_text("no picture")
    (folder / "page.html").write_text("<p>")
    (folder / "picture.webp").write_bytes(b"RIFF")
    picture(106).save(folder / ".hidden.png")
    (folder / ".thumbnails").mkdir()
    picture(107).save(folder / ".thumbnails/small.png")
    (folder / "folder.png").mkdir()
    os.mkfifo(folder / "pipe.png")
    with open(os.fsencode(folder) + b"/\xff\xfe.png", "wb") as opened:
        opened.write(whole)
    (folder / "line\nbreak.png").write_bytes(whole)
    return place


def paths(place: Workplace) -> set[str]:
    archive = open_state(place.index, lambda opened: opened)
    return {each.path for table in archive.tables for each in pictures_of(table)}


def test_what_is_no_picture_is_listed_and_left_out(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    place.update()
    odd = {path for path in paths(place) if not path.startswith("cam")}
    assert odd == {
        "Ünï cödé, \"quotes\" & <b>tags 中文 'x'.PNG",
        "-rf --index.bmp",
        "deep/er/est/a..jpg.png",
        "turned.png",
        "gray.png",
        "palette.png",
    }
    said = capsys.readouterr().out
    for line in (
        "links are not followed: 4",
        ".bmp are not read: 2 (.html 1, .webp 1)",
        "skipped: cut.png is not a readable image",
        "skipped: empty.png is empty (0 bytes)",
        "skipped: text.jpg is not an image; expected JPEG, PNG, BMP",
        "skipped: pipe.png is not a file",
        r"skipped: \xff\xfe.png expected a name in UTF-8",
        r"skipped: line\x0abreak.png expected a name in UTF-8",
        "36 pictures: 36 new",
        "3 unreadable (listed in ",
    ):
        assert line in said
    place.update()
    again = capsys.readouterr().out
    assert "skipped: cut.png" not in again  # it is the same file, so it was not tried again
    assert "3 unreadable (listed in " in again

    picture(108).save(place.pictures / "cut.png")
    (place.pictures / "empty.png").unlink()
    place.update()
    assert "cut.png" in paths(place)
    assert "37 pictures: 1 new, 0 changed, 0 gone, 1 unreadable" in capsys.readouterr().out


def test_a_picture_without_a_finite_embedding_is_listed_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It follows a broken one, so that its row is not at its place among the files."""
    place = Workplace(tmp_path)
    (place.pictures / "cam1/000000.png").write_text("broken")
    original = Embedder.rows

    def rows(self: Embedder, images: np.ndarray, infrared: bool) -> np.ndarray:
        result = original(self, images, infrared)
        result[(images == np.asarray(picture(3))).all((1, 2, 3)), 5] = np.nan
        return result

    monkeypatch.setattr(Embedder, "rows", rows)
    place.update()
    said = capsys.readouterr().out
    assert "skipped: cam1/000003.png has an embedding that is not finite" in said
    assert "28 pictures: 28 new, 0 changed, 0 gone, 2 unreadable" in said
    whole = {str(path.relative_to(place.pictures)) for path in place.pictures.rglob("*.png")}
    assert whole - paths(place) == {"cam1/000000.png", "cam1/000003.png"}

    place.run("embed", place.pictures, "--out", tmp_path / "rows.npy", "--processes", 1)
    assert "skipped: cam1/000003.png has an embedding that is not" in capsys.readouterr().out
    assert np.isfinite(np.load(tmp_path / "rows.npy")).all()
    lines = (tmp_path / "rows.csv").read_text().splitlines()[1:]
    assert [line.split(",")[1] for line in lines] == sorted(paths(place))
    with pytest.raises(InputError, match=r"cam1/000003.png has an embedding that is not finite"):
        place.run("query", place.pictures / "cam1/000003.png")


def test_no_picture_outside_of_the_folder_is_read(
    place: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[str] = []
    original = Path.read_bytes
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: [read.append(str(path)), original(path)][1]
    )
    place.update()
    assert read
    inside = f"{place.pictures}/"
    assert [path for path in read if not os.path.realpath(path).startswith(inside)] == []


def test_a_link_that_comes_after_the_scan_is_not_followed(place: Workplace) -> None:
    """Somebody who can write into the folder exchanges a picture for a link to another one."""
    embedder = Embedder(open_model(place.model), "onnx")
    folder = os.path.realpath(place.pictures)
    files = [File(folder, path, False) for path in ("link.png", "linked folder/secret.png")]
    result = embedder.embed(files, [0, 1])
    assert result.problems == ["is behind a link"] * 2
    assert len(result.rows) == 0


def test_pictures_are_found_upright_and_by_odd_names(
    place: Workplace, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    place.update("--pattern", PATTERN)
    for number, name in ((103, "turned.png"), (101, "-rf --index.bmp"), (100, "中文")):
        query = tmp_path / "query.png"
        picture(number).save(query)
        capsys.readouterr()
        place.run("query", query, "--top", 1)
        assert name in capsys.readouterr().out.splitlines()[2]
        place.run("query", query, "--top", 2, "--html", tmp_path / "page.html")
        assert "<b>tags" not in (tmp_path / "page.html").read_text()


def test_the_picture_outside_is_not_found(place: Workplace) -> None:
    place.update()
    embedder = Embedder(open_model(place.model), "onnx")
    row = embedder.rows(np.asarray(picture(SECRET))[None], infrared=False)
    assert open_lookup(place.index).find(row, 1)[0][0].similarity < 0.999


@pytest.mark.skipif(os.geteuid() == 0, reason="root can read every folder")
def test_pictures_in_a_folder_that_cannot_be_read_stay(
    place: Workplace, capsys: pytest.CaptureFixture[str]
) -> None:
    place.update()
    (place.pictures / "cam2").chmod(0)
    place.update()
    (place.pictures / "cam2").chmod(0o755)
    assert "skipped: cam2 cannot be read: Permission denied" in capsys.readouterr().out
    assert "cam2/000001.png" in paths(place)


def test_pictures_behind_a_closed_door_stay(
    place: Workplace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """As above, for root: the folder fails to open."""
    place.update()
    original = os.scandir

    def refuse(path: Path) -> object:
        if str(path).endswith("cam2"):
            raise PermissionError(13, "Permission denied", str(path))
        return original(path)

    with monkeypatch.context() as patch:
        patch.setattr(os, "scandir", refuse)
        place.update()
    assert "skipped: cam2 cannot be read: Permission denied" in capsys.readouterr().out
    assert "cam2/000001.png" in paths(place)


def test_a_wrong_clock_is_no_obstacle(place: Workplace, capsys: pytest.CaptureFixture[str]) -> None:
    """Nanoseconds since 1970 are beyond 64 bits from 2262 on."""
    os.utime(place.pictures / "cam1/000000.png", (2**34, 2**34))
    place.update()
    place.update()
    assert "36 pictures: 0 new, 0 changed" in capsys.readouterr().out


def test_a_scan_lists_pictures_in_the_order_of_their_paths(place: Workplace) -> None:
    listed = list(scan(place.pictures).pictures)
    assert listed == sorted(listed)
    assert len(listed) > 30
