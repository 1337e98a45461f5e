"""The page of what differs between machines: run times, and versions of packages."""

import platform
from importlib import metadata

from stages.report.figures import chart, curves
from stages.report.inputs import Run, method_name
from stages.report.page import frame, published
from stages.report.page.markup import Table, duration, lines, paragraph, table, tag
from stages.report.times import STAGES, Times

LEAD = (
    "What differs between machines and is therefore not in the report: the last run of each stage "
    "in this folder, and the packages that are installed."
)
PACKAGES = ("torch", "torchvision", "numpy", "scipy", "pandas", "scikit-learn", "faiss-cpu",
            "faiss-gpu", "pillow", "safetensors", "onnx", "onnxruntime", "matplotlib", "dvc",
            "dvclive")  # fmt: skip


def page(run: Run, times: Times) -> str:
    """Return the whole document."""
    facts = map(table, (stages(times), versions()))
    contents = {
        "Stages and packages": tag("div", *facts, class_="columns facts"),
        "Time of the assignment": assignment(run, times),
    }
    return frame.document(f"Run times: {frame.title_of(run)}", LEAD, contents)


def stages(times: Times) -> Table:
    """Return the run time of each stage, if a log of it is left."""
    rows = [[name, duration(times.stages.get(name))] for name in STAGES]
    if times.stages:
        rows.append(["together", duration(sum(times.stages.values()))])
    return Table("Run time", ["Stage", "Time"], rows)


def assignment(run: Run, times: Times) -> str:
    """Return what share of the time the assignment takes; empty if no epoch was timed."""
    drawings = [chart.draw(each) for each in curves.times(run, times)]
    if not drawings:
        return ""
    return lines([paragraph(time_of_assignment(run, times)), frame.grid("times", drawings)])


def time_of_assignment(run: Run, times: Times) -> str:
    """Return mean seconds of the assignment and of an epoch, beside the paper's if they compare."""
    table = times.epochs
    epoch = float((table["train_seconds"] + table["label_seconds"]).mean())
    assignment = float(table["assignment_seconds"].astype(float).mean())
    if not assignment > 0:
        return f"An epoch takes {epoch:.1f} s; no assignment was timed."
    name = method_name(run.assignment)
    share = 100 * assignment / epoch
    sentence = (
        f"{name[0].upper()}{name[1:]} takes {assignment:.3g} s of the {epoch:.1f} s of an epoch "
        f"on average: {share:.2g} %."
    )
    paper = published.transport(run)
    return f"{sentence} Paper: {paper[0]} s, {paper[1]} % (TITAN RTX)." if paper else sentence


def versions() -> Table:
    """Return Python and the packages that the numbers depend on."""
    rows = [["python", platform.python_version()]]
    for name in PACKAGES:
        try:
            rows.append([name, metadata.version(name)])
        except metadata.PackageNotFoundError:
            continue  # one of the two builds of faiss is installed
    return Table("Packages", ["Package", "Version"], rows, "words")
