"""An index in LanceDB, a database in files. It shows that other stores fit behind `Index`.

The package is optional, so this module is imported where an index of its kind is opened.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from errno import ENOENT
from pathlib import Path
from typing import Any

import numpy as np

from search.indexes.protocol import Neighbors, merged, no_neighbors
from stages.parts.run.stage import InputError

try:
    import lancedb
    import pyarrow
except ImportError:
    line = "lancedb is not installed; requirements-search.txt says how"
    raise InputError(line) from None


@contextmanager
def _in_one_line() -> Iterator[None]:
    """Give LanceDB's errors, of a full disk or a damaged table, a type that ends in one line."""
    try:
        yield
    except RuntimeError as error:
        raise InputError(f"LanceDB: {error}") from None


NAMED = 10_000  # ids in a condition that deletes


class Lance:
    """A table of LanceDB with the columns id and row, searched exactly and by ids that are allowed.

    LanceDB keeps every version of a table. So a reader keeps the one that it has opened, and what
    a killed process has added to a later one is taken back.
    """

    def __init__(self, table: Any, file: str) -> None:
        self._table = table
        self._file = file

    @classmethod
    @_in_one_line()
    def new(cls, folder: Path, name: str, dimensions: int) -> "Lance":
        """Return an empty table in the folder."""
        row = pyarrow.list_(pyarrow.float32(), dimensions)
        schema = pyarrow.schema([("id", pyarrow.int64()), ("row", row)])
        table = lancedb.connect(folder).create_table(name, schema=schema)
        return cls(table, f"{name}.lance")

    @classmethod
    @_in_one_line()
    def load(cls, folder: Path, state: dict[str, Any], writes: bool) -> "Lance":
        """Return the table in the version of `state`; whoever `writes` makes it the last one."""
        if not (folder / state["file"]).is_dir():
            raise FileNotFoundError(ENOENT, "is missing", str(folder / state["file"]))
        table = lancedb.connect(folder).open_table(state["file"].removesuffix(".lance"))
        if table.version != state["version"]:
            table.checkout(state["version"])
            if writes:
                table.restore()
        return cls(table, state["file"])

    @_in_one_line()
    def ids(self) -> np.ndarray:
        """Return the ids of all rows, ascending."""
        column = self._table.search().select(["id"]).to_arrow()["id"]
        return np.sort(column.to_numpy().astype(np.int64))

    @_in_one_line()
    def add(self, ids: np.ndarray, rows: np.ndarray) -> None:
        """Add rows (N, D) under ids (N,)."""
        values = pyarrow.array(np.ascontiguousarray(rows).reshape(-1))
        column = pyarrow.FixedSizeListArray.from_arrays(values, rows.shape[1])
        self._table.add(pyarrow.table({"id": pyarrow.array(ids), "row": column}))

    @_in_one_line()
    def remove(self, ids: np.ndarray) -> None:
        """Delete the rows with these ids."""
        for start in range(0, len(ids), NAMED):
            self._table.delete(_one_of(ids[start : start + NAMED]))

    @_in_one_line()
    def search(
        self, queries: np.ndarray, count: int, allowed: np.ndarray | None = None
    ) -> Neighbors:
        """Return the neighbors that LanceDB finds among the allowed rows."""
        found = no_neighbors(len(queries), count)
        if allowed is not None and not len(allowed):
            return found
        for number, query in enumerate(queries):
            search = self._table.search(query, vector_column_name="row").metric("dot")
            if allowed is not None:
                search = search.where(_one_of(allowed), prefilter=True)
            answer = search.limit(count).select(["id", "_distance"]).to_arrow()
            ids = answer["id"].to_numpy()
            found.ids[number, : len(ids)] = ids
            # its distance is 1 minus the inner product
            found.similarity[number, : len(ids)] = 1 - answer["_distance"].to_numpy()
        return merged(found, no_neighbors(len(queries), 0), count)

    def save(self, folder: Path, name: str) -> dict[str, Any]:
        """Write nothing: LanceDB has written already. Return which version it is."""
        return {"file": self._file, "version": self._table.version}


def _one_of(ids: np.ndarray) -> str:
    """Return the condition that the id is one of these numbers."""
    return f"id IN ({','.join(map(str, ids.tolist()))})"
