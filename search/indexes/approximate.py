"""Approximate search by faiss: IVF (lists around centers) or HNSW (a graph of neighbors)."""

from errno import ENOENT
from pathlib import Path
from typing import Any

import faiss
import numpy as np

from search.indexes.flat import contains
from search.indexes.protocol import Neighbors, merged, no_neighbors
from stages.parts.run.files import whole_file
from stages.parts.run.stage import InputError

LINKS = 32  # of a row in the graph of HNSW, on each side
CONSTRUCTION = 80  # candidates for them
TRAINED = 64  # rows for each center of IVF when the centers are found
_faiss: Any = faiss  # its stubs lack the search parameters and the arrays that it accepts
ADDED = 1 << 15  # rows at a time
EFFORTS = (16, 32, 64, 128, 256, 512)  # lists that IVF visits, candidates that HNSW keeps


class Approximate:
    """A faiss index.

    faiss cannot take a row out of a graph, so removed rows stay in it and are left out of answers.

    Attributes:
        kind: `ivf` or `hnsw`.
        effort: one of EFFORTS. More finds more of the true neighbors and takes longer.
    """

    def __init__(self, kind: str, index: Any, ids: np.ndarray, effort: int = EFFORTS[0]) -> None:
        self.kind = kind
        self.effort = effort
        self._index = index
        self._ids = ids  # of the rows that have not been removed, ascending

    @classmethod
    def new(cls, kind: str, sample: np.ndarray, expected: int) -> "Approximate":
        """Return an empty index.

        Args:
            kind: `ivf` or `hnsw`.
            sample: rows (S, D) that the centers of IVF are found with.
            expected: how many rows will be added about; IVF has 4 √N lists.
        """
        dimensions = sample.shape[1]
        none = np.empty(0, np.int64)
        if kind == "hnsw":
            graph = faiss.IndexHNSWFlat(dimensions, LINKS, faiss.METRIC_INNER_PRODUCT)
            graph.hnsw.efConstruction = CONSTRUCTION
            return cls(kind, faiss.IndexIDMap2(graph), none)
        lists = max(1, min(round(4 * expected**0.5), len(sample) // TRAINED))
        centers = faiss.IndexFlatIP(dimensions)
        index = faiss.IndexIVFFlat(centers, dimensions, lists, faiss.METRIC_INNER_PRODUCT)
        index.cp.spherical = True  # rows have length 1, so have the centers
        index.train(np.ascontiguousarray(sample))
        return cls(kind, index, none)

    @classmethod
    def load(cls, kind: str, folder: Path, state: dict[str, Any]) -> "Approximate":
        """Return the index that `save` wrote.

        Raises:
            FileNotFoundError: if a file is missing.
            InputError: if a file is not what was written.
        """
        remedy = f"index with --kind flat, then with --kind {kind}, which embeds nothing"
        try:
            path = folder / state["file"]
            if not path.is_file():  # faiss's own error has no type
                raise FileNotFoundError(ENOENT, "is missing", str(path))
            index = faiss.read_index(str(path))
            ids = np.load(folder / state["ids"], allow_pickle=False)
            return cls(kind, index, ids, state["effort"])
        except FileNotFoundError:
            raise
        except Exception as error:  # a damaged file can raise nearly anything
            raise InputError(f"{folder} is damaged: {_reason(error)}; {remedy}") from None

    @property
    def total(self) -> int:
        """The number of rows in the faiss index, removed ones included."""
        return int(self._index.ntotal)

    def ids(self) -> np.ndarray:
        """Return the ids of all rows, ascending."""
        return self._ids

    def add(self, ids: np.ndarray, rows: np.ndarray) -> None:
        """Add rows (N, D) under ids (N,)."""
        for start in range(0, len(ids), ADDED):
            part = np.ascontiguousarray(rows[start : start + ADDED])
            self._index.add_with_ids(part, np.ascontiguousarray(ids[start : start + ADDED]))
        self._ids = np.union1d(self._ids, ids)

    def remove(self, ids: np.ndarray) -> None:
        """Leave the rows with these ids out of all further searches."""
        self._ids = np.setdiff1d(self._ids, ids)

    def search(
        self, queries: np.ndarray, count: int, allowed: np.ndarray | None = None
    ) -> Neighbors:
        """Return the neighbors that faiss finds; some true ones may be missing."""
        searched = self._ids
        if allowed is not None:
            searched = allowed[contains(self._ids, allowed)]
        if not len(queries) or not len(searched):
            return no_neighbors(len(queries), count)
        options: dict[str, Any] = {}
        if len(searched) < self._index.ntotal:
            chosen = np.zeros(int(searched[-1]) + 1, bool)
            chosen[searched] = True
            options["sel"] = _faiss.IDSelectorBitmap(np.packbits(chosen, bitorder="little"))
        if self.kind == "hnsw":
            effort = max(self.effort, count)
            parameters = _faiss.SearchParametersHNSW(efSearch=effort, **options)
        else:
            parameters = _faiss.SearchParametersIVF(nprobe=self.effort, **options)
        # Where the process has imported faiss.contrib.torch_utils (training on a GPU does),
        # `search` takes no parameters, and faiss's own method has this other name.
        search = getattr(self._index, "search_numpy", self._index.search)
        similarity, ids = search(queries, count, params=parameters)
        similarity[ids < 0] = -np.inf
        return merged(Neighbors(ids, similarity), no_neighbors(len(queries), 0), count)

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write the index to `folder`; return the names of its files."""
        state = {"file": f"{name}.faiss", "ids": f"{name}.ids.npy", "effort": self.effort}
        with whole_file(folder / f"{name}.faiss") as part:
            try:
                faiss.write_index(self._index, str(part))
            except RuntimeError as error:  # of a full disk
                raise OSError(_reason(error)) from None
        with whole_file(folder / f"{name}.ids.npy") as part:
            np.save(part, self._ids, allow_pickle=False)
        return state


def _reason(error: Exception) -> str:
    """Return what an error says, of faiss's without the function and the file of its source."""
    return str(error).rpartition("Error: ")[2]
