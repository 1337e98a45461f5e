"""What happens to trees on their way: changes of one file, list or folder, and what must follow.

A change takes a `Case` and returns what the reader must say about it: a word that its error must
hold (a name, mostly), READ (the tree is read as before), or EITHER (an error that names the tree,
or a result without a wrong pixel).
"""

import io
import os
import random
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

READ, EITHER = "<read>", "<either>"
ODD_NAME = os.fsdecode(b"b\xe4r.jpg")


@dataclass
class Case:
    """A copy of a tree (hard links: replace files, never write into them), and one file of it."""

    root: Path
    image: str  # path of an image that the reader reads
    lists: list[str]  # paths of the lists
    draw: random.Random

    def put(self, path: str, data: bytes) -> None:
        """Replace a file."""
        (self.root / path).unlink()
        (self.root / path).write_bytes(data)

    def is_listed(self) -> bool:
        """Whether a list names the image, so that it cannot vanish without a word."""
        return any(Path(self.image).name in self.text(name) for name in self.lists)

    def text(self, name: str) -> str:
        """The text of a list."""
        return (self.root / name).read_text()


Change = Callable[[Case], str]


# --- images ---------------------------------------------------------------------------------------


def png(width: int, height: int, bits: int = 8, kind: int = 0, data: bytes = b"") -> bytes:
    """A PNG that claims to have width × height pixels."""

    def chunk(name: bytes, body: bytes) -> bytes:
        whole = name + body
        return struct.pack(">I", len(body)) + whole + struct.pack(">I", zlib.crc32(whole))

    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    parts = ((b"IHDR", header), (b"IDAT", zlib.compress(data)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def saved(mode: str, size: tuple[int, int], form: str, **options: object) -> bytes:
    """A picture of noise as a file."""
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    written = io.BytesIO()
    Image.fromarray(noise).convert(mode).save(written, format=form, **options)
    return written.getvalue()


def orientation(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


GOOD = {  # all of them images that a reader must read
    "CMYK": saved("CMYK", (10, 20), "JPEG"),
    "gray": saved("L", (10, 20), "JPEG"),
    "progressive": saved("RGB", (10, 20), "JPEG", progressive=True),
    "palette": saved("P", (10, 20), "PNG", transparency=b"\x00\x80\xff"),
    "alpha": saved("RGBA", (10, 20), "PNG"),
    "one bit": saved("1", (10, 20), "BMP"),
    "16 bits a color": png(2, 2, 16, 2, bytes(range(13)) * 2),
    "1 × 1": saved("RGB", (1, 1), "PNG"),
    "20,000 × 10": saved("L", (20_000, 10), "BMP"),
    "turned": saved("RGB", (10, 20), "JPEG", exif=orientation(6)),
    "mirrored": saved("RGB", (10, 20), "PNG", exif=orientation(7)),
    "bad EXIF": saved("RGB", (10, 20), "JPEG", exif=b"Exif\0\0MM\0*\0\0\0\x08\0\xff\1\x12\0\3"),
}
BAD = {
    "zero bytes": b"",
    "text": b"<html>404</html>",
    "magic only": b"\xff\xd8\xff",
    "GIF": saved("P", (10, 20), "GIF"),
    "TIFF": saved("RGB", (10, 20), "TIFF"),
    "WEBP": saved("RGB", (10, 20), "WEBP"),
    "16 bits": png(2, 2, 16, 0, bytes(10)),
    "bomb": png(50_000, 50_000),
    "long bomb": png(2**26, 1),
    "no pixels": png(0, 10),
    "other magic": b"BM" + saved("RGB", (10, 20), "PNG"),
}


def content(data: bytes, is_good: bool) -> Change:
    def change(case: Case) -> str:
        case.put(case.image, data)
        return READ if is_good else case.image

    return change


def flipped(case: Case, path: str, share: float = 0.02) -> None:
    """Change some bytes of a file, one at least."""
    data = bytearray((case.root / path).read_bytes()) or bytearray(1)
    for _ in range(1 + int(share * len(data))):
        data[case.draw.randrange(len(data))] = case.draw.randrange(256)
    case.put(path, bytes(data))


def flip_image(case: Case) -> str:
    case.put(case.image, saved("RGB", (10, 20), case.draw.choice(("JPEG", "PNG", "BMP"))))
    flipped(case, case.image)
    return EITHER


def cut_image(case: Case) -> str:
    data = (case.root / case.image).read_bytes()
    case.put(case.image, data[: case.draw.randrange(len(data))])
    return EITHER


def giant_image(case: Case) -> str:
    case.put(case.image, b"")
    os.truncate(case.root / case.image, 10**11)
    return case.image


# --- what stands in the place of a file -----------------------------------------------------------

PLACES = ("nothing", "folder", "pipe", "loop", "broken link", "device")
FOLDER_PLACES = ("nothing", "file", "loop", "broken link")


def place(kind: str, path: Path) -> None:
    """Put something that is no file where `path` was."""
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "loop":
        path.symlink_to(path.name)
    elif kind == "broken link":
        path.symlink_to("/not/mounted")
    elif kind == "file":
        path.touch()
    elif kind == "device":
        path.symlink_to("/dev/zero")


def instead_of_image(kind: str) -> Change:
    def change(case: Case) -> str:
        listed = case.is_listed()
        place(kind, case.root / case.image)
        return case.image if listed or kind not in ("nothing", "folder") else EITHER

    return change


def instead_of_list(kind: str) -> Change:
    def change(case: Case) -> str:
        name = case.draw.choice(case.lists)
        place(kind, case.root / name)
        # A source is read without its lists of the test; a folder is looked for by its list.
        return EITHER if kind in ("nothing", "broken link", "loop") else Path(name).name

    return change


def instead_of_folder(kind: str) -> Change:
    def change(case: Case) -> str:
        folder = str(case.draw.choice(list(Path(case.image).parents)[:-1]))
        place(kind, case.root / folder)
        return EITHER if kind == "nothing" else folder

    return change


def unreadable(case: Case) -> str:
    """Root reads it all the same."""
    path = case.root / case.image
    data = path.read_bytes()
    case.put(case.image, data)
    path.chmod(0)
    return READ if os.access(path, os.R_OK) else case.image


# --- names ----------------------------------------------------------------------------------------


def renamed(new: Callable[[str], str], follow: bool) -> Change:
    """Rename the image; with `follow` the lists name it as before the change they did."""

    def change(case: Case) -> str:
        old = Path(case.image)
        lists = [each for each in case.lists if old.name in case.text(each)]
        name = new(old.name)
        (case.root / old).rename(case.root / old.with_name(name))
        if name == ODD_NAME:
            return case.image if lists else "b\\xe4r.jpg"
        if lists and not follow:
            return case.image
        for each in lists:
            case.put(each, case.text(each).replace(old.name, name).encode())
        return READ if len(lists) < 2 else EITHER

    return change


def upper(name: str) -> str:
    return Path(name).stem + Path(name).suffix.upper()


def odd(name: str) -> str:
    return Path(name).stem + " 王  ü'" + Path(name).suffix


def numbered(number: int) -> Change:
    """Give the first number of a name (Market-1501's identity) another value."""

    def change(case: Case) -> str:
        old = case.root / case.image
        old.rename(old.with_name(f"{number}_" + old.name.split("_", 1)[1]))
        return str(number)

    return change


# --- lists ----------------------------------------------------------------------------------------


def bytes_of_list(change: Callable[[bytes], bytes], expected: str) -> Change:
    def applied(case: Case) -> str:
        name = case.draw.choice(case.lists)
        case.put(name, change((case.root / name).read_bytes()))
        return Path(name).name if expected == "its name" else expected

    return applied


def flip_list(case: Case) -> str:
    flipped(case, case.draw.choice(case.lists))
    return EITHER


def cut_list(case: Case) -> str:
    name = case.draw.choice(case.lists)
    data = (case.root / name).read_bytes()
    case.put(name, data[: case.draw.randrange(len(data) + 1)])
    return EITHER


def giant_list(case: Case) -> str:
    name = case.draw.choice(case.lists)
    case.put(name, b"")
    os.truncate(case.root / name, 10**10)
    return Path(name).name


def cell_in_list(column: int, cell: str, expected: str) -> Change:
    """Write another path (column 0) or another number (column -1) into a line."""

    def change(case: Case) -> str:
        lists = {name: case.text(name).splitlines() for name in case.lists}
        lists = {name: lines for name, lines in lists.items() if lines and lines[-1]}
        name = case.draw.choice(sorted(lists))
        lines = lists[name]
        separator = " " if " " in lines[-1] else ","
        row = case.draw.randrange(name.endswith(".csv"), len(lines))
        cells = lines[row].split(separator)
        cells[column] = cell
        lines[row] = separator.join(cells)
        case.put(name, "\n".join(lines).encode())
        return Path(name).name if expected == "its name" else expected

    return change


def line_twice(case: Case) -> str:
    name = case.draw.choice(case.lists)
    text = case.text(name)
    lines = text.splitlines()
    case.put(name, (text + lines[-1] + "\n").encode() if lines else b"")
    return EITHER


# --- all of them ----------------------------------------------------------------------------------

IMAGE_CHANGES: dict[str, Change] = {
    **{name: content(data, True) for name, data in GOOD.items()},
    **{name: content(data, False) for name, data in BAD.items()},
    **{f"{kind} for an image": instead_of_image(kind) for kind in PLACES},
    **{f"{kind} for a folder": instead_of_folder(kind) for kind in FOLDER_PLACES},
    "image of changed bytes": flip_image,
    "image cut off": cut_image,
    "image of 100 GB": giant_image,
    "unreadable image": unreadable,
    "upper-case extension": renamed(upper, follow=True),
    "upper-case extension, not in the lists": renamed(upper, follow=False),
    "spaces and letters": renamed(odd, follow=True),
    "name not in UTF-8": renamed(lambda name: ODD_NAME, follow=False),
}
# Of trees without lists, whose names hold the identities.
NAME_CHANGES: dict[str, Change] = {
    "huge identity": numbered(10**30),
    "ten digits": numbered(10**9),
    "negative identity": numbered(-7),
}
LIST_CHANGES: dict[str, Change] = {
    **{f"{kind} for a list": instead_of_list(kind) for kind in PLACES},
    "mark": bytes_of_list(lambda data: b"\xef\xbb\xbf" + data, READ),
    "Windows": bytes_of_list(lambda data: data.replace(b"\n", b"\r\n"), READ),
    "old Macintosh": bytes_of_list(lambda data: data.replace(b"\n", b"\r"), READ),
    "blank lines": bytes_of_list(lambda data: data + b"\n \n", READ),
    "UTF-16": bytes_of_list(lambda data: data.decode().encode("utf-16"), "its name"),
    "zeros": bytes_of_list(lambda data: bytes(len(data) + 1), "its name"),
    "not UTF-8": bytes_of_list(lambda data: data + b"b\xe4r", "its name"),
    "empty": bytes_of_list(lambda data: b"", EITHER),
    "changed bytes": flip_list,
    "cut off": cut_list,
    "10 GB": giant_list,
    "a line twice": line_twice,
}
# Of lists of identities and of lists of images with labels.
NUMBER_CHANGES: dict[str, Change] = {
    "huge": cell_in_list(-1, str(10**30), "its name"),
    "negative": cell_in_list(-1, "-1", "its name"),
    "no number": cell_in_list(-1, "1e3", "its name"),
    "another": cell_in_list(-1, "1", EITHER),
}
# Of lists of images.
PATH_CHANGES: dict[str, Change] = {
    path: cell_in_list(0, path, "its name")
    for path in (
        "/etc/1_c1_.jpg",
        "../1_c1_.jpg",
        "a/../../1_c1_.jpg",
        "C:\\a_c1_.jpg",
        "~/a.jpg",
        "a\0.jpg",
    )
}
