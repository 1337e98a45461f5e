"""README.md and docs/ against the code: commands, names, links, examples and printed figures.

No stage runs: a command is checked up to the point where its work would begin.
"""

import argparse
import ast
import doctest
import importlib
import importlib.util
import io
import json
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from dataclasses import fields
from functools import cache
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import yaml
from dvc.cli import DvcParserError, parse_args
from dvc.commands.experiments.run import CmdExperimentsRun
from dvc.commands.metrics import CmdMetricsDiff
from dvc.commands.plots import CmdPlotsDiff
from dvc.commands.repro import CmdRepro
from dvc.utils.hydra import get_hydra_sweeps
from PIL import Image

from experiments.plans import PLANS
from experiments.runs import Run, changed, runs
from stages.parts.run import params
from stages.parts.run.settings import SECTIONS
from stages.prepare import folder
from stages.report import __main__ as report

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
TREE = params.load(ROOT / "params.yaml")
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
MAKEFILE = (ROOT / "Makefile").read_text()
# Commands of other programs. They are few, so they are compared as a whole.
OTHER_COMMANDS = (
    ". .venv/bin/activate",
    "cd model",
    "git clone https://example.org/model.git",
    "git commit -m Remote .dvc/config",
    "git push origin person-search@v1.0.0",
    "git restore .",
    "git restore dvc.lock",
    "git tag -a person-search@v1.0.0 -m The default run",
    "rm -r .ckpt",
    "rm .dvc/tmp/rwlock",
    "python3 -m venv search-venv",
    "search-venv/bin/pip install -r requirements-search.txt",
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SPAN = re.compile(r"`([^`]+)`")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
SUBSTITUTION = re.compile(r"\$\((.+?)\)")
VARIABLE = re.compile(r"[A-Z_]+=\S*")  # before a command


class Text(NamedTuple):
    """A block, a code span or a command of a page."""

    page: Path
    line: int
    kind: str  # language of a block, else empty
    text: str

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line} {self.text.strip().splitlines()[0]}"


def blocks_of(page: Path) -> Iterator[Text]:
    text = page.read_text()
    for match in FENCE.finditer(text):
        line = text.count("\n", 0, match.start()) + 2
        yield Text(page, line, match[1], match[2])


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def blocks(kind: str) -> list[Text]:
    return [block for block in BLOCKS if block.kind == kind]


def lines_of(block: Text) -> list[Text]:
    lines = block.text.splitlines()
    return [Text(block.page, block.line + k, "", line) for k, line in enumerate(lines)]


def prose(page: Path) -> str:
    """The text of a page with its blocks blanked, so that the numbers of the lines stay."""
    return FENCE.sub(lambda match: "\n" * match[0].count("\n"), page.read_text())


def spans_of(page: Path) -> Iterator[Text]:
    """The code spans of a page; a line break in one is a space."""
    text = prose(page)
    for match in SPAN.finditer(text):
        line = text.count("\n", 0, match.start()) + 1
        yield Text(page, line, "", match[1].replace("\n", " "))


SPANS = [span for page in PAGES for span in spans_of(page)]


def spans(pattern: str) -> list[Text]:
    return [span for span in SPANS if re.fullmatch(pattern, span.text)]


def shown_commands() -> Iterator[Text]:
    """Every command of the pages: in `sh` blocks, after a prompt `$`, in code spans."""
    for block in blocks("sh"):
        yield from lines_of(block._replace(text=block.text.replace("\\\n", " ")))
    for line in [line for block in blocks("") for line in lines_of(block)]:
        if line.text.startswith("$ "):
            yield line._replace(text=line.text.removeprefix("$ "))
    for span in SPANS:
        words = [word for word in span.text.split() if not VARIABLE.fullmatch(word)]
        if words[:1] == ["-S"]:
            yield span._replace(text=f"dvc exp run {span.text}")
        elif len(words) > 1 and words[0] in (*CHECKS, "git", "rm"):
            yield span


