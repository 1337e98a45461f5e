"""The trees of the visible-infrared data sets: SYSU-MM01, RegDB, LLCM.

Facts of the layouts: the data sets' own pages and the code that reads them.
LLCM's owners show only code: `idx/test_id.txt` and the folders `test_vis/cam<c>/<id>` and `test_nir/cam<c>/<id>` are
what their test code opens, `idx/train_vis.txt` and `idx/train_nir.txt` what their training code does. That paths in the
lists start with `vis/<id>/` or `nir/<id>/`, that the test folders hold copies of those files, and the file names were
seen in other people's loaders only; the labels of `idx/test_*.txt` could not be confirmed (here: from 0 in that list).
"""

import numpy as np

from stages.parts.run.files import resolve
from stages.parts.run.seeds import numpy_generator
from stages.parts.run.settings import Synthesize
from stages.synthesize import structure
from stages.synthesize.plan import Layout, Shot, some

REGDB_TRIALS, REGDB_IMAGES = 10, 10
LLCM_VISIBLE, LLCM_INFRARED = tuple(range(1, 10)), (1, 2, 4, 5, 6, 7, 8, 9)


def sysu_mm01(settings: Synthesize) -> Layout:
    """SYSU-MM01: `cam<c>/<id>/<n>.jpg`, people and cameras as drawn or as in the real one (`synthesize.structure`)."""
    if settings.structure and settings.infrared_counts != "halves":
        raise ValueError(
            f"synthesize.infrared_counts: {settings.infrared_counts!r} does not go with synthesize.structure, "
            "which says how many images there are; expected halves"
        )
    whole = (
        structure.read(resolve(settings.structure))
        if settings.structure
        else structure.draw(settings)
    )
    layout = Layout("SYSU-MM01")
    for name, persons in whole.splits.items():
        layout.texts[f"exp/{name}_id.txt"] = ",".join(map(str, persons)) + "\n"
    for (person, camera), numbers in whole.images.items():
        for number in numbers:
            path = f"cam{camera}/{person:04d}/{number:04d}.jpg"
            layout.shots.append(
                Shot(path, person, camera, number - 1, camera in structure.INFRARED)
            )
    return layout


def regdb(settings: Synthesize) -> Layout:
    """RegDB: ten images of each person and modality, all listed in each of ten half-and-half splits by identity.

    Labels are numbered from 0 within each half. An odd number of people loses one.
    """
    _refuse_sysu_only(settings, "regdb")
    total = settings.train_persons + settings.val_persons + settings.test_persons
    half = total // 2
    layout = Layout("RegDB")
    paths: dict[str, dict[int, list[str]]] = {"visible": {}, "thermal": {}}
    for person in range(1, 2 * half + 1):
        for modality, folder in (("visible", "Visible"), ("thermal", "Thermal")):
            for index in range(REGDB_IMAGES):
                frame = (person - 1) * REGDB_IMAGES + index + 1
                path = f"{folder}/{person}/person_{modality[0]}_{frame:05d}_{person}.bmp"
                infrared = modality == "thermal"
                layout.shots.append(Shot(path, person, 2 if infrared else 1, index, infrared))
                paths[modality].setdefault(person, []).append(path)
    for trial in range(1, REGDB_TRIALS + 1):
        order = numpy_generator(settings.seed, "regdb", "trial", trial).permutation(
            np.arange(1, 2 * half + 1)
        )
        for split, part in (("train", order[:half]), ("test", order[half:])):
            for modality, of_person in paths.items():
                lines = [
                    f"{path} {label}"
                    for label, person in enumerate(part)
                    for path in of_person[int(person)]
                ]
                layout.texts[f"idx/{split}_{modality}_{trial}.txt"] = "\n".join(lines) + "\n"
    return layout


def llcm(settings: Synthesize) -> Layout:
    """LLCM: nine cameras, each visible by day and near-infrared by night, but for camera 3, which has no infrared.

    Every image is in `vis/<id>/` or `nir/<id>/`; those of test people are also in `test_vis/cam<c>/<id>/` and
    `test_nir/cam<c>/<id>/`, where the test code looks.
    """
    _refuse_sysu_only(settings, "llcm")
    random = numpy_generator(settings.seed, "llcm", "layout")
    train = settings.train_persons + settings.val_persons
    total = train + settings.test_persons
    tests = set(random.permutation(np.arange(1, total + 1))[: settings.test_persons].tolist())
    layout = Layout("LLCM", texts={"idx/test_id.txt": ",".join(map(str, sorted(tests))) + "\n"})
    lists: dict[str, list[str]] = {
        f"{split}_{kind}": [] for split in ("train", "test") for kind in ("vis", "nir")
    }
    labels = {"train": 0, "test": 0}
    for person in range(1, total + 1):
        split = "test" if person in tests else "train"
        for kind, devices in (("vis", LLCM_VISIBLE), ("nir", LLCM_INFRARED)):
            for camera in some(random, devices, int(random.integers(3, 6 if kind == "vis" else 5))):
                start = int(random.integers(180000, 236000))
                for index in range(settings.images_per_camera):
                    name = f"{person:04d}_c{camera:02d}_s{start:06d}_f{start % 9000 + 30 * index:04d}_{kind}.jpg"
                    path = f"{kind}/{person:04d}/{name}"
                    layout.shots.append(Shot(path, person, camera, index, kind == "nir"))
                    lists[f"{split}_{kind}"].append(f"{path} {labels[split]}")
                    if split == "test":
                        layout.copies.append((path, f"test_{kind}/cam{camera}/{person:04d}/{name}"))
        labels[split] += 1
    layout.texts.update(
        {f"idx/{name}.txt": "\n".join(lines) + "\n" for name, lines in lists.items()}
    )
    return layout


def _refuse_sysu_only(settings: Synthesize, layout: str) -> None:
    for name, value, unset in (
        ("infrared_counts", settings.infrared_counts, "halves"),
        ("structure", settings.structure or "", ""),
    ):
        if value != unset:
            raise ValueError(
                f"synthesize.{name}: {value!r} is for the layout sysu_mm01, not for {layout}"
            )
