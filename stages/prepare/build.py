"""Image files → a folder of the image store: `pixels.npy`, `table.csv`, `files.csv`."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from stages.parts.images.store import create_pixels, seal
from stages.parts.images.table import write_table
from stages.parts.run.console import message, progress
from stages.parts.run.files import whole_folder, write_csv
from stages.parts.run.stage import InputError
from stages.prepare.decode import read_image

CHUNK = 32  # images in a task: with one, handing out the tasks takes long beside small images


class FileRecord(NamedTuple):
    """A raw file as it was read: its size and hash, or the problem (empty if there is none).

    `has_turn` is True if its EXIF orientation turns or mirrors the stored image.
    """

    row: int
    bytes: int
    sha256: str
    has_turn: bool
    problem: str


def build(
    root: Path,
    table: pd.DataFrame,
    folder: Path,
    height: int,
    width: int,
    upright: bool = False,
    sources: Sequence[Path] | None = None,
) -> None:
    """Write the images of `table`, resized to (height, width), to `folder`, whole or not at all.

    Images with an EXIF orientation are turned if they are to be `upright`. If not, one line says
    how many there are. The images are at their paths below `root`, or at `sources` (N,).

    pixels.npy   (N, height, width, 3) uint8, filled row by row, never held in memory
    table.csv    the table
    files.csv    row, bytes, sha256 of each raw file, from the same read as its pixels
    hashes.json  the SHA-256 of these three files

    Raises:
        InputError: names the first bad image and the number of others.
    """
    paths = table["path"].tolist()
    sources = [root / path for path in paths] if sources is None else sources
    with whole_folder(folder) as part:
        _refuse_full_disk(part, folder, len(paths) * height * width * 3)
        pixels = create_pixels(part / "pixels.npy", len(paths), height, width)
        records = list(_fill(root.name, sources, pixels, upright))
        pixels.flush()
        del pixels
        _refuse_bad_images(sources, records)
        write_table(table, part / "table.csv")
        files = pd.DataFrame(records, columns=list(FileRecord._fields))
        write_csv(part / "files.csv", files[["row", "bytes", "sha256"]])
        seal(part)
    if not upright:
        _warn_turned(root, paths, records)


def _fill(
    name: str, sources: Sequence[Path], pixels: np.ndarray, upright: bool
) -> Iterator[FileRecord]:
    """Write each image to its row of `pixels` (N, H, W, 3); yield its record, in order.

    Threads are enough: decoding, resizing and hashing release the interpreter lock. Images a
    second on 2 cores with one thread, 2 threads, 2 processes:

      96 ×  48 to  96 ×  48   2,700   2,270   4,400
     400 × 160 to 288 × 144     283     620     625
    1200 × 600 to 288 × 144      59     113     118
    """

    def read_chunk(start: int) -> list[FileRecord]:
        rows = range(start, min(start + CHUNK, len(sources)))
        return [_fill_row(sources[row], pixels, row, upright) for row in rows]

    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        chunks = pool.map(read_chunk, range(0, len(sources), CHUNK))
        records: Iterable[FileRecord] = chain.from_iterable(chunks)
        yield from progress(records, f"reading {name}", "image", len(sources))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for thousands of images


def _fill_row(path: Path, pixels: np.ndarray, row: int, upright: bool) -> FileRecord:
    """Write one image to its row of `pixels` and return its record."""
    height, width = pixels.shape[1:3]
    try:
        image = read_image(path, height, width, upright)
    except ValueError as error:
        return FileRecord(row, 0, "", False, str(error))
    pixels[row] = image.pixels
    return FileRecord(row, image.bytes, image.sha256, image.has_turn, "")


def _refuse_bad_images(sources: Sequence[Path], records: list[FileRecord]) -> None:
    bad = [record for record in records if record.problem]
    if bad:
        others = f" ({len(bad) - 1} more images are bad)" if len(bad) > 1 else ""
        raise InputError(f"{sources[bad[0].row]} {bad[0].problem}{others}")


def _warn_turned(root: Path, paths: list[str], records: list[FileRecord]) -> None:
    turned = [record for record in records if record.has_turn]
    if turned:
        first = paths[turned[0].row]
        number = f"{len(turned)} images have an EXIF orientation, the first is {first}"
        message(f"WARNING: {root}: {number}; they are not turned, as in the released code")


def _refuse_full_disk(part: Path, folder: Path, needed: int) -> None:
    """Refuse before the first image: writing to a mapped file on a full disk kills the process."""
    free = shutil.disk_usage(part).free
    if free < needed:
        raise InputError(
            f"{folder} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "smaller images.height and images.width need less"
        )