def split_commands(text: str) -> Iterator[list[str]]:
    """The words of each command of a line; comments and variables before a command are left out."""
    words = shlex.split(text, comments=True)
    while words:
        end = words.index("&&") if "&&" in words else len(words)
        command, words = words[:end], words[end + 1 :]
        while VARIABLE.fullmatch(command[0]):
            command = command[1:]
        yield command


# Commands


def check_make(arguments: list[str]) -> None:
    for argument in arguments:
        name, is_variable, _ = argument.partition("=")
        pattern = rf"^{name} \?=" if is_variable else rf"^{name}:.*##"
        assert re.search(pattern, MAKEFILE, re.MULTILINE), f"the Makefile has no {name}"


def check_dvc(arguments: list[str]) -> None:
    try:
        options = parse_args(arguments)
    except DvcParserError:
        pytest.fail(f"dvc does not accept {' '.join(arguments)}")
    if options.func in (CmdExperimentsRun, CmdRepro):
        assert set(options.targets) <= PIPELINE.keys(), "dvc.yaml has no such stage"
    if options.func is CmdExperimentsRun:
        check_changes(options.set_param or [], options.queue)
    if options.func is CmdMetricsDiff:
        check_revisions([options.a_rev, options.b_rev])
        assert all(map(is_output, options.targets or ())), "no stage writes this file"
    if options.func is CmdPlotsDiff:
        check_revisions(options.revisions)


def check_changes(changes: list[str], is_queued: bool) -> None:
    """Refuse what params.yaml refuses. A queued experiment may have several values."""
    combinations = [changes]
    if is_queued:
        sweeps = get_hydra_sweeps({"params.yaml": changes})
        combinations = [sweep["params.yaml"] for sweep in sweeps]
    for combination in combinations:
        changed(TREE, combination)


def check_revisions(revisions: list[str]) -> None:
    """A revision is HEAD, or an experiment of a plan or of a command on the pages."""
    text = "\n".join(command.text for command in COMMANDS)
    known = {"HEAD", *re.findall(r"dvc exp run -n (\S+)", text), *planned_runs()}
    assert set(revisions) <= known, "no command makes this experiment"


@cache
def planned_runs() -> dict[str, Run]:
    lists = [runs(name, plan, plan.values, (), TREE) for name, plan in PLANS.items()]
    return {run.name: run for planned in lists for run in planned}


class AcceptedError(Exception):
    """A parser has accepted the options of a command."""


def check_python(arguments: list[str]) -> None:
    """`-m MODULE [OPTIONS]`: the module can be run, and its own parser accepts the options."""
    assert arguments[0] == "-m"
    module, *options = arguments[1:]
    specification = importlib.util.find_spec(module)
    assert specification is not None, f"there is no module {module}"
    if specification.submodule_search_locations:
        module += ".__main__"
    file = ROOT / f"{module.replace('.', '/')}.py"
    assert 'if __name__ == "__main__":' in file.read_text()
    if not options:
        return

    def parse(parser: argparse.ArgumentParser, words: list[str]) -> None:
        _, unknown = parser.parse_known_args(words)
        assert not unknown
        raise AcceptedError

    main = importlib.import_module(module).main
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, "parse_args", parse)
        with pytest.raises(AcceptedError):
            main(options)


def output_of_variant(match: re.Match[str]) -> str:
    """The -S options that `$(python -m experiments variant NAME)` stands for."""
    program, *arguments = shlex.split(match[1])
    assert program == "python"
    assert arguments[:3] == ["-m", "experiments", "variant"]
    check_python(arguments)
    output = io.StringIO()
    with redirect_stdout(output):
        assert importlib.import_module("experiments.__main__").main(arguments[2:]) == 0
    return output.getvalue()


CHECKS: dict[str, Callable[[list[str]], None]] = {
    "make": check_make,
    "dvc": check_dvc,
    "python": check_python,
}
COMMANDS = list(shown_commands())


@pytest.mark.parametrize("command", COMMANDS, ids=str)
def test_every_command_is_accepted(command: Text, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["dvc"])  # DVC's parser looks at the options of this process
    monkeypatch.chdir(ROOT)
    for words in split_commands(SUBSTITUTION.sub(output_of_variant, command.text)):
        program, *arguments = words
        if program in CHECKS:
            CHECKS[program](arguments)
        else:
            assert " ".join(words) in OTHER_COMMANDS


