"""The images of a data set as one array on disk, read as needed."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.lib.format import open_memmap

from stages.parts.images.table import read_table


class ImageStore:
    """`pixels.npy` (N, H, W, 3) uint8, memory-mapped, and `table.csv` beside it.

    Images stay uint8 until they are on the device: a quarter of the bytes to move and to keep.
    """

    def __init__(self, folder: Path) -> None:
        """Raises ValueError where array and table do not fit, FileNotFoundError where one is missing."""
        self.folder = folder
        self.table = read_table(folder / "table.csv")
        self.pixels: np.ndarray = np.load(folder / "pixels.npy", mmap_mode="r", allow_pickle=False)
        if self.pixels.ndim != 4 or self.pixels.shape[3] != 3 or self.pixels.dtype != np.uint8:
            raise ValueError(
                f"{folder / 'pixels.npy'}: {self.pixels.dtype} {self.pixels.shape}, expected uint8 (N, H, W, 3)"
            )
        if len(self.pixels) != len(self.table):
            raise ValueError(
                f"{folder}: {len(self.pixels)} images in pixels.npy, {len(self.table)} in table.csv"
            )

    def rows(self, split: str | tuple[str, ...], modality: str | None = None) -> np.ndarray:
        """Rows (int64, ascending) of a split or several, of one modality or both."""
        splits = (split,) if isinstance(split, str) else split
        chosen: pd.Series = self.table["split"].isin(splits)
        if modality is not None:
            chosen &= self.table["modality"] == modality
        return self.table.loc[chosen, "row"].to_numpy(dtype=np.int64)

    def batch(self, rows: np.ndarray, device: torch.device | str = "cpu") -> torch.Tensor:
        """Images `rows` (B,) as uint8 (B, 3, H, W) on `device`, channels last in memory."""
        images = torch.from_numpy(np.ascontiguousarray(self.pixels[rows]))
        if torch.device(device).type == "cuda":
            images = images.pin_memory().to(device, non_blocking=True)
        return images.permute(0, 3, 1, 2)


def create_pixels(path: Path, count: int, height: int, width: int) -> np.memmap:
    """A new `pixels.npy` (count, height, width, 3) uint8 to fill row by row without holding it in memory."""
    return open_memmap(path, mode="w+", dtype=np.uint8, shape=(count, height, width, 3))
