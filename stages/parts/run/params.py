"""`params.yaml` → frozen dataclasses. Only the stages' `__main__.py` read parameters, through here.

An empty value of a section comes from `profiles.<scale>.<dataset>`, else from
`profiles.<scale>.all`. Every stage checks the whole file, also the sections that it does not use:
a slip in `otla` is found before hours of `spcl`.
"""

import difflib
import re
import sys
import typing
from collections.abc import Iterable, Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from stages.parts.run import combinations, numerics
from stages.parts.run.settings import DATASETS, PROFILE_OF_ALL, PROFILE_OF_ONE, SECTIONS, Device
from stages.parts.run.values import accepts_empty, read_value

Settings = TypeVar("Settings")
Tree = dict[str, Any]
FILE = Path("params.yaml")
GENERAL = ("seed", "dataset", "scale", "profiles")

# Leaves that no profile may have: the stages that read them do not list these profiles.
NOT_IN_PROFILES = ("spcl.source", "train.setting", "train.selection")
# What people wrote in earlier versions, and what to write now.
FORMER_DATASETS = {
    "synthetic": "dataset: sysu_mm01 and scale: small",
    "synthetic_regdb": "dataset: regdb and scale: small",
    "synthetic_llcm": "dataset: llcm and scale: small",
}
FORMER_KEYS = {
    "data.layout": "`dataset`",
    "otla.stop": "part of `otla.solver` (`change` is `released`); delete it",
}


class ParameterError(ValueError):
    """A parameter that is unknown, missing or out of range. The message names it."""


