"""An archive of 100,000 pictures: indexing, queries, memory, recall, a second run.

    python -m benchmarks.search [--pictures 100000] [--model models/export] [--processes 2]
        [--folder FOLDER]

The pictures are rendered people (those of `synthesize`), each in many variations: moved by some
pixels, mirrored, lighter or darker, with other noise. So no two are equal, and pictures of a person
are as near to one another as those of a camera that saw them twice. Everything is done by the
commands of `python -m search`, in a folder that is deleted afterwards. With `--folder` the pictures
are kept: they are made by the first run, and the next one measures. Some minutes.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image

from search.embedding import Embedder
from search.lookup import Filter, Lookup, open_lookup
from search.model import open_model
from stages.parts.run import params
from stages.parts.run.settings import Synthesize
from stages.prepare.decode import read_image
from stages.synthesize.trees import write_tree

PER_FOLDER = 1000
PATTERN = r"cam(?P<camera>\d)/\d+/(?P<time>\d+)"
CAMERAS = 6
QUERIES = 200
NEW = 100
ROOT = Path(__file__).parents[1]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print what everything took."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--pictures", type=int, default=100_000)
    parser.add_argument("--model", type=Path, default=Path("models/export"))
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args(arguments)
    if given.folder is None:
        with tempfile.TemporaryDirectory() as folder:
            make(Path(folder), given.pictures, given.processes)
            measure(Path(folder), given)
    elif (given.folder / "archive").is_dir():
        measure(given.folder, given)
    else:
        make(given.folder, given.pictures, given.processes)
    return 0


def make(folder: Path, pictures: int, processes: int) -> None:
    """Write the pictures of the archive."""
    started = time.perf_counter()
    render(folder / "rendered", processes)
    write_variations(folder, 0, pictures, processes)
    print(f"{pictures:,} pictures made in {time.perf_counter() - started:.0f} s")


def measure(folder: Path, given: argparse.Namespace) -> None:
    """Print what indexes of all kinds and queries to them took."""
    words = ["--pattern", PATTERN, "--processes", str(given.processes)]
    seconds = index(folder, given.model, "first run", words)
    rate = f"{given.pictures / seconds:,.0f} pictures a second"
    print(f"  {rate}, {given.processes} processes", flush=True)
    index(folder, given.model, "nothing new", words)
    for number, kind in enumerate(("flat", "ivf", "hnsw")):
        if kind != "flat":
            index(folder, given.model, f"to {kind}", [*words, "--kind", kind])
        write_variations(folder, given.pictures + number * NEW, NEW, 1)
        index(folder, given.model, f"{kind}, {NEW} new pictures", words)
        time_queries(kind, open_lookup(folder / "index"), given.model, rendered(folder))
        time_command(folder, given.model, rendered(folder)[0])


def render(folder: Path, processes: int) -> None:
    """Render the people of `params.yaml`."""
    tree = params.load(ROOT / "params.yaml")
    settings = params.section(tree, "synthesize", Synthesize)
    write_tree("sysu_mm01", folder, settings, processes)


def rendered(folder: Path) -> list[Path]:
    """Return the rendered pictures."""
    return sorted((folder / "rendered").rglob("*.jpg"))


def write_variations(folder: Path, first: int, count: int, processes: int) -> None:
    """Write `count` pictures, numbered from `first`, as `archive/cam3/000012/012345.jpg`."""
    numbers = range(first, first + count)
    parts = [numbers[start : start + PER_FOLDER] for start in range(0, count, PER_FOLDER)]
    write = partial(_write_part, folder / "archive", rendered(folder))
    with ProcessPoolExecutor(processes) as pool:
        list(pool.map(write, parts))


def _write_part(folder: Path, originals: list[Path], numbers: range) -> None:
    for number in numbers:
        generator = np.random.default_rng(number)
        pixels = np.asarray(Image.open(originals[number % len(originals)])).astype(np.float32)
        if generator.random() < 0.5:
            pixels = pixels[:, ::-1]
        pixels = np.roll(pixels, generator.integers(-4, 5, 2), axis=(0, 1))
        noise = generator.normal(0, 6, pixels.shape)
        place = folder / f"cam{number % CAMERAS + 1}/{number // PER_FOLDER:06}"
        place.mkdir(parents=True, exist_ok=True)
        varied = pixels * generator.uniform(0.7, 1.3) + noise
        picture = Image.fromarray(varied.clip(0, 255).astype(np.uint8))
        picture.save(place / f"{number:06}.jpg", quality=90)


def index(folder: Path, model: Path, what: str, words: Sequence[str]) -> float:
    """Run the command `index`; print and return its seconds, print its memory and its lines."""
    command = ["index", str(folder / "archive"), "--index", str(folder / "index"), *words]
    before = cpu_seconds()
    seconds, memory, said = run(command, model)
    cpu = cpu_seconds() - before
    took = f"{seconds:.1f} s, {cpu:.1f} s of CPU"
    print(f"{what}: {took}, at most {memory:,.0f} MB with all its processes")
    for line in said.splitlines():
        print(f"  {line.replace(f'{folder}/', '')}")
    return seconds


def cpu_seconds() -> float:
    """Return the CPU seconds of all processes that have ended: other programs do not count."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def run(words: Sequence[str], model: Path) -> tuple[float, float, str]:
    """Run `python -m search`; return its seconds, its largest memory in MB, what it printed."""
    command = [sys.executable, "-m", "search", *words, "--model", str(model)]
    started = time.perf_counter()
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    most = [0.0]
    watcher = threading.Thread(target=_watch, args=(process, most))
    watcher.start()
    said, _ = process.communicate()
    seconds = time.perf_counter() - started
    watcher.join()
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    return seconds, most[0], said


