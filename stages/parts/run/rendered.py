"""Which images are rendered: one place that says what follows from the scale and from the root."""

from pathlib import Path

from stages.parts.run.files import resolve

FOLDER = Path("data/synthetic")


def rendered_layout(dataset: str, scale: str, layout: str | None) -> str:
    """Return what the stage `synthesize` renders: a layout, `sources` or `none`.

    Args:
        dataset: the parameter of that name. Images of one's own (`folder`) are not rendered, but
            the labeled sources beside them are.
        scale: the parameter of that name. Scale `small` has rendered images.
        layout: `synthesize.layout`, which goes before both if it is not empty.
    """
    if layout is not None:
        return layout
    if scale != "small":
        return "none"
    return "sources" if dataset == "folder" else dataset


def is_rendered(root: str | Path) -> bool:
    """Return whether a tree in `root` (`data.root`, or a folder below it) is a rendered one."""
    return resolve(root).resolve().is_relative_to(resolve(FOLDER).resolve())
