"""What a training asks of a data set, before the first epoch of anything."""

import itertools
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages.parts.images.checks import check_training
from stages.pseudo_label import __main__ as pseudo_label
from tests import builders, tiny


def table(persons: int = 4, images: int = 3, split: str = "train") -> pd.DataFrame:
    """`persons` people with so many visible and as many infrared images each."""
    rows = []
    for person in range(10, 10 + persons):
        rows += [(person, 1, "visible", split), (person, 3, "infrared", split)] * images
    return pd.DataFrame(rows, columns=["person", "camera", "modality", "split"])


def check(images: pd.DataFrame, **changes: Any) -> None:
    defaults = {"setting": "unsupervised", "selection": "last", "persons": 2}
    check_training(images, "table.csv", **(defaults | {"keep_outliers": False} | changes))


def message(images: pd.DataFrame, **changes: Any) -> str:
    with pytest.raises(ValueError) as error:  # noqa: PT011  the message is what is tested
        check(images, **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


@pytest.mark.parametrize("modality", ["visible", "infrared"])
def test_both_modalities_are_needed(modality: str) -> None:
    images = table()
    assert (
        message(images[images["modality"] != modality])
        == f"table.csv: no {modality} training images"
    )


def test_validation_needs_validation_images_of_both_modalities() -> None:
    chosen = {"selection": "validation"}
    held_out = table(2, split="val").assign(person=lambda rows: rows["person"] + 50)
    check(pd.concat([table(), held_out]), **chosen)
    assert "validation needs visible images of split val, table.csv has" in message(
        table(), **chosen
    )
    visible = held_out[held_out["modality"] == "visible"]
    assert "needs infrared images of split val" in message(pd.concat([table(), visible]), **chosen)
    others = held_out[held_out["modality"] == "infrared"].assign(person=99)
    apart = pd.concat([table(), visible, others])
    assert "an identity of split val in both modalities" in message(apart, **chosen)


def test_validation_images_are_not_trained_on() -> None:
    check(table(split="val"))
    assert "no visible training images" in message(table(split="val"), selection="validation")


@pytest.mark.parametrize(
    ("setting", "keep", "most"),
    [
        ("unsupervised", False, 6),  # of twelve images, two a label
        ("unsupervised", True, 12),
        ("semi-supervised", False, 4),
        ("supervised", True, 4),
    ],
)
def test_labels_must_be_able_to_fill_a_batch(setting: str, keep: bool, most: int) -> None:
    given = {"setting": setting, "keep_outliers": keep}
    check(table(), persons=most, **given)
    line = message(table(), persons=most + 1, **given)
    assert (
        f"train.persons: a batch takes {most + 1} labels, but table.csv gives at most {most} "
        in line
    )


def test_infrared_images_must_be_able_to_fill_a_batch() -> None:
    images = table()
    few = pd.concat([images[images["modality"] == "visible"], images.iloc[1:4:2]])
    assert "takes 3 labels, but table.csv has 2 infrared training images" in message(few, persons=3)


def test_supervised_training_needs_infrared_images_of_everybody_who_is_labeled() -> None:
    images = table()
    without = images[(images["person"] != 12) | (images["modality"] == "visible")]
    assert "table.csv: person 12 has visible training images only" in message(
        without, setting="supervised"
    )
    check(without, setting="semi-supervised")
    single = without.drop(without.index[without["person"] == 12][1:])  # dropped as an outlier
    check(single, setting="supervised")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"train.selection": "validation"}, "train.selection: validation needs visible images"),
        ({"train.persons": 40}, "train.persons: a batch takes 40 labels"),
        ({"train.setting": "supervised", "train.persons": 9}, "gives at most 8 identities"),
    ],
    ids=str,
)
def test_the_first_training_stage_refuses_what_the_second_could_not_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], words: str
) -> None:
    monkeypatch.setattr(pseudo_label, "find_labels", lambda *_: pytest.fail("hours for nothing"))
    with builders.workplace(tmp_path / "place"):
        images = itertools.product(range(10, 18), (1, 2, 3), range(4), ("train",))
        builders.store(
            pseudo_label.TARGET,
            [(p, c, "infrared" if c == 3 else "visible", s) for p, c, _, s in images],
        )
        with pytest.raises(SystemExit, match=words):
            tiny.run("pseudo_label", changes)
