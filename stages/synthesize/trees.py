"""Write a planned tree to disk; several processes render its images."""

import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from stages.parts.run.console import end_with_parent, progress
from stages.parts.run.settings import Synthesize
from stages.synthesize import sources, targets
from stages.synthesize.plan import PlannedImage
from stages.synthesize.render import Studio, write_image
from stages.synthesize.world import WORLD, World

CHUNK = 16  # images that a process takes at a time
LAYOUTS = {
    "sysu_mm01": targets.sysu_mm01,
    "regdb": targets.regdb,
    "llcm": targets.llcm,
    "market1501": sources.market1501,
    "dukemtmc": sources.dukemtmc,
    "msmt17": sources.msmt17,
}


def write_tree(
    layout: str, root: Path, settings: Synthesize, workers: int = 2, world: World = WORLD
) -> Path:
    """Render the data set `layout` below `root` and return its folder, e.g. `root/SYSU-MM01`.

    `layout` is a key of LAYOUTS. Sizes and seed come from `settings`; `settings.layout` plays no
    part. The bytes do not depend on the number of `workers`.
    Raises ValueError for an unknown layout or for more people than it has numbers.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"{layout!r} is not a layout; expected one of {', '.join(LAYOUTS)}")
    plan = LAYOUTS[layout](settings)
    folder = root / plan.folder
    files = [planned.path for planned in plan.images]
    files += [*plan.texts, *(copy for _, copy in plan.copies)]
    for parent in sorted({(folder / name).parent for name in files}):
        parent.mkdir(parents=True, exist_ok=True)
    for name, text in plan.texts.items():
        (folder / name).write_text(text, encoding="utf-8")
    studio = Studio(layout, settings.seed, settings.height, settings.width, world)
    _render(studio, folder, plan.images, workers)
    for source, copy in plan.copies:
        shutil.copyfile(folder / source, folder / copy)
    return folder


def _render(studio: Studio, folder: Path, images: list[PlannedImage], workers: int) -> None:
    write = partial(write_image, studio, folder)
    if workers == 1:
        for planned in progress(images, folder.name, "image"):
            write(planned)
        return
    try:
        pool = ProcessPoolExecutor(workers, initializer=end_with_parent)
    except OSError as error:  # the locks of the processes are there; the error names no file
        error.filename = "/dev/shm"
        raise
    try:
        written = pool.map(write, images, chunksize=CHUNK)
        for _ in progress(written, folder.name, "image", len(images)):
            pass
    finally:
        pool.shutdown(cancel_futures=True)  # Ctrl-C does not wait for thousands of images
