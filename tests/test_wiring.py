"""dvc.yaml against the code: a dependency that is missing there would serve stale results."""

import ast
import re
from pathlib import Path

import pytest
import yaml

from stages.evaluate.protocols import PROTOCOLS
from stages.parts.assignment.transport import SOLVERS
from stages.parts.network.backbone import ARCHITECTURES
from stages.parts.network.pooling import POOLINGS
from stages.parts.run import combinations, rendered, settings
from stages.parts.run.settings import PROFILE_OF_ALL, PROFILE_OF_ONE, SECTIONS
from stages.prepare.readers import SOURCES, TARGETS
from stages.synthesize.trees import LAYOUTS
from stages.train.assignment import ASSIGNMENTS

ROOT = Path(__file__).parents[1]
SETTINGS = ROOT / "stages/parts/run/settings.py"
COMBINATIONS = ROOT / "stages/parts/run/combinations.py"
FILES = sorted((ROOT / "stages").rglob("*.py"))
NAMES = [str(path.relative_to(ROOT)) for path in FILES]
SHARED = (
    ("parts", "upload.py"),
    ("parts", "inner_products.py"),
    ("parts", "run", "__init__.py"),  # a docstring
    ("parts", "run", "files.py"),
)
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


def commands(name: str) -> list[str]:
    """What a stage runs; the last one is the stage, those before it only refuse."""
    command = STAGES[name]["cmd"]
    return [command] if isinstance(command, str) else command


def entry(name: str) -> Path:
    module = commands(name)[-1].split(" -m ")[1].split()[0]
    return file_of(module + ".__main__") or file_of(module)  # type: ignore[return-value]


def is_code(path: Path) -> bool:
    """Whether a change of the file can change what a stage does.

    Three kinds of files cannot. Packages without code hold a docstring. settings.py holds types and
    ranges: DVC tracks the values themselves (`params:`), so that a changed range runs no stage
    again. combinations.py yields messages, with which params.py ends. The tests below see to it
    that all stay what they are.
    """
    if path in (SETTINGS, COMBINATIONS):
        return False
    return path.name != "__init__.py" or bool(statements(path))


def statements(path: Path) -> list[ast.stmt]:
    """What a module does, its docstring left out."""
    body = ast.parse(path.read_text()).body
    return body[1:] if ast.get_docstring(ast.Module(body, [])) is not None else body


def code_deps(name: str) -> list[Path]:
    return [ROOT / dep for dep in STAGES[name]["deps"] if dep.startswith("stages")]


@pytest.mark.parametrize("name", STAGES)
def test_every_import_is_a_dependency(name: str) -> None:
    deps = code_deps(name)
    code = filter(is_code, closure(entry(name)))
    missing = {p for p in code if not any(p == d or d in p.parents for d in deps)}
    assert not missing, f"{name}: add to deps: {sorted(str(p.relative_to(ROOT)) for p in missing)}"


@pytest.mark.parametrize("name", STAGES)
def test_every_code_dependency_is_used(name: str) -> None:
    used = closure(entry(name))
    idle = [d for d in code_deps(name) if not any(p == d or d in p.parents for p in used)]
    assert not idle, f"{name}: nothing imports {[str(d.relative_to(ROOT)) for d in idle]}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_imports_point_downwards(path: Path) -> None:
    """Stages import parts; no stage imports a stage, no part a stage or another part.

    `export` may import `evaluate`: what 8 bits cost is measured by the evaluation itself. A part
    may import `upload.py`, `inner_products.py` and `run/files.py`, which import nothing of ours.
    """
    owner = path.relative_to(ROOT / "stages").parts
    home = owner[:2] if owner[0] == "parts" else owner[:1]
    for other in imports(path):
        target = other.relative_to(ROOT / "stages").parts
        if (target[-1] == "__init__.py" and len(target) <= 2) or target in SHARED:
            continue
        if (owner[0], target[0]) == ("export", "evaluate"):
            continue
        at = target[:2] if target[0] == "parts" else target[:1]
        assert at == home or (owner[0] != "parts" and at[0] == "parts"), f"{path} imports {other}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_only_entry_points_read_parameters(path: Path) -> None:
    if path.name in ("__main__.py", "source.py", "plan.py") or path.parent.name == "run":
        return
    assert ROOT / "stages/parts/run/params.py" not in imports(path)


