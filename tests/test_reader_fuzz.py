"""Every reader, 200 damaged trees each: a clear error, or a result without a wrong pixel."""

import faulthandler
import os
import random
import shutil
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

from stages.parts.images.store import ImageStore
from stages.parts.run.settings import Synthesize
from stages.parts.run.stage import EXPECTED
from stages.prepare import counts, folder
from stages.prepare.build import build
from stages.prepare.disk import UNWRITABLE
from stages.prepare.readers import SOURCES, TARGETS, Reader, read_checked
from stages.synthesize import trees
from tests.tree_mutations import (
    EITHER,
    IMAGE_CHANGES,
    LIST_CHANGES,
    NAME_CHANGES,
    NUMBER_CHANGES,
    PATH_CHANGES,
    READ,
    Case,
    Change,
)

TREES = 200
SECONDS = 30  # of one tree
PEAK = 1_500_000  # kB more than before
SIZES = Synthesize(
    layout="none",
    structure=None,
    infrared_counts="halves",
    unpaired=0.0,
    seed=0,
    train_persons=2,
    val_persons=1,
    test_persons=2,
    images_per_camera=1,
    source_persons=2,
    source_images=2,
    height=16,
    width=8,
)
IDS = ["exp/train_id.txt", "exp/val_id.txt", "exp/test_id.txt"]
LISTS = {
    "sysu_mm01": IDS,
    "regdb": [
        f"idx/{part}_{kind}_1.txt" for part in ("train", "test") for kind in ("visible", "thermal")
    ],
    "llcm": ["idx/train_vis.txt", "idx/train_nir.txt", "idx/test_id.txt"],
    "msmt17": [f"list_{part}.txt" for part in ("train", "val", "query", "gallery")],
    "folder": [folder.IMAGES],
    "source.csv": [folder.SOURCE],
}
READERS = {**TARGETS, **SOURCES, "folder": TARGETS["folder"], "source.csv": SOURCES["folder"]}
Kinds = list[tuple[int, int, str, str]]  # person, camera, modality, split of each image, sorted


@dataclass
class Sample:
    """A tree as it should be, and what its reader makes of it."""

    name: str
    root: Path
    reader: Reader
    paths: list[str]
    kinds: Kinds
    changes: list[tuple[str, Change]]


@pytest.fixture(params=READERS)
def sample(request: pytest.FixtureRequest, tmp_path: Path) -> Sample:
    name: str = request.param
    reader = READERS[name]
    if name in trees.LAYOUTS:
        root = trees.write_tree(name, tmp_path / "whole", SIZES, workers=1)
    else:
        root = write_folder(tmp_path / "whole/mine", name)
    table = read(reader, root, tmp_path / "store")
    changes = [*IMAGE_CHANGES.items()]
    if name not in LISTS:
        changes += NAME_CHANGES.items()
    else:
        changes += LIST_CHANGES.items()
        changes += NUMBER_CHANGES.items() if reader.folder is not None else []
        changes += PATH_CHANGES.items() if name not in ("sysu_mm01", "llcm") else []
    return Sample(name, root, reader, table["path"].tolist(), kinds(table), changes)


def write_folder(root: Path, name: str) -> Path:
    """Write a folder of images with its CSV: `folder` or `source.csv`."""
    lines = ["path,person"]
    modalities = ("visible", "infrared") if name == "folder" else ("visible",)
    for person in (3, 5, 8, 12):
        for modality in modalities:
            path = f"{modality}/{modality[0]}{person}.png"
            lines.append(f"{path},{person}")
            (root / modality).mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (8, 16), (person, 2 * person, 9)).save(root / path)
    (root / LISTS[name][0]).write_text("".join(line + "\n" for line in lines))
    return root


def read(reader: Reader, root: Path, store: Path) -> pd.DataFrame:
    """What the stages `prepare` and `source` do, with all images of a source."""
    _, table = read_checked(reader, {"data.root": root}, compare=False)
    if reader in TARGETS.values():
        counts.refuse_missing_part(table, root)
    build(root, table, store, 16, 8, reader.upright)
    return table


def kinds(table: pd.DataFrame) -> Kinds:
    columns = table[["person", "camera", "modality", "split"]]
    return sorted(columns.itertuples(index=False, name=None))


@pytest.fixture(autouse=True)
def hush() -> Iterator[None]:
    """Pillow warns of damaged EXIF and of palettes."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield
    faulthandler.cancel_dump_traceback_later()


def memory(what: str) -> int:
    """A figure of the process in kB: VmRSS, or VmHWM, its peak since the last reset."""
    status = Path("/proc/self/status").read_text()
    return int(status.split(f"{what}:")[1].split()[0])


@pytest.mark.slow
def test_a_damaged_tree_ends_in_a_clear_error_or_in_a_right_result(
    sample: Sample, tmp_path: Path
) -> None:
    """Half a minute for all readers: 1,600 trees are copied, changed, read and compared."""
    faults = []
    for number in range(TREES):
        draw = random.Random(f"{sample.name} {number}")
        name, change = sample.changes[number % len(sample.changes)]
        root = tmp_path / "copy" / sample.root.name
        shutil.copytree(sample.root, root, copy_function=os.link)
        case = Case(root, draw.choice(sample.paths), LISTS.get(sample.name, []), draw)
        expected = change(case)
        try:
            check(sample, case, expected, tmp_path / "store")
        except Exception as error:
            faults.append(f"tree {number} ({name}, {case.image}): {error!r}")
        shutil.rmtree(tmp_path / "copy")
    assert faults == []


def check(sample: Sample, case: Case, expected: str, store: Path) -> None:
    """Read a changed tree: never a hang, 2 GB, an unexpected exception or a wrong result."""
    faulthandler.dump_traceback_later(SECONDS, exit=True, file=sys.__stderr__)
    Path("/proc/self/clear_refs").write_text("5")  # the peak of the memory starts anew
    before = memory("VmRSS")
    try:
        table = read(sample.reader, case.root, store)
    except EXPECTED as error:
        message = str(error)
        assert expected in message or (expected == EITHER and str(case.root) in message), message
        assert not UNWRITABLE.search(message), message
    else:
        assert expected in (READ, EITHER), f"read, but expected: {expected}"
        check_store(case.root, store, sample.reader.upright)
        if expected == READ:
            assert kinds(table) == sample.kinds
    assert memory("VmHWM") - before < PEAK


def check_store(root: Path, folder: Path, upright: bool) -> None:
    """Compare each image of a store with its file, read in the simplest way."""
    store = ImageStore(folder)
    for row, path in enumerate(store.table["path"]):
        assert ".." not in path
        assert not path.startswith("/")
        with Image.open(root / path) as image:
            rgb = image.convert("RGB")
            if upright:
                rgb = turned(image, rgb)
        expected = rgb.resize((8, 16), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(store.pixels[row], expected)


def turned(image: Image.Image, rgb: Image.Image) -> Image.Image:
    """Return `rgb` as viewers turn `image`."""
    try:
        rgb.info["exif"] = image.getexif().tobytes()
    except Exception:
        return rgb
    return ImageOps.exif_transpose(rgb)
