"""`params.yaml` → frozen dataclasses. The one reader of that file; called by the verbs' `__main__.py` only.

A section's empty leaves come from `profiles.<dataset>.<section>`. The whole file is checked at every read, the
sections a stage does not use included, so a slip in `otla` is found before hours of `spcl`.
"""

import difflib
import re
import sys
import typing
from dataclasses import fields
from pathlib import Path
from typing import Any, TypeVar

import yaml

from stages.parts.run.settings import SECTIONS
from stages.parts.run.values import accepts_empty, read_value

Settings = TypeVar("Settings")
FILE = Path("params.yaml")


class ParameterError(ValueError):
    """A parameter that is unknown, missing or out of range; the message names it."""


class _Loader(yaml.SafeLoader):
    """PyYAML with the numbers of YAML 1.2: `1e-05` and `5e-4` are floats, as DVC writes and reads them."""


_Loader.yaml_implicit_resolvers = {
    first: [pair for pair in pairs if pair[0] != "tag:yaml.org,2002:float"]
    for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(
        r"^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$|^[-+]?\.(inf|Inf|INF)$|^\.(nan|NaN|NAN)$"
    ),
    list("-+0123456789."),
)


def load(path: Path = FILE) -> dict[str, Any]:
    """The tree of `path`, every section and every profile checked."""
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise ParameterError(
            f"{path} is not here; start this in the folder that holds it"
        ) from None
    return check(parse(text, str(path)))


def parse(text: str, name: str = str(FILE)) -> Any:
    """What a YAML 1.2 text stands for; messages call it `name`."""
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        raise ParameterError(f"{name} is not valid YAML: {' '.join(str(error).split())}") from None


def check(tree: Any) -> dict[str, Any]:
    """`tree` itself, every section and every profile checked. ParameterError names the leaf that is refused."""
    if not isinstance(tree, dict):
        raise ParameterError(f"{FILE}: expected sections, found {type(tree).__name__}")
    known = {"seed", "dataset", "profiles", *SECTIONS}
    _refuse_unknown("", tree, known, known)
    for name in ("seed", "dataset", "profiles"):
        if name not in tree:
            raise ParameterError(f"{FILE}: {name} is missing")
    if type(tree["seed"]) is not int or tree["seed"] < 0:
        raise ParameterError(f"{FILE}: seed: {tree['seed']!r} is not a whole number of at least 0")
    if tree["dataset"] not in tree["profiles"]:
        raise ParameterError(
            f"{FILE}: dataset: {tree['dataset']!r} is not one of {', '.join(tree['profiles'])}"
        )
    for name, profile in tree["profiles"].items():
        _refuse_unknown(f"profiles.{name}.", profile, set(SECTIONS), set(SECTIONS))
        for section in profile:
            leaves = {field.name for field in fields(SECTIONS[section])}
            _refuse_unknown(f"profiles.{name}.{section}.", profile[section], leaves, leaves)
    for section, kind in SECTIONS.items():
        _settings(tree, section, kind)
    return tree


def section(tree: dict[str, Any], name: str, kind: type[Settings]) -> Settings:
    """The section `name` of a loaded tree as its dataclass `kind`."""
    return _settings(tree, name, kind)


def _settings(tree: dict[str, Any], name: str, kind: type[Settings]) -> Settings:
    own = tree.get(name) or {}
    profile = tree["profiles"][tree["dataset"]].get(name) or {}
    hints = typing.get_type_hints(kind, include_extras=True)
    _refuse_unknown(f"{name}.", own, set(hints), set(hints))
    values = {}
    for field in fields(kind):  # type: ignore[arg-type]
        value = own.get(field.name)
        where = f"{name}.{field.name}"
        if value is None:
            value, where = profile.get(field.name), f"profiles.{tree['dataset']}.{where}"
        if value is None and not accepts_empty(hints[field.name]):
            raise ParameterError(f"{FILE}: {name}.{field.name} is empty, and so is {where}")
        try:
            values[field.name] = read_value(value, hints[field.name])
        except ValueError as error:
            raise ParameterError(f"{FILE}: {where}: {error}") from None
    try:
        return kind(**values)
    except ValueError as error:  # leaves that do not go together
        raise ParameterError(f"{FILE}: {error}") from None


def _refuse_unknown(prefix: str, given: Any, known: set[str], guesses: set[str]) -> None:
    if not isinstance(given, dict):
        raise ParameterError(
            f"{FILE}: {prefix.rstrip('.') or 'the file'}: expected keys, found {given!r}"
        )
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), guesses, n=1)
            hint = f"; did you mean {prefix}{near[0]}?" if near else ""
            raise ParameterError(f"{FILE}: {prefix}{key} is not a parameter{hint}")


def main() -> None:
    """Check `params.yaml` and say so (`make repro` does, before DVC touches anything)."""
    try:
        load()
    except ParameterError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
