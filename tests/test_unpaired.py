"""Training identities whose visible images are replaced by those of other people."""

from pathlib import Path

import pandas as pd
import pytest

from stages.parts.images.table import check_table
from stages.parts.run.stage import InputError
from stages.prepare import counts
from stages.prepare.tree import ImageFile, table_of
from stages.prepare.unpaired import with_unpaired

TARGET, OTHER = Path("raw/SYSU-MM01"), Path("elsewhere/Market")
SIZES = {4: 3, 7: 5, 9: 1, 12: 2}  # visible images of the training identities; 12 is of val


def target() -> pd.DataFrame:
    images = [
        ImageFile(f"cam{camera}/{person}/{n}.jpg", person, camera, modality, split)
        for person, size in SIZES.items()
        for modality, camera, count in (("visible", 2, size), ("infrared", 6, 4))
        for n in range(count)
        for split in ("val" if person == 12 else "train",)
    ]
    for modality, split in (("infrared", "query"), ("visible", "gallery")):
        images.append(ImageFile(f"{split}.jpg", 50, 1, modality, split))
    return table_of(TARGET, images)


def others(*sizes: int) -> pd.DataFrame:
    """People 1, 2 … with so many images each, by three cameras."""
    images = [
        ImageFile(f"{person}_{n}.jpg", person, 1 + n % 3, "visible", "train")
        for person, size in enumerate(sizes, start=1)
        for n in range(size)
    ]
    return table_of(OTHER, images)


def visible(table: pd.DataFrame) -> pd.DataFrame:
    return table[table["split"].isin(counts.TRAINING) & (table["modality"] == "visible")]


@pytest.mark.parametrize(("share", "count"), [(0.25, 1), (0.5, 2), (0.75, 3), (0.9, 4)])
def test_a_share_of_the_identities_loses_its_visible_images(share: float, count: int) -> None:
    before, found = target(), with_unpaired(target(), TARGET, others(9, 9, 9, 9), OTHER, share)[0]
    check_table(found)
    taken = visible(found)[visible(found)["path"].str.startswith("Market/")]
    assert taken["person"].nunique() == count
    assert len(visible(found)) == len(visible(before))  # as many images as the replaced ones
    assert len(counts.one_sided(found)) == 2 * count
    assert set(taken["person"]).isdisjoint(before["person"])
    assert set(taken["camera"]).isdisjoint(before["camera"])
    rest = found[~found["path"].str.startswith("Market/")]
    lost = before[~before["path"].isin(rest["path"])]
    assert len(lost) == len(taken)
    assert (lost["modality"] == "visible").all()
    assert lost["split"].isin(counts.TRAINING).all()
    columns = ["path", "person", "camera", "modality", "split"]
    kept = before[before["path"].isin(rest["path"])]
    pd.testing.assert_frame_equal(rest[columns], kept[columns].reset_index(drop=True))


def test_every_image_is_found_in_its_own_tree() -> None:
    table, files = with_unpaired(target(), TARGET, others(9, 9), OTHER, 0.5)
    for path, file in zip(table["path"], files, strict=True):
        is_taken = path.startswith("Market/")
        assert file == (OTHER / path.removeprefix("Market/") if is_taken else TARGET / path)


def test_the_largest_is_replaced_by_the_largest_and_keeps_its_split() -> None:
    table, _ = with_unpaired(target(), TARGET, others(2, 8, 4, 3), OTHER, 0.9)
    taken = table[table["path"].str.startswith("Market/")]
    sizes = taken.groupby("person").agg(
        images=("path", "size"),
        split=("split", "first"),
        name=("path", lambda paths: paths.iloc[0].split("/")[1][0]),
    )
    assert sizes["images"].tolist() == [5, 3, 2, 1]  # of 7, 4, 12, 9
    assert sizes["split"].tolist() == ["train", "train", "val", "train"]
    assert sizes["name"].tolist() == ["2", "3", "4", "1"]


def test_a_person_with_fewer_images_gives_all_and_one_with_more_gives_them_of_all_cameras() -> None:
    table, _ = with_unpaired(target(), TARGET, others(2), OTHER, 0.25)
    taken = table[table["path"].str.startswith("Market/")]
    assert len(taken) == 2  # for the three of identity 4
    table, _ = with_unpaired(target(), TARGET, others(9), OTHER, 0.25)
    assert set(table[table["path"].str.startswith("Market/")]["path"]) == {
        "Market/1_0.jpg",
        "Market/1_3.jpg",
        "Market/1_6.jpg",
    }


def test_no_share_changes_nothing() -> None:
    table, files = with_unpaired(target(), TARGET, others(9), OTHER, 0.1)  # 0.4 of an identity
    pd.testing.assert_frame_equal(table, target())
    assert len(files) == len(table)


def test_too_few_other_people_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"data\.unpaired: 0\.9 of 4 training identities are 4, but elsewhere/Ma"
    ):
        with_unpaired(target(), TARGET, others(9, 9, 9), OTHER, 0.9)
