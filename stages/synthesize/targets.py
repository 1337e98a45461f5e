"""The trees of the visible-infrared data sets: SYSU-MM01, RegDB, LLCM.

The layouts follow the data sets' own pages and the code that reads them. Of LLCM the owners show
code only. Their test code opens `idx/test_id.txt` and the folders `test_vis/cam<c>/<id>` and
`test_nir/cam<c>/<id>`; their training code opens `idx/train_vis.txt` and `idx/train_nir.txt`.
Three facts come from other people's loaders alone: that paths in the lists start with `vis/<id>/`
or `nir/<id>/`, that the test folders hold copies of those files, and the file names. The labels in
`idx/test_*.txt` could not be confirmed; here they count from 0 in each list.
"""

import numpy as np
from numpy.random import Generator

from stages.parts.run.files import resolve
from stages.parts.run.seeds import numpy_generator
from stages.parts.run.settings import Synthesize
from stages.synthesize import structure
from stages.synthesize.plan import Layout, PlannedImage, draw_cameras

REGDB_TRIALS = 10
REGDB_IMAGES = 10
LLCM_VISIBLE = (1, 2, 3, 4, 5, 6, 7, 8, 9)
LLCM_INFRARED = (1, 2, 4, 5, 6, 7, 8, 9)


def sysu_mm01(settings: Synthesize) -> Layout:
    """Plan SYSU-MM01: `cam<c>/<id>/<n>.jpg`, drawn or as the real one (`synthesize.structure`)."""
    for name, value, unset in _drawn_only(settings):
        if settings.structure and value != unset:
            raise ValueError(
                f"synthesize.{name}: {value!r} does not go with synthesize.structure, which says "
                f"how many images there are; expected {unset}"
            )
    if settings.structure:
        whole = structure.read(resolve(settings.structure))
    else:
        whole = structure.draw(settings)
    layout = Layout("SYSU-MM01")
    for name, persons in whole.splits.items():
        layout.texts[f"exp/{name}_id.txt"] = ",".join(map(str, persons)) + "\n"
    for (person, camera), numbers in whole.image_numbers.items():
        infrared = camera in structure.INFRARED
        for number in numbers:
            path = f"cam{camera}/{person:04d}/{number:04d}.jpg"
            layout.images.append(PlannedImage(path, person, camera, number - 1, infrared))
    return layout


def regdb(settings: Synthesize) -> Layout:
    """Plan RegDB: ten images of each person and modality.

    Each of ten trials splits the people in two halves and lists all images of both. Labels count
    from 0 within a half. An odd number of people loses one.
    """
    _refuse_sysu_only(settings, "regdb")
    half = (settings.train_persons + settings.val_persons + settings.test_persons) // 2
    persons = range(1, 2 * half + 1)
    layout = Layout("RegDB")
    for person in persons:
        for modality, camera in (("visible", 1), ("thermal", 2)):
            for index, path in enumerate(_regdb_paths(modality, person)):
                infrared = modality == "thermal"
                layout.images.append(PlannedImage(path, person, camera, index, infrared))
    for trial in range(1, REGDB_TRIALS + 1):
        random = numpy_generator(settings.seed, "regdb", "trial", trial)
        order = random.permutation(np.array(persons)).tolist()
        for split, part in (("train", order[:half]), ("test", order[half:])):
            for modality in ("visible", "thermal"):
                name = f"idx/{split}_{modality}_{trial}.txt"
                layout.texts[name] = _regdb_list(modality, part)
    return layout


def _regdb_paths(modality: str, person: int) -> list[str]:
    """Return the paths of a person's images in one modality; frames count over all people."""
    first = (person - 1) * REGDB_IMAGES + 1
    start = f"{modality.capitalize()}/{person}/person_{modality[0]}"
    return [f"{start}_{frame:05d}_{person}.bmp" for frame in range(first, first + REGDB_IMAGES)]


def _regdb_list(modality: str, persons: list[int]) -> str:
    """Return the list of all images of `persons`, with a person's place in the list as label."""
    lines = []
    for label, person in enumerate(persons):
        lines += [f"{path} {label}" for path in _regdb_paths(modality, person)]
    return "\n".join(lines) + "\n"


def llcm(settings: Synthesize) -> Layout:
    """Plan LLCM: nine cameras, each visible by day and near-infrared by night.

    Camera 3 has no infrared images. Every image is in `vis/<id>/` or `nir/<id>/`. Those of test
    people are also in `test_vis/cam<c>/<id>/` and `test_nir/cam<c>/<id>/`, where the test code
    looks for them.
    """
    _refuse_sysu_only(settings, "llcm")
    random = numpy_generator(settings.seed, "llcm", "layout")
    total = settings.train_persons + settings.val_persons + settings.test_persons
    drawn = random.permutation(np.arange(1, total + 1))[: settings.test_persons]
    tests = sorted(drawn.tolist())
    layout = Layout("LLCM")
    layout.texts["idx/test_id.txt"] = ",".join(map(str, tests)) + "\n"
    lists = dict.fromkeys(("train_vis", "train_nir", "test_vis", "test_nir"), "")
    labels = {"train": 0, "test": 0}
    for person in range(1, total + 1):
        split = "test" if person in tests else "train"
        images = _llcm_images(random, person, settings.images_per_camera)
        for image in images:
            kind = image.path[:3]
            lists[f"{split}_{kind}"] += f"{image.path} {labels[split]}\n"
            if split == "test":
                inside = image.path.removeprefix(f"{kind}/")
                layout.copies.append((image.path, f"test_{kind}/cam{image.camera}/{inside}"))
        layout.images += images
        labels[split] += 1
    layout.texts |= {f"idx/{name}.txt": text for name, text in lists.items()}
    return layout


def _llcm_images(random: Generator, person: int, per_camera: int) -> list[PlannedImage]:
    """Draw 3 to 5 visible and 3 or 4 infrared cameras and plan the images of a person by them."""
    images = []
    for kind, devices, most in (("vis", LLCM_VISIBLE, 5), ("nir", LLCM_INFRARED, 4)):
        for camera in draw_cameras(random, devices, int(random.integers(3, most + 1))):
            start = int(random.integers(180000, 236000))
            for index in range(per_camera):
                frame = start % 9000 + 30 * index
                name = f"{person:04d}_c{camera:02d}_s{start:06d}_f{frame:04d}_{kind}.jpg"
                path = f"{kind}/{person:04d}/{name}"
                images.append(PlannedImage(path, person, camera, index, kind == "nir"))
    return images


def _refuse_sysu_only(settings: Synthesize, layout: str) -> None:
    """Raise ValueError if a setting is given that is for SYSU-MM01 alone."""
    structure_of = ("structure", settings.structure or "", "")
    for name, value, unset in (*_drawn_only(settings), structure_of):
        if value != unset:
            raise ValueError(
                f"synthesize.{name}: {value!r} is for the layout sysu_mm01, not for {layout}"
            )


def _drawn_only(settings: Synthesize) -> tuple[tuple[str, str | float, str | float], ...]:
    """Return name, value and default of the settings that a drawn structure alone has."""
    return (
        ("infrared_counts", settings.infrared_counts, "halves"),
        ("unpaired", settings.unpaired, 0.0),
    )
