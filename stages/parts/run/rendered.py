"""Which images are rendered: one place that says what follows from the scale and from the root."""

from pathlib import Path

from stages.parts.run.files import resolve

FOLDER = Path("data/synthetic")
RENDERED = ("sysu_mm01", "regdb", "llcm")  # data sets that the stage `synthesize` can render


def rendered_layout(dataset: str, scale: str, layout: str | None) -> str:
    """Return what the stage `synthesize` renders: a layout, `sources` or `none`.

    Args:
        dataset: the parameter of that name. A data set that cannot be rendered (`folder`) still
            has rendered sources.
        scale: the parameter of that name. Scale `small` has rendered images.
        layout: `synthesize.layout`. If it is not empty, it has priority over both.
    """
    if layout is not None:
        return layout
    if scale != "small":
        return "none"
    return dataset if dataset in RENDERED else "sources"


def is_rendered(root: str | Path) -> bool:
    """Return whether a tree in `root` (`data.root`, or a folder below it) is a rendered one."""
    return resolve(root).resolve().is_relative_to(resolve(FOLDER).resolve())
