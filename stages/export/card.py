"""What a person must know of the exported network: the model card, in Markdown."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.evaluate.results import MEASURES, departures
from stages.parts.images.table import training_splits

DATA_SETS = {"sysu_mm01": "SYSU-MM01", "regdb": "RegDB", "llcm": "LLCM", "folder": "your images"}
# How the training got the identities of the people.
SETTINGS = {
    "unsupervised": "no true ones of this data set; visible images got them by clustering (SpCL), "
    "infrared ones during the training",
    "semi-supervised": "true ones of the visible images, none of the infrared ones",
    "supervised": "true ones of all images",
}
TITLE = "# Person search across visible and infrared pictures\n"
LEAD = """\
A picture of a person becomes a row of numbers. Rows of the same person are meant to be close, also
if one picture was taken in visible light and the other in infrared. This card was filled in from
the run that trained the network; `model.json` is for programs.
"""
RENDERED = """\
> **Trained and tested on rendered images of people who do not exist.** The network shows that the
> pipeline works. It does not find real people, and its scores say nothing about published ones.
"""
LIMITS = """\
- It compares pictures of one upright person each, cut out as by a detector. It finds nobody in a
  whole scene.
- It goes by clothes, shape and bags more than by faces. A person in other clothes is another person
  to it.
- A ranked list always has a first place, also if the person is not in the gallery. Similarity is no
  probability.
- The scores hold for the gallery above. In a larger one, and for other cameras, they are lower.
- Whether errors are more frequent for some groups of people was not measured.
"""
NOT_FOR = """\
- **No surveillance without a legal basis.** Do not search for people in recordings where neither
  the law nor their consent allows it.
- **No identification.** The result is a list of similar pictures. It does not say who someone is,
  and it is no evidence.
- **No decisions about people.** Nobody may be stopped, refused, accused or punished because of a
  place in a list. A trained person must look at the pictures and must be free to reject them all.
- **No sorting** of people by origin, skin, sex, age, religion, health or opinion.

