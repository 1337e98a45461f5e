"""Strangers' folders: names, links, files that never end, images that claim any size."""

import os
import re
import struct
import subprocess
import sys
import threading
import zlib
from pathlib import Path

import pytest
from PIL import Image

from stages.parts.run.stage import InputError
from stages.prepare import decode
from stages.prepare.decode import read_image
from stages.prepare.disk import image_names, path_below, read_file
from stages.prepare.tree import read_lines, read_list

ROOT = Path(__file__).parents[1]


def claim(width: int, height: int, rows: int = 0) -> bytes:
    """A gray PNG that claims width × height pixels and holds the first `rows` of them."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        body = kind + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    squeezer = zlib.compressobj()
    data = b"".join(squeezer.compress(bytes(width + 1)) for _ in range(rows)) + squeezer.flush()
    parts = (chunk(b"IHDR", header), chunk(b"IDAT", data), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


# --- names ----------------------------------------------------------------------------------------


def test_names_with_spaces_and_letters_of_any_script_are_names(tmp_path: Path) -> None:
    names = ["  a  b .jpg", "Zoë.JPG", "王\u3000芳.PNG", "a,\"b';.bmp", "🙂.jpeg"]
    for name in names:
        (tmp_path / name).touch()
    assert image_names(tmp_path) == sorted(names)


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        (b"b\xe4r.jpg", r"b\xe4r.jpg"),
        (b"\xff\xfe.png", r"\xff\xfe.png"),
        (b"two\nlines.jpg", r"two\x0alines.jpg"),
        (b"a\rb.jpg", r"a\x0db.jpg"),
        (b"\x1b[2J.jpg", r"\x1b[2J.jpg"),
    ],
)
def test_a_name_that_no_table_can_hold_is_refused_in_a_form_that_can_be_read(
    tmp_path: Path, name: bytes, shown: str
) -> None:
    (tmp_path / "good.jpg").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).touch()
    with pytest.raises(InputError) as raised:
        image_names(tmp_path)
    expected = "expected a name in UTF-8 without control characters"
    assert str(raised.value) == f"{tmp_path}/{shown}: {expected}"
    assert str(raised.value).isprintable()


# --- links and what is no file --------------------------------------------------------------------


def test_a_broken_link_is_not_an_image_less(tmp_path: Path) -> None:
    """A part of a tree that is linked to an unmounted disk must not vanish without a word."""
    (tmp_path / "cam1").symlink_to("/not/mounted")
    with pytest.raises(InputError, match=f"^{tmp_path}/cam1 is a broken link$"):
        image_names(tmp_path / "cam1")
    with pytest.raises(InputError, match=f"^{tmp_path}/cam1 is a broken link$"):
        image_names(tmp_path / "cam1/0001")
    assert image_names(tmp_path / "cam2/0001") == []
    (tmp_path / "0001.jpg").symlink_to("/not/mounted/0001.jpg")
    assert image_names(tmp_path) == ["0001.jpg"]
    with pytest.raises(ValueError, match=r"^is a broken link$"):
        read_image(tmp_path / "0001.jpg", 8, 4)


def test_loops_of_links_end(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").symlink_to("b.jpg")
    (tmp_path / "b.jpg").symlink_to("a.jpg")
    (tmp_path / "cam1").symlink_to("cam1")
    (tmp_path / "round").symlink_to(".")
    assert image_names(tmp_path / "round/round/round") == ["a.jpg", "b.jpg"]
    with pytest.raises(ValueError, match="cannot be read: Too many levels of symbolic links"):
        read_image(tmp_path / "a.jpg", 8, 4)
    with pytest.raises(InputError, match="cam1/0001 cannot be read: Too many levels"):
        image_names(tmp_path / "cam1/0001")


def test_a_file_in_place_of_a_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "cam1").touch()
    with pytest.raises(InputError, match="cam1 cannot be read: Not a directory"):
        image_names(tmp_path / "cam1")


def test_pipes_and_devices_are_not_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "zero.jpg").symlink_to("/dev/zero")
    for name in image_names(tmp_path):
        with pytest.raises(ValueError, match=r"^is not a file$"):
            read_image(tmp_path / name, 8, 4)
        with pytest.raises(InputError, match=f"{name} is not a file; the data set comes with"):
            read_lines(tmp_path / name)
    with pytest.raises(ValueError, match=r"^is not a file$"):
        read_file(tmp_path, 9)


def test_what_cannot_be_read_is_said_without_a_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may read everything, so the system's answer is put in its mouth."""

    def refuse(path: Path) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "a.jpg").touch()
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(ValueError, match=r"^cannot be read: Permission denied$"):
        read_image(tmp_path / "a.jpg", 8, 4)
    with pytest.raises(InputError, match=r"a\.jpg cannot be read: Permission denied"):
        read_lines(tmp_path / "a.jpg")


