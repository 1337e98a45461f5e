"""A planned tree on disk, rendered by several processes."""

import shutil
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path

from stages.parts.run.console import progress
from stages.parts.run.settings import Synthesize
from stages.synthesize import sources, targets
from stages.synthesize.plan import Shot
from stages.synthesize.render import Studio, write_shot
from stages.synthesize.world import WORLD, World

CHUNK = 16  # shots a process takes at a time
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
    """Render the data set `layout` (a key of LAYOUTS) below `root` and return its folder, e.g. `root/SYSU-MM01`.

    Sizes and seed come from `settings`; `settings.layout` plays no part. The bytes do not depend on `workers`.
    Raises ValueError for an unknown layout or more people than it has numbers.
    """
    if layout not in LAYOUTS:
        raise ValueError(f"{layout!r} is not a layout; expected one of {', '.join(LAYOUTS)}")
    plan = LAYOUTS[layout](settings)
    folder = root / plan.folder
    files = [*(shot.path for shot in plan.shots), *plan.texts, *(copy for _, copy in plan.copies)]
    for parent in sorted({(folder / name).parent for name in files}):
        parent.mkdir(parents=True, exist_ok=True)
    for name, text in plan.texts.items():
        (folder / name).write_text(text)
    studio = Studio(layout, settings.seed, settings.height, settings.width, world)
    _render(studio, folder, plan.shots, workers)
    for source, copy in plan.copies:
        shutil.copyfile(folder / source, folder / copy)
    return folder


def _render(studio: Studio, folder: Path, shots: list[Shot], workers: int) -> None:
    write = partial(write_shot, studio, folder)
    if workers == 1:
        for shot in progress(shots, folder.name, "image"):
            write(shot)
        return
    with ProcessPoolExecutor(workers) as pool:
        for _ in progress(
            pool.map(write, shots, chunksize=CHUNK), folder.name, "image", len(shots)
        ):
            pass
