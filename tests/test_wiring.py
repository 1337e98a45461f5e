"""dvc.yaml against the code: a dependency that is missing there would serve stale results for ever."""

import ast
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def file_of(module: str) -> Path | None:
    """The file of a module of this project, or None."""
    path = ROOT / Path(*module.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.exists():
            return candidate
    return None


def imports(path: Path) -> set[Path]:
    """Files of this project that a file imports, those of the packages on the way included."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names = [node.module or ""] + [f"{node.module}.{alias.name}" for alias in node.names]
        for name in names:
            if name.split(".")[0] != "stages":
                continue
            parts = name.split(".")
            found |= {file_of(".".join(parts[: k + 1])) for k in range(len(parts))} - {None}
    return found  # type: ignore[return-value]


def closure(start: Path) -> set[Path]:
    """All files of this project that running `start` can import."""
    seen, todo = set(), [start, ROOT / "stages/__init__.py", start.parent / "__init__.py"]
    while todo:
        path = todo.pop()
        if path not in seen:
            seen.add(path)
            todo += imports(path)
    return seen


def entry(name: str) -> Path:
    module = STAGES[name]["cmd"].split(" -m ")[1].split()[0]
    return file_of(module + ".__main__") or file_of(module)  # type: ignore[return-value]


def code_deps(name: str) -> list[Path]:
    return [ROOT / dep for dep in STAGES[name]["deps"] if dep.startswith("stages")]


@pytest.mark.parametrize("name", STAGES)
def test_every_import_is_a_dependency(name: str) -> None:
    deps = code_deps(name)
    missing = {p for p in closure(entry(name)) if not any(p == d or d in p.parents for d in deps)}
    assert not missing, f"{name}: add to deps: {sorted(str(p.relative_to(ROOT)) for p in missing)}"


@pytest.mark.parametrize("name", STAGES)
def test_every_code_dependency_is_used(name: str) -> None:
    used = closure(entry(name))
    idle = [d for d in code_deps(name) if not any(p == d or d in p.parents for p in used)]
    assert not idle, f"{name}: nothing imports {[str(d.relative_to(ROOT)) for d in idle]}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "stages").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_imports_point_downwards(path: Path) -> None:
    """Verbs import parts; no verb imports a verb, no part a verb or another part."""
    owner = path.relative_to(ROOT / "stages").parts
    home = owner[:2] if owner[0] == "parts" else owner[:1]
    for other in imports(path):
        target = other.relative_to(ROOT / "stages").parts
        if target[-1] == "__init__.py" and len(target) <= 2:
            continue
        at = target[:2] if target[0] == "parts" else target[:1]
        assert at == home or (owner[0] != "parts" and at[0] == "parts"), f"{path} imports {other}"


@pytest.mark.parametrize(
    "path", sorted((ROOT / "stages").rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT))
)
def test_only_entry_points_read_parameters(path: Path) -> None:
    if path.name in ("__main__.py", "source.py") or path.parent.name == "run":
        return
    assert ROOT / "stages/parts/run/params.py" not in imports(path)


def leaves(tree: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in tree.items():
        found |= leaves(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key}
    return found


def test_every_parameter_reaches_a_stage() -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    profiles = tree.pop("profiles")
    listed = {param for stage in STAGES.values() for param in stage["params"]}
    for leaf in leaves(tree):
        assert any(leaf == param or leaf.startswith(param + ".") for param in listed), (
            f"no stage depends on {leaf}"
        )
    for name, profile in profiles.items():
        for param in listed:
            if param.startswith("profiles.${dataset}."):
                node = profile
                for key in param.split(".")[2:]:
                    assert key in node, (
                        f"profiles.{name} lacks {param}: DVC would refuse the data set"
                    )
                    node = node[key]


def test_every_parameter_has_a_comment() -> None:
    lines = (ROOT / "params.yaml").read_text().split("\nprofiles:")[0].splitlines()
    above = False
    for line in lines:
        if line.strip().startswith("#"):
            above = True
        elif not line.strip():
            above = False
        elif line.startswith(" ") and ":" in line:
            assert above, f"no comment above {line.strip()!r}"
