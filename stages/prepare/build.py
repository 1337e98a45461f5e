"""A table and its image files → a folder of the image store: `pixels.npy`, `table.csv`, `files.csv`."""

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

from stages.parts.images.store import create_pixels
from stages.parts.images.table import write_table
from stages.parts.run.console import progress
from stages.parts.run.files import whole_folder
from stages.parts.run.stage import InputError

FORMATS = ("JPEG", "PNG", "BMP")
CHUNK = 32  # images a task: with one each, handing out the tasks shows beside small images


class File(NamedTuple):
    """A raw file as it was read: its size and hash, and what is wrong with it (nothing: empty)."""

    row: int
    bytes: int
    sha256: str
    problem: str


def build(root: Path, table: pd.DataFrame, folder: Path, height: int, width: int) -> None:
    """Write the images of `table`, resized to (height, width), to `folder`, whole or not at all.

    pixels.npy  (N, height, width, 3) uint8, filled row by row, never held in memory
    table.csv   the table
    files.csv   row, bytes, sha256 of each raw file, from the same read that its pixels come from
    InputError names the first bad image and the number of others.
    """
    with whole_folder(folder) as beside:
        _refuse_full_disk(beside, folder, len(table) * height * width * 3)
        pixels = create_pixels(beside / "pixels.npy", len(table), height, width)
        files = list(_fill(root, table["path"].tolist(), pixels))
        pixels.flush()
        del pixels
        bad = [file for file in files if file.problem]
        if bad:
            others = f" ({len(bad) - 1} more images are bad)" if len(bad) > 1 else ""
            raise InputError(f"{root / table['path'].iloc[bad[0].row]} {bad[0].problem}{others}")
        write_table(table, beside / "table.csv")
        columns = list(File._fields[:3])
        frame = pd.DataFrame([file[:3] for file in files], columns=columns)
        frame.to_csv(beside / "files.csv", index=False, lineterminator="\n")


def read_image(path: Path, height: int, width: int) -> tuple[np.ndarray, int, str]:
    """Pixels (height, width, 3) uint8 of an image file, its size in bytes and its SHA-256, from one read.

    RGB first, then Lanczos, as the method's released code does. ValueError says what is wrong, without the path.
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
    if mode.startswith(("I", "F")):
        raise ValueError(
            f"has {mode} pixels; expected 8 bits a channel"
        )  # converting would clip them to white
    return np.asarray(resized), len(raw), hashlib.sha256(raw).hexdigest()


def _fill(root: Path, paths: list[str], pixels: np.ndarray) -> Iterator[File]:
    """Write each image to its row of `pixels` (N, H, W, 3); yields a File each, in order.

    Threads: decoding, resizing and hashing release the interpreter. Measured on 2 cores, images a second, one thread,
    2 threads, 2 processes: 96 × 48 to 96 × 48 2,700 / 2,270 / 4,400; 400 × 160 to 288 × 144 283 / 620 / 625;
    1200 × 600 to 288 × 144 59 / 113 / 118.
    """
    height, width = pixels.shape[1:3]

    def work(rows: range) -> list[File]:
        files = []
        for row in rows:
            try:
                pixels[row], size, digest = read_image(root / paths[row], height, width)
                files.append(File(row, size, digest, ""))
            except ValueError as error:
                files.append(File(row, 0, "", str(error)))
        return files

    chunks = [range(start, min(start + CHUNK, len(paths))) for start in range(0, len(paths), CHUNK)]
    pool = ThreadPoolExecutor(min(8, os.cpu_count() or 1))
    try:
        done: Iterable[File] = chain.from_iterable(pool.map(work, chunks))
        yield from progress(done, f"reading {root.name}", "image", len(paths))
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for thousands of images


def _refuse_full_disk(beside: Path, folder: Path, needed: int) -> None:
    """Say it before the first image: writing to a mapped file on a full disk kills the process without a word."""
    free = shutil.disk_usage(beside).free
    if free < needed:
        raise InputError(
            f"{folder} needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free; "
            "smaller images.height and images.width need less"
        )