def test_the_first_screen_has_two_commands() -> None:
    first = blocks("sh")[0]
    commands = [words for line in lines_of(first) for words in split_commands(line.text)]
    assert first.page == README
    assert commands == [["make", "repro"], ["make", "test"]]


# Examples


def test_every_block_is_of_a_kind_that_is_checked() -> None:
    assert {block.kind for block in BLOCKS} == {"", "sh", "python", "yaml", "csv"}


IN_A_RUN = ROOT / "docs/model.md"  # its examples need a finished run: tests/test_pipeline.py


@pytest.mark.parametrize(
    "block", [block for block in blocks("python") if block.page != IN_A_RUN], ids=str
)
def test_python_examples_run(block: Text) -> None:
    if ">>>" not in block.text:
        exec(compile(block.text, str(block), "exec"), {})
        return
    example = doctest.DocTestParser().get_doctest(block.text, {}, str(block), None, 0)
    failures: list[str] = []
    doctest.DocTestRunner(verbose=False).run(example, out=failures.append)
    assert not failures, "".join(failures)


@pytest.mark.parametrize("block", blocks("yaml"), ids=str)
def test_yaml_examples_are_parameters(block: Text) -> None:
    values = leaves(params.parse(block.text))
    changed(TREE, [f"{name}={json.dumps(value)}" for name, value in values.items()])


