"""A folder of pictures → an array of embeddings and a CSV, for a search of one's own."""

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np

from search.embedding import BATCH, Embedder, File, embed_files
from search.facts import Facts, Finder, Rules
from search.scan import scan
from stages.parts.run.console import message, progress
from stages.parts.run.files import whole_file, write_text

COLUMNS = ("row", "path", "camera", "time", "modality", "sha256")


class Entry(NamedTuple):
    """A picture that has a row."""

    path: str  # in the folder
    facts: Facts
    sha256: str  # of its file


class Result(NamedTuple):
    """What became of the pictures of a folder."""

    rows: np.ndarray  # (N, D) float32
    entries: list[Entry]  # of the rows
    problems: list[tuple[str, str]]  # path and problem of the pictures without a row


def embed_folder(
    folder: Path, rules: Mapping[str, str], embedder: Embedder, processes: int
) -> Result:
    """Embed the pictures of a folder, in the order of their paths.

    Args:
        folder: see `scan`.
        rules: fields of `Rules`.
        embedder: of the model.
        processes: how many embed; the result is the same.

    Raises:
        InputError: as `scan`, `Finder` and `embed_files`.
    """
    folder = Path(os.path.realpath(folder))  # `resolve` has no error of its own for a loop
    finder = Finder(folder, Rules(**rules))
    content = scan(folder)
    for remark in content.remarks(folder) + finder.remarks(content.pictures):
        message(remark)
    paths = list(content.pictures)
    facts = [finder.facts(path) for path in paths]
    files = [
        File(str(folder), path, each.infrared) for path, each in zip(paths, facts, strict=True)
    ]
    problems = dict(content.problems)
    hashes = [""] * len(files)
    rows = np.empty((len(files), embedder.model.dimensions), np.float32)
    batches = embed_files(embedder, files, processes)
    for batch in progress(batches, "embedding", f"×{BATCH}", -(-len(files) // BATCH)):
        readable = []
        for position, sha256, problem in zip(
            batch.positions, batch.hashes, batch.problems, strict=True
        ):
            if problem:
                problems[paths[position]] = problem
            else:
                readable.append(position)
                hashes[position] = sha256
        rows[readable] = batch.rows
    kept = [position for position, sha256 in enumerate(hashes) if sha256]
    entries = [Entry(paths[each], facts[each], hashes[each]) for each in kept]
    return Result(rows[kept], entries, list(problems.items()))


def write(out: Path, result: Result) -> None:
    """Write the rows to `out` and their pictures to a CSV beside it, each whole or not at all."""
    text = io.StringIO()
    lines = csv.writer(text, lineterminator="\n")
    lines.writerow(COLUMNS)
    for row, entry in enumerate(result.entries):
        modality = "infrared" if entry.facts.infrared else "visible"
        facts = (entry.facts.camera, entry.facts.time, modality)
        lines.writerow((row, entry.path, *facts, entry.sha256))
    write_text(out.with_suffix(".csv"), text.getvalue())
    with whole_file(out) as part:
        np.save(part, result.rows, allow_pickle=False)
