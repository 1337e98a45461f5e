"""Picture files → embeddings, in several processes.

The pictures are cut into the same batches whatever the number of processes, and each process
embeds in one thread. So the bytes do not depend on the number of processes.
"""

import multiprocessing
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import NamedTuple

import numpy as np

from search.model import Model
from search.runtime import Network, open_network
from stages.parts.run.console import end_with_parent
from stages.parts.run.stage import InputError
from stages.prepare.decode import Decoded, read_image

BATCH = 64  # pictures that go through the network together
WORTH = 4  # batches for which the start of a process, seconds, is worth it
NOT_FINITE = "has an embedding that is not finite"
AHEAD = 4  # batches of a process that wait for it, so that memory stays bounded


class File(NamedTuple):
    """A picture to embed."""

    folder: str  # without a link in it, see `read`
    path: str  # in the folder
    infrared: bool


class Embedded(NamedTuple):
    """What became of a batch of files."""

    positions: list[int]  # of its files among all
    rows: np.ndarray  # (n, D) float32: of the files without a problem, in their order
    hashes: list[str]  # SHA-256 of every file; empty for one with a problem
    problems: list[str]  # of every file; empty if there is none


class Embedder:
    """A model that has been opened for both modalities, each when it is first needed."""

    def __init__(self, model: Model, runtime: str) -> None:
        self.model = model
        self.runtime = runtime
        self._networks: dict[bool, Network] = {}

    def check(self) -> None:
        """Refuse a model that cannot be run, before any picture is read."""
        for infrared in (False, True) if self.model.two_stream else (False,):
            self.rows(np.zeros((1, self.model.height, self.model.width, 3), np.uint8), infrared)

    def rows(self, images: np.ndarray, infrared: bool) -> np.ndarray:
        """Return the embeddings (B, D) of pictures (B, H, W, 3) uint8 of one modality."""
        stream = infrared and self.model.two_stream
        if stream not in self._networks:
            self._networks[stream] = open_network(self.model, self.runtime, stream)
        return self._networks[stream](np.ascontiguousarray(images.transpose(0, 3, 1, 2)))

    def embed(self, files: Sequence[File], positions: list[int]) -> Embedded:
        """Read and embed files of one modality."""
        images, hashes, problems = [], [], []
        for file in files:
            try:
                decoded = read(file, self.model.height, self.model.width)
            except ValueError as error:
                hashes.append("")
                problems.append(str(error))
                continue
            images.append(decoded.pixels)
            hashes.append(decoded.sha256)
            problems.append("")
        if not images:
            rows = np.empty((0, self.model.dimensions), np.float32)
            return Embedded(positions, rows, hashes, problems)
        rows = self.rows(np.stack(images), files[0].infrared)
        finite = np.isfinite(rows).all(axis=1)  # (n,)
        embedded = [place for place, problem in enumerate(problems) if not problem]
        for row in np.flatnonzero(~finite):
            hashes[embedded[row]] = ""
            problems[embedded[row]] = NOT_FINITE
        return Embedded(positions, rows[finite], hashes, problems)


def read(file: File, height: int, width: int) -> Decoded:
    """Return a picture as `read_image` does, upright; ValueError says what is wrong with it."""
    return read_image(checked_path(file), height, width, upright=True)


def checked_path(file: File) -> Path:
    """Return the whole path of a picture.

    ValueError if a link has come into it since the folder was scanned: it may lead out of there.
    """
    path = os.path.join(file.folder, file.path)
    if os.path.realpath(path) != path:
        raise ValueError("is behind a link")
    return Path(path)


def embed_files(embedder: Embedder, files: Sequence[File], processes: int) -> Iterator[Embedded]:
    """Yield what becomes of all files, batch by batch.

    A network of two streams gets the visible ones first, then the infrared ones. Otherwise the
    batches are in the order of the files.

    Raises:
        InputError: as `open_network`, or if a process was ended from outside.
    """
    batches = _batches(files, embedder.model.two_stream)
    processes = min(processes, len(batches) // WORTH)
    if processes < 2:
        for positions in batches:
            yield embedder.embed([files[position] for position in positions], positions)
        return
    yield from _in_processes(embedder, files, batches, processes)


def _batches(files: Sequence[File], two_stream: bool) -> list[list[int]]:
    """Return the positions of the files of each batch."""
    groups = [list(range(len(files)))]
    if two_stream:
        groups = [
            [position for position in groups[0] if files[position].infrared == infrared]
            for infrared in (False, True)
        ]
    return [
        group[start : start + BATCH] for group in groups for start in range(0, len(group), BATCH)
    ]


_embedder: Embedder  # of a worker process


def _start_worker(model: Model, runtime: str) -> None:
    global _embedder
    end_with_parent()
    _embedder = Embedder(model, runtime)


def _work(files: list[File], positions: list[int]) -> Embedded:
    return _embedder.embed(files, positions)


def _in_processes(
    embedder: Embedder, files: Sequence[File], batches: list[list[int]], processes: int
) -> Iterator[Embedded]:
    """Yield the batches in order. Few are handed out ahead, so that memory stays bounded."""
    pool = ProcessPoolExecutor(
        processes,
        multiprocessing.get_context("spawn"),  # a fork would copy threads of numpy and faiss
        _start_worker,
        (embedder.model, embedder.runtime),
    )
    waiting: deque[Future[Embedded]] = deque()
    try:
        for positions in batches:
            batch = [files[position] for position in positions]
            waiting.append(pool.submit(_work, batch, positions))
            if len(waiting) > AHEAD * processes:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BrokenProcessPool:
        problem = "a process that embeds was ended, probably for lack of memory"
        raise InputError(f"{problem}; try --processes 1") from None
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for all pictures
