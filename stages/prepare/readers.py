"""The data sets that can be read: one table of targets, one table of labeled sources.

A new data set is an entry here and a name in `settings.DATASETS` or `settings.SOURCES`. A new
folder layout also needs a module with a function `read`. A source in Market-1501's layout needs
no module:

    "cuhk03": tree_reader(
        folder="CUHK03",
        marker=bounding_boxes.MARKER,
        published=(),
        read=partial(bounding_boxes.read_boxes, pattern=re.compile(…), example="…"),
    )
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from stages.parts.run.console import message
from stages.parts.run.rendered import is_rendered
from stages.prepare import counts, dukemtmc, folder, llcm, market1501, msmt17, regdb, sysu_mm01
from stages.prepare.counts import Count
from stages.prepare.tree import find_tree

Reading = tuple[pd.DataFrame, list[str]]  # the table, and remarks for the user, one line each


@dataclass(frozen=True)
class Reader:
    """How the tree of a data set is found and read.

    Attributes:
        folder: customary name of the tree; None if it has none (a folder with a CSV).
        marker: files and folders that every such tree holds.
        published: the counts that its publication gives.
        read: takes the tree's folder and the trial (only RegDB has several).
        upright: whether images with an EXIF orientation are turned, as viewers do. The released
            code does not turn those of the published data sets.
    """

    folder: str | None
    marker: tuple[str, ...]
    published: tuple[Count, ...]
    read: Callable[[Path, int], Reading]
    upright: bool = False

    def find(self, roots: Mapping[str, Path]) -> Path:
        """Return the tree's folder, looked for in `roots` (parameter name → folder)."""
        if self.folder is None:
            return folder.find_csv(self.marker[0], roots)
        return find_tree(self.folder, self.marker, roots)


def tree_reader(
    folder: str,
    marker: tuple[str, ...],
    published: tuple[Count, ...],
    read: Callable[[Path], pd.DataFrame],
) -> Reader:
    """Return the reader of a data set that has no trials and gives no remarks."""
    return Reader(folder, marker, published, lambda root, trial: (read(root), []))


TARGETS = {
    "sysu_mm01": tree_reader(
        sysu_mm01.FOLDER, sysu_mm01.MARKER, sysu_mm01.PUBLISHED, sysu_mm01.read
    ),
    "regdb": Reader(
        regdb.FOLDER,
        regdb.MARKER,
        regdb.PUBLISHED,
        lambda root, trial: (regdb.read(root, trial), []),
    ),
    "llcm": tree_reader(llcm.FOLDER, llcm.MARKER, llcm.PUBLISHED, llcm.read),
    "folder": Reader(
        None, (folder.IMAGES,), (), lambda root, trial: folder.read(root), upright=True
    ),
}
SOURCES = {
    "market1501": tree_reader(
        market1501.FOLDER, market1501.MARKER, market1501.PUBLISHED, market1501.read
    ),
    "dukemtmc": tree_reader(dukemtmc.FOLDER, dukemtmc.MARKER, dukemtmc.PUBLISHED, dukemtmc.read),
    "msmt17": tree_reader(msmt17.FOLDER, msmt17.MARKER, msmt17.PUBLISHED, msmt17.read),
    "folder": Reader(
        None, (folder.SOURCE,), (), lambda root, trial: folder.read_source(root), upright=True
    ),
}


def read_checked(
    reader: Reader, roots: Mapping[str, Path], trial: int = 1, compare: bool = True
) -> tuple[Path, pd.DataFrame]:
    """Find and read a tree; return its folder and its table, and print the remarks on it.

    Args:
        reader: an entry of TARGETS or SOURCES.
        roots: the folders to look in, by the name of their parameter.
        trial: the split, which only RegDB has several of.
        compare: whether to compare the counts with the published ones. Those of a rendered tree
            are never compared.

    Raises:
        InputError: if there is no such tree, or training and test set share identities.
    """
    root = reader.find(roots)
    table, remarks = reader.read(root, trial)
    counts.refuse_shared_persons(table, root)
    if compare and not is_rendered(root):
        remarks += counts.compare(table, reader.published, str(root))
    for remark in remarks:
        message(remark)
    return root, table
