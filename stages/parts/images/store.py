"""The images of a data set as one array on disk, of which rows are read when they are needed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.lib.format import open_memmap

from stages.parts.images.table import read_table
from stages.parts.run.files import file_hash, read_json, write_json

if TYPE_CHECKING:
    import torch


HASHES = "hashes.json"
HASHED = ("pixels.npy", "table.csv", "files.csv")
KEPT = 0.5  # the largest share of a GPU's free memory that kept images take
UPLOADED = 1000  # images at a time, when they are kept


class ImageStore:
    """`pixels.npy` (N, H, W, 3) uint8, memory-mapped, and `table.csv` beside it.

    Images stay uint8 until they are on the device: a quarter of the bytes to move and to keep.
    Opening a store compares its files with the hashes that `seal` wrote, at about 1 GB a second
    (SYSU-MM01 at 288 × 144: 5.6 GB).

    Attributes:
        folder: where the files are.
        table: see `check_table`.
        pixels: the array.
        identity: a hash of all files of the store; equal for equal content.
    """

    def __init__(self, folder: Path) -> None:
        """ValueError if a file has changed or array and table do not fit.

        FileNotFoundError if a file is missing.
        """
        self.folder = folder
        self.identity = _check_hashes(folder)
        self.table = read_table(folder / "table.csv")
        self.pixels: np.ndarray = np.load(folder / "pixels.npy", mmap_mode="r", allow_pickle=False)
        count, shape, kind = len(self.pixels), self.pixels.shape, self.pixels.dtype
        if len(shape) != 4 or shape[3] != 3 or kind != np.uint8:
            expected = "expected uint8 (N, H, W, 3)"
            raise ValueError(f"{folder / 'pixels.npy'}: {kind} {shape}, {expected}")
        if count != len(self.table):
            rows = len(self.table)
            raise ValueError(f"{folder}: {count} images in pixels.npy, {rows} in table.csv")
        self._kept: torch.Tensor | None = None  # (K, H, W, 3) uint8 on a GPU
        self._place = np.full(count, -1)  # of each image in `_kept`; -1 is not there

    def rows(self, split: str | tuple[str, ...], modality: str | None = None) -> np.ndarray:
        """Return the rows of one or more splits and of one modality or both, int64, ascending."""
        splits = (split,) if isinstance(split, str) else split
        chosen = self.table["split"].isin(splits)
        if modality is not None:
            chosen &= self.table["modality"] == modality
        rows: np.ndarray = self.table.loc[chosen, "row"].to_numpy(dtype=np.int64)
        return rows

    def keep(self, rows: np.ndarray, device: torch.device) -> None:
        """Keep the images `rows` (N,) on a GPU, if there is room. A CPU reads the disk in any case.

        Batches of these images then need no upload.
        """
        import torch  # here, because it takes 2 s, and stages that make no batch do not need it

        if device.type != "cuda":
            return
        free, _ = torch.cuda.mem_get_info(device)
        rows = np.unique(rows)
        shape = (len(rows), *self.pixels.shape[1:])
        if np.prod(shape) > KEPT * free:
            return
        self._kept = torch.empty(shape, dtype=torch.uint8, device=device)
        for first in range(0, len(rows), UPLOADED):
            part = slice(first, first + UPLOADED)
            self._kept[part] = torch.from_numpy(self.pixels[rows[part]]).to(device)
        self._place[rows] = np.arange(len(rows))

    def batch(self, rows: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
        """Return the images `rows` (B,) as (B, 3, H, W) uint8, channels last in memory."""
        import torch

        places = self._place[rows]
        kept = self._kept if (places >= 0).all() else None
        read = np.ascontiguousarray(self.pixels[rows]) if kept is None else places
        values = torch.from_numpy(read)
        if torch.device(device).type == "cuda":
            values = values.pin_memory().to(device, non_blocking=True)
        images = values if kept is None else kept[values]  # (B, H, W, 3)
        return images.permute(0, 3, 1, 2)  # (B, 3, H, W)


def seal(folder: Path) -> None:
    """Write `hashes.json`, the SHA-256 of each file of the store in `folder`."""
    write_json(folder / HASHES, {name: file_hash(folder / name) for name in HASHED})


def _check_hashes(folder: Path) -> str:
    """Compare the files of a store with `hashes.json`; return the hash of that file.

    Raises:
        ValueError: names the first file that is not the one that was sealed.
        FileNotFoundError: if a file is missing.
    """
    again = "run the stage that prepares the images again"
    path = folder / HASHES
    try:
        expected = dict(read_json(path))
    except (ValueError, TypeError):
        raise ValueError(f"{path} is not a JSON file of hashes; {again}") from None
    for name in HASHED:
        found = file_hash(folder / name)
        if found != expected.get(name):
            sums = f"SHA-256 {found[:8]}…, expected {str(expected.get(name))[:8]}… ({HASHES})"
            raise ValueError(f"{folder / name} has changed since it was written: {sums}; {again}")
    return file_hash(path)


def create_pixels(path: Path, count: int, height: int, width: int) -> np.memmap:
    """Create `pixels.npy`, (count, height, width, 3) uint8, to fill row by row on disk.

    Its room on the disk is taken at once: writing to a mapped file on a full disk kills a process.
    """
    pixels = open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, height, width, 3))
    with path.open("r+b") as opened:
        os.posix_fallocate(opened.fileno(), 0, path.stat().st_size)
    return pixels