class _Loader(yaml.SafeLoader):  # type: ignore[misc]  # PyYAML has no types
    """PyYAML with the numbers of YAML 1.2: `1e-05` is a float, as DVC writes and reads it."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:float"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$"
        r"|^[-+]?\.(inf|Inf|INF)$"
        r"|^\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def load(path: Path = FILE) -> Tree:
    """Return the tree of `path`, every section and every profile checked.

    Raises:
        ParameterError: as `check`, and if there is no such file or it is not YAML, or if the
            environment does not let `device.threads` threads run.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ParameterError(
            f"{path} is not here; start this in the folder that holds it"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise ParameterError(f"{path} cannot be read as text: {error}") from None
    tree = check(parse(text, str(path)))
    _refuse_fewer_threads(section(tree, "device", Device).threads)
    return tree


def parse(text: str, name: str = str(FILE)) -> Any:
    """Return what a YAML 1.2 text stands for. Error messages call it `name`."""
    try:
        return yaml.load(text, _Loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ParameterError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None


def check(tree: Any) -> Tree:
    """Return `tree` itself, every section and every profile checked.

    Raises:
        ParameterError: names the parameter that is refused.
    """
    if not isinstance(tree, dict):
        raise ParameterError(f"{FILE}: expected sections, found {type(tree).__name__}")
    _refuse_unknown("", tree, (*GENERAL, *SECTIONS))
    _refuse_former_dataset(tree.get("dataset"))
    for name in GENERAL:
        if name not in tree:
            raise ParameterError(f"{FILE}: {name} is missing")
    if type(tree["seed"]) is not int or tree["seed"] < 0:
        raise ParameterError(f"{FILE}: seed: {tree['seed']!r} is not a whole number of at least 0")
    if not isinstance(tree["profiles"], dict):
        raise ParameterError(f"{FILE}: profiles: expected scales, found {tree['profiles']!r}")
    _refuse_other("dataset", tree["dataset"], DATASETS)
    _refuse_unnamed_scales(tree["profiles"])
    _refuse_other("scale", tree["scale"], tree["profiles"])
    for scale, profile in tree["profiles"].items():
        _check_profile(scale, profile)
    sections: Tree = {name: section(tree, name, kind) for name, kind in SECTIONS.items()}
    for fault in combinations.faults(tree["dataset"], sections):
        raise ParameterError(f"{FILE}: {fault}")
    return tree


def section(tree: Tree, name: str, kind: type[Settings]) -> Settings:
    """Return the section `name` of a loaded tree as its dataclass `kind`.

    Raises:
        ParameterError: names the parameter that is missing or out of range.
    """
    hints = typing.get_type_hints(kind, include_extras=True)
    if tree.get(name) is not None:
        _refuse_unknown(f"{name}.", tree[name], hints)
    values = {}
    for field in fields(kind):  # type: ignore[arg-type]
        value, place = _lookup(tree, name, field.name)
        if value is None and not accepts_empty(hints[field.name]):
            places = " and ".join(f"{place}.{field.name}" for place, _ in _places(tree, name))
            raise ParameterError(f"{FILE}: no value in {places}, expected one")
        try:
            values[field.name] = read_value(value, hints[field.name])
        except ValueError as error:
            raise ParameterError(f"{FILE}: {place}.{field.name}: {error}") from None
    return kind(**values)


def _places(tree: Tree, name: str) -> Iterator[tuple[str, Tree]]:
    """Yield the places of a section's values, the first one first: the path and the leaves."""
    scale = tree["scale"]
    yield name, tree.get(name) or {}
    for group, names in ((tree["dataset"], PROFILE_OF_ONE), ("all", PROFILE_OF_ALL)):
        if name in names:
            yield f"profiles.{scale}.{group}.{name}", tree["profiles"][scale][group][name]


def _lookup(tree: Tree, name: str, leaf: str) -> tuple[Any, str]:
    """Return the first value of a leaf that is not empty, and the path of the section it is in."""
    for place, leaves in _places(tree, name):
        if leaves.get(leaf) is not None:
            return leaves[leaf], place
    return None, name


def _check_profile(scale: str, profile: Any) -> None:
    _check_keys(f"profiles.{scale}.", profile, ("all", *DATASETS))
    for group, sections in profile.items():
        names = PROFILE_OF_ALL if group == "all" else PROFILE_OF_ONE
        _check_keys(f"profiles.{scale}.{group}.", sections, names)
        for name, leaves in sections.items():
            _check_leaves(f"profiles.{scale}.{group}.{name}.", name, leaves)


def _check_leaves(prefix: str, name: str, leaves: Any) -> None:
    """Refuse a leaf of a profile that is unknown, out of range, or not for profiles."""
    hints = typing.get_type_hints(SECTIONS[name], include_extras=True)
    _refuse_unknown(prefix, leaves, hints)
    for leaf, value in leaves.items():
        if f"{name}.{leaf}" in NOT_IN_PROFILES:
            raise ParameterError(f"{FILE}: {prefix}{leaf} has no effect; write it as {name}.{leaf}")
        try:
            if value is not None:
                read_value(value, hints[leaf])
        except ValueError as error:
            raise ParameterError(f"{FILE}: {prefix}{leaf}: {error}") from None


def _check_keys(prefix: str, node: Any, names: Iterable[str]) -> None:
    """Refuse a key that is not in `names`, and a name without a key: DVC needs each of them."""
    _refuse_unknown(prefix, node, names)
    for name in names:
        if name not in node:
            raise ParameterError(f"{FILE}: {prefix}{name} is missing, expected at least {{}}")


def _refuse_former_dataset(value: Any) -> None:
    if isinstance(value, str) and value in FORMER_DATASETS:
        raise ParameterError(f"{FILE}: dataset: {value!r} is now {FORMER_DATASETS[value]}")


def _refuse_unnamed_scales(profiles: dict[Any, Any]) -> None:
    for scale in profiles:
        if not isinstance(scale, str):
            raise ParameterError(f"{FILE}: profiles: {scale!r} is not the name of a scale")


def _refuse_other(name: str, value: Any, choices: Iterable[str]) -> None:
    if not isinstance(value, str) or value not in choices:
        raise ParameterError(f"{FILE}: {name}: {value!r} is not one of {', '.join(choices)}")


def _refuse_unknown(prefix: str, leaves: Any, known: Iterable[str]) -> None:
    if not isinstance(leaves, dict):
        where = prefix.rstrip(".") or "the file"
        raise ParameterError(f"{FILE}: {where}: expected keys, found {leaves!r}")
    for key in leaves:
        name = f"{prefix}{key}"
        if name in FORMER_KEYS:
            raise ParameterError(f"{FILE}: {name} is now {FORMER_KEYS[name]}")
        if key not in known:
            name = name if name.isprintable() else repr(name)
            near = difflib.get_close_matches(str(key), known, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else ""
            raise ParameterError(f"{FILE}: {name} is not a parameter{hint}")


def _refuse_fewer_threads(threads: int) -> None:
    setting = numerics.fewer_threads(threads)
    if setting is not None:
        raise ParameterError(
            f"{FILE}: device.threads: {threads} threads cannot run with {setting} in the "
            "environment, the first step would not end; unset it, or set device.threads to 1"
        )


def main() -> None:
    """Check `params.yaml`; `make repro` does this before DVC touches anything."""
    try:
        load()
    except ParameterError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
