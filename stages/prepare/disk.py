"""What strangers' folders hold: names of images, bytes of files, what their lists give."""

import os
import posixpath
import re
import stat
from pathlib import Path

from stages.parts.run.stage import InputError

EXTENSIONS = (".jpg", ".jpeg", ".png", ".bmp")
# What lists and folders call the modalities, in lower case.
VISIBLE_NAMES = ("visible", "rgb")
INFRARED_NAMES = ("infrared", "ir", "nir", "thermal")
OUTSIDE = re.compile(r"/|[A-Za-z]:|(\.\.|~)(/|$)")  # how a path starts that leads out of the folder
# Control characters, which would break lines of table.csv, and bytes that are not UTF-8, which
# Python gives as lone surrogates.
UNWRITABLE = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]")


def image_names(folder: Path) -> list[str]:
    """Return the names of the image files in `folder`, ascending; none if it does not exist.

    Hidden files (macOS leaves `._0001.jpg`), files with another extension and folders are no
    images. A link is one, also a broken link: reading it says so.

    Raises:
        InputError: if the folder cannot be read or is behind a broken link, or if a name is not
            UTF-8 or holds a control character.
    """
    try:
        with os.scandir(folder) as entries:
            names = sorted(entry.name for entry in entries if _is_image(entry))
    except FileNotFoundError:
        _refuse_broken_link(folder)
        return []
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from None
    for name in names:
        if UNWRITABLE.search(name):
            expected = "expected a name in UTF-8 without control characters"
            raise InputError(f"{folder}/{escaped(name)}: {expected}")
    return names


def _is_image(entry: os.DirEntry[str]) -> bool:
    name = entry.name
    is_image = name.lower().endswith(EXTENSIONS) and not name.startswith(".")
    return is_image and not entry.is_dir(follow_symlinks=False)


def _refuse_broken_link(path: Path) -> None:
    for part in (path, *path.parents):
        if part.is_symlink() and not part.exists():
            raise InputError(f"{part} is a broken link")


def escaped(name: str) -> str:
    r"""Return a file's name with `\x…` for the bytes and characters that UNWRITABLE matches.

    >>> print(escaped("b\udce4r\n.jpg"))
    b\xe4r\x0a.jpg
    """
    text = os.fsencode(name).decode("utf-8", "backslashreplace")
    return UNWRITABLE.sub(lambda match: f"\\x{ord(match[0]):02x}", text)


def read_file(path: Path, limit: int) -> bytes:
    """Return the bytes of a regular file of at most `limit` bytes.

    ValueError says what is wrong, without the path. Pipes and devices are refused, because reading
    them might never end.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a file")
        if status.st_size > limit:
            raise ValueError(f"has {status.st_size:,} bytes; expected at most {limit:,}")
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise ValueError("is a broken link" if path.is_symlink() else "is not here") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None


def path_below(root: Path, where: str, text: str) -> str:
    """Return the path `text` of a list in one spelling; refuse one that leads out of `root`.

    Args:
        root: the folder in which the path starts.
        where: the list and the line, for messages.
        text: the path as the list gives it, with slashes or backslashes.

    Raises:
        InputError: names `where` and the path.
    """
    path = posixpath.normpath(text.replace("\\", "/"))
    if OUTSIDE.match(path):
        expected = "expected one that starts there, like rgb/1.jpg"
        raise InputError(f"{where}: path {text!r} is not below {root}; {expected}")
    if UNWRITABLE.search(path):
        raise InputError(f"{where}: path {text!r} holds a control character")
    return path