def _watch(process: subprocess.Popen[str], most: list[float]) -> None:
    """Note the largest memory (PSS: shared pages count once) of a process and its children."""
    while process.poll() is None:
        most[0] = max(most[0], sum(map(_memory, _family(process.pid))) / 1024)
        time.sleep(0.05)


def _family(number: int) -> list[int]:
    family = [number]
    for parent in family:
        try:
            text = Path(f"/proc/{parent}/task/{parent}/children").read_text(encoding="utf-8")
        except OSError:  # it has ended
            continue
        family += map(int, text.split())
    return family


def _memory(number: int) -> int:
    """Return the PSS of a process in kB, 0 if it has ended."""
    try:
        text = Path(f"/proc/{number}/smaps_rollup").read_text(encoding="utf-8")
    except OSError:
        return 0
    match = re.search(r"^Pss: +(\d+) kB", text, re.MULTILINE)
    return int(match[1]) if match else 0


def time_queries(kind: str, lookup: Lookup, model: Path, originals: list[Path]) -> None:
    """Print the median and the 95th percentile of queries to an index that is open."""
    embedder = Embedder(open_model(model), "onnx")
    chosen = np.random.default_rng(0).choice(len(originals), QUERIES, replace=False)
    filters = {"": Filter(), ", 2 of 6 cameras": Filter(cameras=("1", "4"))}
    for name, each in filters.items():
        embedding, searching, cpu = [], [], time.process_time()
        for number in chosen:
            started = time.perf_counter()
            image = read_image(originals[number], embedder.model.height, embedder.model.width, True)
            row = embedder.rows(image.pixels[None], infrared=True)
            embedded = time.perf_counter()
            lookup.find(row, 20, each)
            searching.append(time.perf_counter() - embedded)
            embedding.append(embedded - started)
        each_cpu = (time.process_time() - cpu) / QUERIES * 1000
        print(f"{kind}{name}: search {_percentiles(searching)}; embed {_percentiles(embedding)}")
        print(f"  {each_cpu:.1f} ms of CPU for both, on average")


def _percentiles(seconds: Sequence[float]) -> str:
    middle, high = np.percentile(np.array(seconds) * 1000, [50, 95])
    return f"p50 {middle:.1f} ms, p95 {high:.1f} ms"


def time_command(folder: Path, model: Path, picture: Path) -> None:
    """Print what a query takes as a command, with the start of Python."""
    words = ["query", str(picture), "--index", str(folder / "index"), "--top", "20"]
    seconds, memory, _ = run(words, model)
    print(f"  as a command: {seconds:.1f} s, {memory:,.0f} MB")


if __name__ == "__main__":
    sys.exit(main())
