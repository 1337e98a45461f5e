"""Index folders of pictures, search them with a picture, embed them.

Each command but `forget` reads the model in models/export, which the stage `export` writes;
`--model` names another folder. docs/search.md shows all of this at work.
"""

import argparse
import io
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from search import rows_out
from search.archive import Archive
from search.build import DEPTH, FAISS, FEWEST, KINDS, check_kind, update_index
from search.embedding import NOT_FINITE, Embedder
from search.facts import Moment, as_names, moment, names_of
from search.forget import forget as forget_folders
from search.lookup import Filter, open_lookup
from search.model import Model, open_model
from search.page import write_page
from search.runtime import RUNTIMES
from search.show import Answer, as_json, as_text
from search.update import Changes, update
from search.writer import Writer, check_model, open_writer
from stages.parts.run.console import busy, end_without_reader, message
from stages.parts.run.stage import EXPECTED, InputError
from stages.prepare.decode import read_image

MODEL = Path("models/export")
MOST = 8  # processes that embed, unless more are asked for
SHOWN = 20  # pictures that could not be read


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for. Return the exit code."""
    options = _parser().parse_args(arguments)
    commands = {"index": index, "forget": forget, "query": query, "embed": embed}
    commands[options.command](options)
    return 0


def index(options: argparse.Namespace) -> None:
    """Bring an index up to date with some folders, and say what has changed."""
    embedder = _embedder(options)
    given = _given_rules(options)
    with open_writer(options.index, embedder.model.identity) as writer:
        kind = options.kind or writer.manifest.kind
        check_kind(kind)
        changes = update(writer, options.folders, given, embedder, options.processes)
        _print_problems(changes.problems)
        remarks = _publish(writer, kind)
        for line in (_summary(options.index, writer.archive(), changes), *remarks):
            message(line)


def forget(options: argparse.Namespace) -> None:
    """Take folders out of an index, whether they still exist or not. No model is needed."""
    with open_writer(options.index, None) as writer:
        count = forget_folders(writer, options.folders)
        remarks = _publish(writer, writer.manifest.kind)
        summary = f"{options.index}: {writer.archive().count:,} pictures: {count:,} forgotten"
        for line in (summary, *remarks):
            message(line)


def query(options: argparse.Namespace) -> None:
    """Print the most similar pictures of an index for each image; write them as a page."""
    model = open_model(options.model, options.int8)
    lookup = open_lookup(options.index)
    check_model(options.index, lookup.archive.manifest, model.identity)
    chosen = Filter(tuple(options.camera), tuple(options.not_camera), options.start, options.end)
    embedder = Embedder(model, options.runtime)
    rows = np.concatenate([_query_row(embedder, path, options.visible) for path in options.images])
    found = lookup.find(rows, options.top, chosen)
    answers = [Answer(str(path), each) for path, each in zip(options.images, found, strict=True)]
    count = lookup.archive.count
    if options.html:
        write_page(options.html, answers, model, count, _in_words(options))
    print(as_json(answers) if options.json else as_text(answers, count))


def embed(options: argparse.Namespace) -> None:
    """Write the rows of a folder's pictures and a CSV that says which picture each is."""
    out: Path = options.out
    if out.suffix != ".npy":
        raise InputError(f"--out {out}: expected a name that ends in .npy")
    rules = _given_rules(options)
    table = out.with_suffix(".csv")
    if rules.get("table") == os.path.realpath(table):
        raise InputError(
            f"--out {out} would replace {table}, the CSV of --table; give another name"
        )
    result = rows_out.embed_folder(options.folder, rules, _embedder(options), options.processes)
    _print_problems(result.problems)
    rows_out.write(out, result)
    count, dimensions = result.rows.shape
    message(f"{out}: {count:,} rows of {dimensions}; {table}: their pictures")


def _publish(writer: Writer, kind: str) -> list[str]:
    """Bring the index of the kind up to date, publish all; return what is to be said of it."""
    with busy("arranging the index"):
        writer.merge()
        recall = update_index(writer, kind)
        writer.publish()
    if recall is not None:
        value = f"recall@{DEPTH} {recall.value:.3f} against exact search"
        measured = f"measured with {recall.queries} of its pictures (effort {recall.effort})"
        return [f"{kind}: {value}, {measured}"]
    if kind in FAISS and writer.manifest.index is None:
        return [f"{kind}: fewer than {FEWEST:,} pictures are searched exactly"]
    return []


def _embedder(options: argparse.Namespace) -> Embedder:
    model: Model = open_model(options.model, options.int8)
    embedder = Embedder(model, options.runtime)
    embedder.check()
    return embedder


def _query_row(embedder: Embedder, path: Path, is_visible: bool) -> np.ndarray:
    """Return the embedding (1, D) of a query."""
    model = embedder.model
    try:
        image = read_image(path, model.height, model.width, upright=True)
    except ValueError as error:
        raise InputError(f"{path} {error}") from None
    row = embedder.rows(image.pixels[None], infrared=not is_visible)
    if not np.isfinite(row).all():
        raise InputError(f"{path} {NOT_FINITE}")
    return row


def _given_rules(options: argparse.Namespace) -> dict[str, str]:
    """Return the rules that the command line gives; an empty one takes back an earlier one."""
    given = {name: getattr(options, name) for name in ("pattern", "table", "infrared")}
    if given["table"]:
        given["table"] = os.path.realpath(given["table"])
    return {name: value for name, value in given.items() if value is not None}