def leaves(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of a tree by their path `section.name`."""
    values: dict[str, Any] = {}
    for key, value in tree.items():
        is_section = isinstance(value, dict)
        values |= leaves(value, f"{prefix}{key}.") if is_section else {prefix + key: value}
    return values


@pytest.mark.parametrize("block", blocks("csv"), ids=str)
def test_csv_examples_are_read(block: Text, tmp_path: Path) -> None:
    header, *lines = block.text.splitlines()
    paths = [line.split(",")[0] for line in lines]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((16, 8, 3), 90, np.uint8)).save(tmp_path / path)
    is_target = "split" in header
    name = folder.IMAGES if is_target else folder.SOURCE
    (tmp_path / name).write_text(block.text)
    table, _ = folder.read(tmp_path) if is_target else folder.read_source(tmp_path)
    assert sorted(table["path"]) == sorted(paths)


# Links and names


def test_every_link_leads_to_a_file() -> None:
    for page in PAGES:
        for target in LINK.findall(prose(page)):
            path, _, anchor = target.partition("#")
            if "://" not in target:
                linked = page.parent / path if path else page
                assert linked.exists(), f"{page.name}: {target}"
                assert not anchor or anchor in anchors(linked), f"{page.name}: {target}"


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_what_make_repro_names_next_is_there() -> None:
    named = re.findall(r'^\t@echo "  .*? {2,}(.*)"$', MAKEFILE, re.MULTILINE)
    assert len(named) == 3
    for each in named:
        assert (ROOT / each).exists() or each in (ROOT / "README.md").read_text(), each


def test_every_named_file_of_code_exists() -> None:
    named = spans(r"[\w./]+(\.py|/)")
    assert named
    assert [str(span) for span in named if not is_code(span.text)] == []


def is_code(name: str) -> bool:
    """Whether a file or folder is in the repository or in stages/; a bare file name, anywhere."""
    is_bare = "/" not in name
    is_there = (ROOT / name).exists() or (ROOT / "stages" / name).exists()
    return is_there or (is_bare and any((ROOT / "stages").rglob(name)))


def test_every_named_file_of_data_is_written_by_a_stage() -> None:
    named = spans(r"(data/(?!raw)|models/|metrics/)[\w./]+")
    assert named
    assert [str(span) for span in named if not is_output(span.text)] == []


def is_output(name: str) -> bool:
    """Whether a stage writes the file or folder `name`, or a folder that holds it."""
    outputs: set[str] = set()
    for stage in PIPELINE.values():
        for key in ("outs", "metrics", "plots"):
            for output in stage.get(key, ()):
                outputs |= {output} if isinstance(output, str) else set(output)
    return any(name == output or name.startswith(f"{output}/") for output in outputs)


def test_every_named_parameter_exists_and_accepts_its_value() -> None:
    sections = "|".join(SECTIONS)
    named = spans(rf"(seed|dataset|scale|({sections})\.(?!csv)\w+)(: \S+)?")
    assert named
    for span in named:
        name, colon, value = span.text.partition(": ")
        section, _, leaf = name.partition(".")
        if colon:
            changed(TREE, [f"{name}={value}"])
        if leaf:
            assert leaf in {field.name for field in fields(SECTIONS[section])}, str(span)


def test_every_name_occurs_in_the_code() -> None:
    named = spans(r"[A-Za-z_][\w.]*(\(\))?")
    assert named
    known = words_of_the_code()
    assert [str(span) for span in named if not set(re.findall(r"\w+", span.text)) <= known] == []


def words_of_the_code() -> set[str]:
    """Every word of the code, comments left out, and of the files that configure it."""
    patterns = ("stages/**/*.py", "search/**/*.py", "experiments/*.py", "tests/*.py")
    files = {path for pattern in patterns for path in ROOT.glob(pattern)} - {Path(__file__)}
    texts = [re.sub(r"(?m)#.*$", "", path.read_text()) for path in files]
    names = [path.name for path in (*files, *ROOT.iterdir())]
    parameters = (ROOT / "params.yaml").read_text()
    return set(re.findall(r"\w+", "\n".join([*texts, *names, MAKEFILE, parameters])))


def names_in_files() -> list[tuple[str, str, str]]:
    """Each `file.py`: `name`, `name` of the pages, as page, file and name."""
    triples = []
    for page in PAGES:
        for file, names in re.findall(r"`([\w/]+\.py)`: ((?:`[\w.]+`(?:, )?)+)", prose(page)):
            triples += [(page.name, file, name) for name in SPAN.findall(names)]
    return triples


def test_a_name_after_a_file_is_defined_there() -> None:
    triples = names_in_files()
    assert len(triples) > 25
    for page, file, name in triples:
        path = ROOT / file if (ROOT / file).exists() else ROOT / "stages" / file
        assert name in definitions(path), f"{page}: {file} does not define {name}"


def definitions(path: Path) -> set[str]:
    """What a module defines: functions, classes with their methods, constants."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            methods = [part for part in node.body if isinstance(part, ast.FunctionDef)]
            names |= {f"{node.name}.{method.name}" for method in methods}
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            names |= {ast.unparse(target) for target in targets}
    return names


def test_messages_are_quoted_as_the_code_writes_them() -> None:
    """Each two neighboring words in lower case stand side by side in a string of the code."""
    quoted = list(quoted_messages())
    assert len(quoted) > 15
    texts = string_literals()
    for span in quoted:
        pairs = re.findall(r"(?<!\S)(?=([a-z]+ [a-z]+)(?![\w.]))", span.text)
        assert [pair for pair in pairs if pair not in texts] == [], str(span)


def quoted_messages() -> Iterator[Text]:
    """The messages of this project in the first column of `When something goes wrong`."""
    others = ("dvc ", "data/", "Data and pipelines")
    for page in PAGES:
        lines = prose(page).splitlines()
        for span in spans_of(page):
            headings = [line for line in lines[: span.line] if line.startswith("#")]
            first_cell = lines[span.line - 1].partition(" | ")[0]
            is_message = first_cell.startswith("|") and f"`{span.text}`" in first_cell
            if is_message and "goes wrong" in headings[-1] and not span.text.startswith(others):
                yield span


def string_literals() -> str:
    """Every string of the code but docstrings; a placeholder of an f-string is a line break."""
    texts = []
    for path in [*ROOT.glob("stages/**/*.py"), *ROOT.glob("search/**/*.py")]:
        nodes = list(ast.walk(ast.parse(path.read_text())))
        docstrings = [node.value for node in nodes if isinstance(node, ast.Expr)]
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                texts.append("".join(map(literal, node.values)))
            elif node not in docstrings:
                texts.append(literal(node))
    return "\n".join(texts)


def literal(node: ast.AST) -> str:
    value = getattr(node, "value", None)
    return value if isinstance(value, str) else "\n"


# Printed figures


def readme_block(start: str) -> list[Text]:
    """The lines of the block of README.md whose text starts with `start`."""
    return next(lines_of(block) for block in blocks_of(README) if block.text.startswith(start))


def test_the_result_table_is_the_printed_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / report.FOLDER).mkdir(parents=True)
    (tmp_path / report.PAGE).touch()
    committed = (ROOT / "metrics/evaluate.json").read_text()
    (tmp_path / "metrics/evaluate.json").write_text(committed)
    monkeypatch.chdir(tmp_path)
    report.main(["--show"])
    printed = capsys.readouterr().out.splitlines()
    shown = lines_of(blocks("")[0])
    assert prose(README).splitlines()[shown[0].line - 4] == "## What you see"
    for line, expected in zip_longest(shown, printed):
        assert line is not None, f"README.md lacks {expected!r}"
        assert line.text == expected, str(line)