def test_settings_hold_types_and_ranges_only() -> None:
    """No stage depends on the file, so nothing in it may do anything."""
    for node in statements(SETTINGS):
        assert isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.ClassDef), (
            node.lineno
        )
        if isinstance(node, ast.Assign):
            assert not any(isinstance(part, ast.Call) for part in ast.walk(node)), node.lineno
        if isinstance(node, ast.ClassDef):
            assert all(isinstance(line, ast.AnnAssign) for line in node.body), node.name
            assert [ast.unparse(each) for each in node.decorator_list] == ["dataclass(frozen=True)"]


def test_combinations_only_yield_messages() -> None:
    """No stage depends on the file, so params.py may take nothing else from it."""
    for node in statements(COMBINATIONS):
        assert isinstance(node, ast.Import | ast.ImportFrom | ast.Assign | ast.FunctionDef)
        if isinstance(node, ast.FunctionDef):
            assert ast.unparse(node.returns or ast.Constant(None)) == "Iterator[str]"
    used = re.findall(r"combinations\.\w+", "".join(path.read_text() for path in FILES))
    assert set(used) - {"combinations.py"} == {"combinations.faults"}


def test_before_a_training_the_plan_of_the_evaluation_is_made() -> None:
    """It writes nothing, so it is no dependency; every other stage is one command."""
    for name in STAGES:
        plan = ["exec python -m stages.evaluate.plan"] if name in ("pseudo_label", "train") else []
        assert commands(name)[:-1] == plan


def test_a_stage_takes_the_place_of_its_shell() -> None:
    """Some shells (dash) wait beside a command: killed with DVC, they leave the stage running."""
    for name in STAGES:
        assert all(command.startswith("exec python -m ") for command in commands(name))


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_stages_use_settings_as_types_only(path: Path) -> None:
    """A constant of settings.py that a stage computes with would be a dependency."""
    if path.name == "params.py":
        return
    kinds = {kind.__name__ for kind in SECTIONS.values()} | {"SECTIONS"}  # all of them: report
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            assert not any(alias.name.endswith(".settings") for alias in node.names)
        if isinstance(node, ast.ImportFrom) and node.module == "stages.parts.run":
            assert "settings" not in {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom) and node.module == "stages.parts.run.settings":
            assert {alias.name for alias in node.names} <= kinds