def _print_problems(problems: Sequence[tuple[str, str]]) -> None:
    for path, problem in problems[:SHOWN]:
        message(f"skipped: {path} {problem}")
    if len(problems) > SHOWN:
        message(f"skipped: {len(problems) - SHOWN:,} more")


def _summary(folder: Path, archive: Archive, changes: Changes) -> str:
    parts = [f"{changes.new:,} new", f"{changes.changed:,} changed", f"{changes.vanished:,} gone"]
    if changes.known:
        parts.append(f"{changes.known:,} known by their bytes")
    if changes.unreadable:
        listed = archive.manifest.unreadable
        parts.append(f"{changes.unreadable:,} unreadable (listed in {folder}/{listed})")
    return f"{folder}: {archive.count:,} pictures: {', '.join(parts)}"


def _in_words(options: argparse.Namespace) -> str:
    """Return the filters for a person who reads the page."""
    words = []
    for name, option in (
        ("camera", options.camera),
        ("not camera", options.not_camera),
    ):
        if option:
            words.append(f"{name} {as_names(option)}")
    if options.start or options.end:
        words.append("within the time that was asked for")
    return f" ({'; '.join(words)})" if words else ""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m search",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    _add_index(commands.add_parser("index", help="bring an index up to date with folders"))
    _add_forget(commands.add_parser("forget", help="take folders and their rows out of an index"))
    _add_query(commands.add_parser("query", help="print the most similar pictures of an index"))
    _add_embed(commands.add_parser("embed", help="write the embeddings of a folder as an array"))
    return parser


def _add_index(options: argparse.ArgumentParser) -> None:
    options.add_argument("folders", nargs="+", type=Path, metavar="FOLDER")
    options.add_argument("--index", type=Path, required=True, metavar="PATH", help="its folder")
    kinds = "flat: exact, the default; others find most of the nearest, faster"
    options.add_argument("--kind", choices=KINDS, help=kinds)
    _add_rules(options)
    _add_model(options)
    _add_processes(options)


def _add_forget(options: argparse.ArgumentParser) -> None:
    text = "as it was indexed; it need not exist any more"
    options.add_argument("folders", nargs="+", type=Path, metavar="FOLDER", help=text)
    options.add_argument("--index", type=Path, required=True, metavar="PATH", help="its folder")


def _add_query(options: argparse.ArgumentParser) -> None:
    options.add_argument("images", nargs="+", type=Path, metavar="IMAGE")
    options.add_argument("--index", type=Path, required=True, metavar="PATH", help="its folder")
    options.add_argument("--top", type=_count, default=20, help="length of a list; default 20")
    options.add_argument("--visible", action="store_true", help="the images are not infrared")
    names: dict[str, Any] = {"action": "extend", "type": _names, "default": [], "metavar": "NAMES"}
    cameras = "only these cameras, with commas between them; quotes around a name with a comma"
    options.add_argument("--camera", **names, help=cameras)
    options.add_argument("--not-camera", **names, help="all but these cameras")
    times = "a number or a date, as the index has them"
    options.add_argument("--from", dest="start", type=_moment, metavar="TIME", help=times)
    options.add_argument("--to", dest="end", type=_moment, metavar="TIME", help=times)
    options.add_argument("--json", action="store_true", help="print JSON")
    options.add_argument("--html", type=Path, metavar="FILE", help="write a page with the pictures")
    _add_model(options)


def _add_embed(options: argparse.ArgumentParser) -> None:
    options.add_argument("folder", type=Path, metavar="FOLDER")
    options.add_argument("--out", type=Path, required=True, metavar="X.npy", help="and X.csv")
    _add_rules(options)
    _add_model(options)
    _add_processes(options)


def _add_rules(options: argparse.ArgumentParser) -> None:
    pattern = r"regular expression for paths with the groups camera and time"
    options.add_argument("--pattern", metavar="PATTERN", help=pattern)
    table = "CSV with the columns path and camera, time or modality"
    options.add_argument("--table", metavar="CSV", help=table)
    infrared = "regular expression for the paths of infrared pictures"
    options.add_argument("--infrared", metavar="PATTERN", help=infrared)


def _add_model(options: argparse.ArgumentParser) -> None:
    options.add_argument("--model", type=Path, default=MODEL, help=f"default {MODEL}")
    options.add_argument("--int8", action="store_true", help="its quantized networks")
    options.add_argument("--runtime", choices=RUNTIMES, default="onnx", help="default onnx")


def _add_processes(options: argparse.ArgumentParser) -> None:
    default = max(1, min(MOST, len(os.sched_getaffinity(0))))
    text = f"that embed; default {default} here; the result is the same"
    options.add_argument("--processes", type=_count, default=default, help=text)


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 < int(text) <= 10_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 to 10,000")
    return int(text)


def _names(text: str) -> tuple[str, ...]:
    try:
        return names_of(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _moment(text: str) -> Moment | None:
    try:
        return moment(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


if __name__ == "__main__":
    try:
        for name in ("stdout", "stderr"):
            if getattr(sys, name) is None:  # closed: `>&-`
                setattr(sys, name, io.StringIO())
        code = main()
        sys.stdout.flush()
    except BrokenPipeError:
        end_without_reader()
    except EXPECTED as error:
        sys.exit(f"error: {' '.join(str(error).split()) or 'out of memory'}")
    sys.exit(code)