Pictures of people are personal data, and a search for people by their looks may be forbidden where
you are or need a permission. In the European Union see the General Data Protection Regulation
(Articles 6 and 9) and the Artificial Intelligence Act (Article 5, Annex III). Ask before use.
"""


@dataclass(frozen=True)
class Figures:
    """What the stages before this one found."""

    metrics: dict[str, Any]  # metrics/evaluate.json
    protocol: dict[str, Any]  # how its numbers were made
    table: pd.DataFrame  # of the target's images
    source: pd.DataFrame  # of the images of the labeled source; may have no rows
    rendered_source: bool  # a rendered source was there; a real one may have been, too


def card(model: dict[str, Any], figures: Figures) -> str:
    """Return the text of the card.

    Args:
        model: the tree of `model.json`.
        figures: of the run.
    """
    rendered = model["training"]["rendered"]
    parts = [
        TITLE,
        *([RENDERED] if rendered else []),
        LEAD,
        _section("Network", _table(("", ""), _network(model))),
        _section("Data and training", _table(("", ""), _training(model, figures))),
        _section("Scores", _scores(model, figures)),
        _section("Use", _use(model)),
        _section("Limits", LIMITS),
        _section("What it must not be used for", NOT_FOR),
        _section("License", _license(model)),
    ]
    return "\n".join(parts)


def _section(title: str, text: str) -> str:
    return f"## {title}\n\n{text}"


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def _network(model: dict[str, Any]) -> list[tuple[str, str]]:
    extras = [f"{name}: {value}" for name, value in model["extras"].items()]
    size = f"{model['input']['height']} × {model['input']['width']} pixels (height × width), RGB"
    difference = f"at most {model['largest_difference']} from PyTorch in any number of an embedding"
    return [
        ("architecture", ", ".join([model["architecture"], *extras])),
        ("input", size),
        ("embedding", f"{model['dimensions']} numbers, length 1"),
        ("files", ", ".join(f"`{name}`" for name in model["sha256"])),
        ("ONNX", f"opset {model['opset']}; {difference}"),
    ]


def _training(model: dict[str, Any], figures: Figures) -> list[tuple[str, str]]:
    facts = model["training"]
    name = DATA_SETS[facts["dataset"]]
    if facts["rendered"]:
        name = f"**rendered images** in the folder layout of {name}"
    splits = training_splits(facts["selection"])
    training = figures.table[figures.table["split"].isin(splits)]
    rows = [("data set", name), ("training images", _count(training))]
    if facts["setting"] == "unsupervised" and len(figures.source):
        rows.append(("labeled source", _source(figures, facts["rendered"])))
    return [
        *rows,
        ("labels", f"{facts['setting']}: {SETTINGS[facts['setting']]}"),
        ("objective", facts["objective"]),
        ("seed", f"{facts['seed']}; one training"),
        ("network that was kept", figures.protocol["checkpoint"]),
    ]


def _source(figures: Figures, rendered: bool) -> str:
    count = f"{_count(figures.source)} in another data set"
    if rendered:
        return f"{count}, rendered, too"
    unless = "; **rendered**, unless `data.root` held a real one"
    return f"{count}{unless if figures.rendered_source else ''}"


def _count(table: pd.DataFrame) -> str:
    """Return how many images and people a table has."""
    counts = table["modality"].value_counts()
    images = " and ".join(
        f"{count:,} {name}" for name, count in sorted(counts.items(), reverse=True)
    )
    return f"{images or 'no'} images of {table['person'].nunique():,} people"


def _scores(model: dict[str, Any], figures: Figures) -> str:
    protocol = figures.protocol
    heads = ("%", *MEASURES.values(), "queries", "gallery")
    rows = [
        (
            mode.replace("_", " "),
            *(_percent(figures.metrics[mode], name) for name in MEASURES),
            f"{protocol['queries'][mode]:,}",
            f"{protocol['gallery'][mode]:,}",
        )
        for mode in protocol["modes"]
    ]
    trials = protocol["trials"]
    spread = "There is one gallery, so no spread is known."
    if trials > 1:
        spread = f"Mean ± standard deviation over {trials} gallery draws ({protocol['draws']})."
    notes = [spread, "Another seed of the training gives other scores.", *_departures(protocol)]
    text = f"{_table(heads, rows)}\n{' '.join(notes)}\n"
    if "map_int8" in model:
        rows = [(mode.replace("_", " "), *_loss(each)) for mode, each in model["map_int8"].items()]
        text += f"\n{_table(('mAP, %', 'float32', '8 bits', 'loss'), rows)}"
    return text


def _percent(metrics: dict[str, float], name: str) -> str:
    """Return a mean, with its standard deviation if there is one."""
    value, deviation = 100 * metrics[name], 100 * metrics[f"{name}_sd"]
    return f"{value:.2f} ± {deviation:.2f}" if deviation else f"{value:.2f}"


def _loss(values: dict[str, float]) -> tuple[str, str, str]:
    before, after = 100 * values["float32"], 100 * values["int8"]
    return f"{before:.2f}", f"{after:.2f}", f"{before - after:.2f}"


def _departures(protocol: dict[str, Any]) -> list[str]:
    """Return a sentence for each choice by which the scores are not those of the file alone."""
    lines = [f"The scores are: {line}." for line in departures(protocol)]
    if protocol["features"] == "before":
        lines.append("The files give the features *after* the neck.")
    return lines


def _use(model: dict[str, Any]) -> str:
    size = f"{model['input']['width']} × {model['input']['height']}"
    steps = [
        "Turn the picture upright as its EXIF orientation says, and convert it to RGB.",
        f"Resize it to {size} pixels (width × height) by Lanczos, whatever its shape is.",
        "Stack pictures as bytes (N, 3, height, width). Normalization is inside the network.",
        "Similarity is the inner product of two embeddings.",
    ]
    if model["flip"]:
        steps.insert(3, "Add the embedding of the mirror image, and scale the sum to length 1.")
    if model["models"]["visible"] != model["models"]["infrared"]:
        names = [f"{name} pictures into `{file}`" for name, file in model["models"].items()]
        steps.insert(3, f"Put {' and '.join(names)}.")
    return "".join(f"{number}. {step}\n" for number, step in enumerate(steps, 1))


def _license(model: dict[str, Any]) -> str:
    facts = model["training"]
    if facts["rendered"]:
        return "Apache-2.0. The identities, cameras and images of the rendered data are made up.\n"
    images = DATA_SETS[facts["dataset"]]
    return (
        f"The code is Apache-2.0. The network was made from {images}: the terms of these images,\n"
        "and the rights of the people on them, hold for it, too.\n"
    )