def committed_figures() -> dict[str, float]:
    """The figures of the committed run, by file and key."""
    figures: dict[str, float] = {}
    for file in ("metrics/evaluate.json", "metrics/pseudo_label.json"):
        values = leaves(json.loads((ROOT / file).read_text()))
        figures |= {f"{file} {key}": value for key, value in values.items()}
    return figures


def figures_of(run: Run) -> dict[str, float]:
    """The figures of a plan's run, as far as they are committed."""
    if run.tree == TREE:
        return committed_figures()
    comparison = ROOT / f"metrics/comparisons/{run.name.split('-')[0]}.json"
    if not comparison.exists():
        return {}
    figures = {}
    for row in json.loads(comparison.read_text())["rows"]:
        if row["name"] == run.row.name and run.value in row["seeds"]:
            position = row["seeds"].index(run.value)
            metrics = {key: values[position] for key, values in row["metrics"].items()}
            figures = {f"metrics/evaluate.json {key}": value for key, value in metrics.items()}
            figures["metrics/pseudo_label.json ari"] = metrics["visible.ari"]
    return figures


def test_the_sentence_on_the_run_has_the_committed_figures() -> None:
    text = " ".join(prose(README).split())
    sentence = re.search(r"an ARI of (\S+) with (\S+) % of the images outside every cluster", text)
    assert sentence is not None
    figures = json.loads((ROOT / "metrics/pseudo_label.json").read_text())
    share = 100 * figures["unclustered_share"]
    assert sentence.groups() == (f"{figures['ari']:.2f}", f"{share:.0f}")


def test_the_difference_of_two_sources_has_the_committed_figures() -> None:
    _, header, *lines = readme_block("$ dvc metrics diff")
    names = header.text.split()[2:4]
    known = [figures_of(planned_runs()[name]) for name in names]
    assert known[0], f"{names[0]} is not the committed run"
    for line in lines:
        file, key, *values = line.text.split()
        first, second, difference = map(float, values)
        assert difference == round(second - first, 4), str(line)
        for value, figures in zip((first, second), known, strict=True):
            assert value == figures.get(f"{file} {key}", value), str(line)


def test_the_list_of_experiments_has_the_committed_figures() -> None:
    _, header, *lines = readme_block("$ dvc exp show")
    assert header.text.split() == ["Experiment", "all.rank1", "all.map", "seed", "spcl.source"]
    rows = [line for line in lines if re.search(r"main|──", line.text)]
    assert len(rows) == 5
    for line in rows:
        rank1, mean_ap, seed, source = line.text.split()[-4:]
        name = re.search(r"\[(\S+)\]", line.text)
        run = planned_runs()[name[1]] if name else None
        tree = run.tree if run else TREE
        figures = figures_of(run) if run else committed_figures()
        assert (int(seed), source) == (tree["seed"], tree["spcl"]["source"]), str(line)
        for key, value in (("all.rank1", rank1), ("all.map", mean_ap)):
            known = figures.get(f"metrics/evaluate.json {key}", float(value))
            assert float(value) == known, str(line)