# --- lists ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["/etc/a.jpg", "../a.jpg", "a/../../b.jpg", "C:\\a.jpg", "~/a.jpg", "..\\a.jpg", ".."]
)
def test_no_path_of_a_list_leads_out_of_its_root(tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match=re.escape(f"x: path {text!r} is not below {tmp_path};")):
        path_below(tmp_path, "x", text)
    (tmp_path / "list.txt").write_text(f"a/b.jpg 0\n{text} 1\n")
    with pytest.raises(InputError, match=r"list\.txt line 2: path .* is not below"):
        read_list(tmp_path, "list.txt")


def test_paths_have_one_spelling(tmp_path: Path) -> None:
    for text in ("a/b.jpg", "./a//b.jpg", "a\\b.jpg", "x/../a/b.jpg"):
        assert path_below(tmp_path, "x", text) == "a/b.jpg"
    with pytest.raises(InputError, match=r"path 'a\\x00b' holds a control character"):
        path_below(tmp_path, "x", "a\0b")


@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r"])
def test_a_list_has_the_same_lines_whatever_ends_them(tmp_path: Path, ending: str) -> None:
    lines = ["a b/1.jpg 0", "", "c\u2028/2.jpg 1"]
    (tmp_path / "list.txt").write_bytes(b"\xef\xbb\xbf" + ending.join(lines).encode())
    assert read_lines(tmp_path / "list.txt") == lines


def test_a_list_that_is_not_text_or_too_large_is_named(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_bytes("a/b.jpg 0\nc/bär.jpg 1\n".encode("latin-1"))
    with pytest.raises(InputError, match=r"list\.txt is not a text file in UTF-8 \(line 2\)"):
        read_lines(tmp_path / "list.txt")
    (tmp_path / "list.txt").write_bytes(b"a/b.jpg\t0\n\x1b[2J/b.jpg 1\n")
    with pytest.raises(InputError, match=r"list\.txt line 2 holds a control character; expected"):
        read_lines(tmp_path / "list.txt")
    with open(tmp_path / "list.txt", "wb") as opened:
        opened.truncate(10**10)
    with pytest.raises(InputError, match=r"has 10,000,000,000 bytes; expected at most 67,108,864"):
        read_lines(tmp_path / "list.txt")


# --- images that claim any size -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("width", "height"), [(50_000, 50_000), (2**31 - 1, 1), (60_000_000, 1), (2**13, 2**13 + 1)]
)
def test_an_image_that_is_too_large_is_refused_by_its_header(
    tmp_path: Path, width: int, height: int
) -> None:
    (tmp_path / "a.png").write_bytes(claim(width, height))
    expected = f"has {width:,} × {height:,} pixels; expected at most 65,535 on a side and 67,108"
    with pytest.raises(ValueError, match=f"^{expected}"):
        read_image(tmp_path / "a.png", 8, 4)


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "a.png", "wb") as opened:
        opened.truncate(10**11)
    with pytest.raises(ValueError, match=r"^has 100,000,000,000 bytes; expected at most"):
        read_image(tmp_path / "a.png", 8, 4)


def test_long_and_small_images_are_images(tmp_path: Path) -> None:
    for size in ((20_000, 10), (1, 1), (1, 65_535)):
        Image.new("L", size, 77).save(tmp_path / "a.png")
        assert (read_image(tmp_path / "a.png", 8, 4).pixels == 77).all()


def test_large_images_are_decoded_one_at_a_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (20, 10), 77).save(tmp_path / "a.png")
    monkeypatch.setattr(decode, "LARGE", 199)
    reader = threading.Thread(target=read_image, args=(tmp_path / "a.png", 8, 4))
    with decode.ONE_LARGE_IMAGE:
        reader.start()
        reader.join(0.2)
        assert reader.is_alive()
    reader.join()
    monkeypatch.setattr(decode, "LARGE", 200)
    with decode.ONE_LARGE_IMAGE:
        read_image(tmp_path / "a.png", 8, 4)


LARGEST = """
import resource, sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from stages.prepare.decode import read_image
with ThreadPoolExecutor(4) as pool:
    list(pool.map(lambda path: read_image(Path(path), 288, 144, True), sys.argv[1:] * 4))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_the_largest_images_stay_below_two_gigabytes(tmp_path: Path) -> None:
    """Up to ten seconds: four images of 67 million pixels, progressive and turned by EXIF."""
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("RGB", (2**13, 2**13), (1, 2, 3))
    image.save(tmp_path / "a.jpg", progressive=True, exif=exif)
    command = [sys.executable, "-c", LARGEST, str(tmp_path / "a.jpg")]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert int(ran.stdout) < 2_000_000  # kB
