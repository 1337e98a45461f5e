"""Ranked lists as text and as JSON."""

import json
import os
from collections.abc import Sequence
from typing import Any, NamedTuple

from search.lookup import Result
from search.scan import from_here

NONE = "–"


class Answer(NamedTuple):
    """A query and what was found for it."""

    query: str  # path, as it was given
    results: list[Result]


def shown_path(result: Result) -> str:
    """Return the path of a picture, from the current folder if the picture is below it."""
    return from_here(os.path.join(result.folder, result.picture.path))


def as_text(answers: Sequence[Answer], count: int) -> str:
    """Return a table for each query; `count` is the number of pictures in the index."""
    blocks = []
    for answer in answers:
        rows = [("rank", "similarity", "camera", "time", "path")]
        for each in answer.results:
            facts = each.picture.facts
            similarity = f"{each.similarity:.4f}"
            known = (facts.camera or NONE, facts.time or NONE)
            rows.append((str(each.rank), similarity, *known, shown_path(each)))
        camera, time = (max(len(row[column]) for row in rows) for column in (2, 3))
        lines = [f"{answer.query}: {len(answer.results):,} of {count:,} pictures"]
        for row in rows:
            cells = f"{row[0]:>4}  {row[1]:>10}  {row[2]:<{camera}}  {row[3]:<{time}}  {row[4]}"
            lines.append(cells)
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def as_json(answers: Sequence[Answer]) -> str:
    """Return a list of queries with their results as JSON."""
    tree: list[dict[str, Any]] = []
    for answer in answers:
        results = []
        for each in answer.results:
            facts = each.picture.facts
            entry = {
                "rank": each.rank,
                "similarity": round(each.similarity, 6),
                "camera": facts.camera or None,
                "time": facts.time or None,
                "modality": "infrared" if facts.infrared else "visible",
                "path": shown_path(each),
            }
            results.append(entry)
        tree.append({"query": answer.query, "results": results})
    return json.dumps(tree, indent=2)
