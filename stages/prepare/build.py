"""Image files → a folder of the image store: `pixels.npy`, `table.csv`, `files.csv`."""

import hashlib
import io
import os
import shutil
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image, UnidentifiedImageError

from stages.parts.images.store import create_pixels, seal
from stages.parts.images.table import write_table
from stages.parts.run.console import progress
from stages.parts.run.files import whole_folder, write_csv
from stages.parts.run.stage import InputError

FORMATS = ("JPEG", "PNG", "BMP")
CHUNK = 32  # images in a task: with one, handing out the tasks takes long beside small images


class FileRecord(NamedTuple):
    """A raw file as it was read: its size and hash, or the problem (empty if there is none)."""

    row: int
    bytes: int
    sha256: str
    problem: str


def build(root: Path, table: pd.DataFrame, folder: Path, height: int, width: int) -> None:
    """Write the images of `table`, resized to (height, width), to `folder`, whole or not at all.

    pixels.npy   (N, height, width, 3) uint8, filled row by row, never held in memory
    table.csv    the table
    files.csv    row, bytes, sha256 of each raw file, from the same read as its pixels
    hashes.json  the SHA-256 of these three files

    Raises:
        InputError: names the first bad image and the number of others.
    """
    paths = table["path"].tolist()
    with whole_folder(folder) as part:
        _refuse_full_disk(part, folder, len(paths) * height * width * 3)
        pixels = create_pixels(part / "pixels.npy", len(paths), height, width)
        records = list(_fill(root, paths, pixels))
        pixels.flush()
        del pixels
        _refuse_bad_images(root, paths, records)
        write_table(table, part / "table.csv")
        files = pd.DataFrame(records, columns=list(FileRecord._fields))
        write_csv(part / "files.csv", files.drop(columns="problem"))
        seal(part)


def read_image(path: Path, height: int, width: int) -> tuple[np.ndarray, int, str]:
    """Return the pixels of an image file, its size in bytes and its SHA-256, from one read.

    Pixels are (height, width, 3) uint8: converted to RGB first, then resized by Lanczos, as in the
    method's released code. ValueError says what is wrong, without the path.
    """
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        raise ValueError("is not here") from None
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    if not raw:
        raise ValueError("is empty (0 bytes)")
    try:
        with Image.open(io.BytesIO(raw), formats=FORMATS) as image:
            mode = image.mode
            resized = image.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    except UnidentifiedImageError:
        raise ValueError(f"is not an image; expected {', '.join(FORMATS)}") from None
    except Exception as error:  # a damaged file can raise nearly anything inside a decoder
        raise ValueError(f"is not a readable image: {' '.join(str(error).split())}") from None
    if mode.startswith(("I", "F")):  # RGB would clip such pixels to white
        raise ValueError(f"has {mode} pixels; expected 8 bits a channel")
    return np.asarray(resized), len(raw), hashlib.sha256(raw).hexdigest()


def _fill(root: Path, paths: list[str], pixels: np.ndarray) -> Iterator[FileRecord]:
    """Write each image to its row of `pixels` (N, H, W, 3); yield its record, in order.

    Threads are enough: decoding, resizing and hashing release the interpreter lock. Images a
    second on 2 cores with one thread, 2 threads, 2 processes:

      96 ×  48 to  96 ×  48   2,700   2,270   4,400
     400 × 160 to 288 × 144     283     620     625
    1200 × 600 to 288 × 144      59     113     118
    """

    def read_chunk(start: int) -> list[FileRecord]:
        rows = range(start, min(start + CHUNK, len(paths)))
        return [_fill_row(root / paths[row], pixels, row) for row in rows]

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        chunks = pool.map(read_chunk, range(0, len(paths), CHUNK))
        records: Iterable[FileRecord] = chain.from_iterable(chunks)
        yield from progress(records, f"reading {root.name}", "image", len(paths))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for thousands of images


def _fill_row(path: Path, pixels: np.ndarray, row: int) -> FileRecord:
    """Write one image to its row of `pixels` and return its record."""
    height, width = pixels.shape[1:3]
    try:
        pixels[row], size, digest = read_image(path, height, width)
    except ValueError as error:
        return FileRecord(row, 0, "", str(error))
    return FileRecord(row, size, digest, "")


def _refuse_bad_images(root: Path, paths: list[str], records: list[FileRecord]) -> None:
    bad = [record for record in records if record.problem]
    if bad:
        others = f" ({len(bad) - 1} more images are bad)" if len(bad) > 1 else ""
        raise InputError(f"{root / paths[bad[0].row]} {bad[0].problem}{others}")


def _refuse_full_disk(part: Path, folder: Path, needed: int) -> None:
    """Refuse before the first image: writing to a mapped file on a full disk kills the process."""
    free = shutil.disk_usage(part).free
    if free < needed:
        raise InputError(
            f"{folder} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "smaller images.height and images.width need less"
        )