def read_by(path: Path) -> set[str]:
    """The parameters and sections that an entry point reads from the tree of params.yaml."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Subscript) and ast.unparse(node.value) == "tree":
            found.add(ast.literal_eval(node.slice))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "params.section":
            section, kind = ast.literal_eval(node.args[1]), ast.unparse(node.args[2])
            assert kind == section.capitalize()
            found.add(section)
    return found


@pytest.mark.parametrize("name", [name for name in STAGES if name != "report"])
def test_a_stage_lists_what_it_reads(name: str) -> None:
    """By section; `report` reads and lists everything.

    The package reads `device` when it is imported: numerics are of every stage.
    """
    params = {param for param in STAGES[name]["params"] if not param.startswith("profiles")}
    assert read_by(entry(name)) | {"device"} == {param.split(".")[0] for param in params}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_no_function_that_differs_between_processors(path: Path) -> None:
    """torch's square root and faiss's search on a CPU; numpy's and Python's roots are exact."""
    text = path.read_text()
    assert not re.search(r"torch\.(r?sqrt|cdist)\(|faiss\.knn\(", text)
    roots = re.findall(r"(\w+|\W)\.r?sqrt_?\(", text)
    assert set(roots) <= {"np", "math"}
    for call in re.findall(r"optim\.Adam\(.*\)", text):
        assert "fused=True" in call  # the other kernels take torch's root


def names_its_encoding(call: ast.Call) -> bool:
    """Whether a call that opens or reads a text names its encoding; ruff sees some of them only."""
    given = {keyword.arg for keyword in call.keywords}
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ast.unparse(call.func)
    if "encoding" in given or ast.unparse(call.func) in ("os.open", "Image.open"):
        return True
    if name == "open":
        return any("b" in str(ast.unparse(each)) for each in call.args if is_mode(each))
    return name not in ("read_text", "write_text") and not given & {"text", "universal_newlines"}


def is_mode(argument: ast.expr) -> bool:
    """Whether an argument of `open` is a mode as `"rb"`."""
    return isinstance(argument, ast.Constant) and set(str(argument.value)) <= set("rwabxt+")


@pytest.mark.parametrize("folder", ["stages", "experiments", "benchmarks", "search"])
def test_no_file_is_read_or_written_in_the_encoding_of_the_locale(folder: str) -> None:
    for path in sorted((ROOT / folder).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func) != "write_text":  # ours
                assert names_its_encoding(node), f"{path}:{node.lineno}: {ast.unparse(node)}"


def test_tables_and_settings_have_the_same_names() -> None:
    """A name that settings.py accepts and no table has would fail after hours."""
    assert set(ARCHITECTURES) == set(settings.ARCHITECTURES)
    assert set(POOLINGS) == set(settings.POOLINGS)
    assert {*ASSIGNMENTS, "none"} == set(settings.ASSIGNMENTS)
    assert set(SOLVERS) == set(settings.SOLVERS)
    assert {*SOURCES, "none"} == set(settings.SOURCES)
    assert set(TARGETS) == set(PROTOCOLS) == set(settings.DATASETS)
    assert set(rendered.RENDERED) == set(settings.RENDERED)
    assert {name: each.modes for name, each in PROTOCOLS.items()} == combinations.MODES
    assert set(combinations.WITH_OFFICIAL_DRAWS) == {
        name for name, each in PROTOCOLS.items() if each.official is not None
    }
    assert set(combinations.WITH_IMAGENET) == {
        name for name, each in ARCHITECTURES.items() if each.weights is not None
    }
    assert set(LAYOUTS) == {*rendered.RENDERED, *SOURCES} - {"folder"}


def leaves(tree: dict, prefix: str = "") -> set[str]:
    found = set()
    for key, value in tree.items():
        is_section = isinstance(value, dict)
        found |= leaves(value, f"{prefix}{key}.") if is_section else {prefix + key}
    return found


def listed() -> set[str]:
    """Every parameter that a stage lists in dvc.yaml."""
    return {param for stage in STAGES.values() for param in stage["params"]}


def test_every_parameter_reaches_a_stage() -> None:
    tree = yaml.safe_load((ROOT / "params.yaml").read_text())
    del tree["profiles"]
    computing = {
        param for name, stage in STAGES.items() if name != "report" for param in stage["params"]
    }
    for leaf in leaves(tree):
        is_listed = any(leaf == param or leaf.startswith(param + ".") for param in computing)
        assert is_listed, f"no stage depends on {leaf}"


def test_every_profile_has_the_sections_that_stages_list_and_no_others() -> None:
    """A section that no stage lists would serve stale results; one that is missing stops DVC."""
    for prefix, sections in (
        ("profiles.${scale}.all.", PROFILE_OF_ALL),
        ("profiles.${scale}.${dataset}.", PROFILE_OF_ONE),
    ):
        found = {param.removeprefix(prefix) for param in listed() if param.startswith(prefix)}
        assert found == set(sections)


def test_a_stage_lists_a_section_and_its_profiles_together() -> None:
    for name, stage in STAGES.items():
        if name == "report":
            continue
        params = set(stage["params"])
        sections = {param.split(".")[0] for param in params if not param.startswith("profiles")}
        if name == "pseudo_label":
            sections.remove("train")  # setting and selection, which no profile has
        if name == "source":
            sections.remove("spcl")  # the name of the source, which no profile has
        for group, names in (("all", PROFILE_OF_ALL), ("${dataset}", PROFILE_OF_ONE)):
            wanted = {f"profiles.${{scale}}.{group}.{section}" for section in sections & set(names)}
            prefix = f"profiles.${{scale}}.{group}."
            assert {param for param in params if param.startswith(prefix)} == wanted, name


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


def test_params_yaml_can_be_read_in_one_sitting() -> None:
    assert len((ROOT / "params.yaml").read_text().splitlines()) <= 450
