"""Strangers' files stay data and this machine stays alone: what no source file may contain."""

import ast
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from stages.parts.run import params

ROOT = Path(__file__).parents[1]
FILES = sorted(
    path
    for folder in ("stages", "experiments", "benchmarks", "search")
    for path in (ROOT / folder).rglob("*.py")
)
NAMES = [str(path.relative_to(ROOT)) for path in FILES]
PICKLERS = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
NETWORK = {
    "aiohttp", "asyncio", "ftplib", "http", "httpx", "imaplib", "poplib", "requests", "smtplib",
    "socket", "socketserver", "ssl", "telnetlib", "urllib", "urllib3", "webbrowser", "xmlrpc",
}  # fmt: skip
CODE = {"eval", "exec", "compile", "__import__"}


def calls(path: Path) -> Iterator[tuple[str, dict[str, str], int]]:
    """Name, keyword arguments and line of each call of a file, all as they are written."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            keywords = {each.arg or "**": ast.unparse(each.value) for each in node.keywords}
            yield ast.unparse(node.func), keywords, node.lineno


def modules(path: Path) -> set[str]:
    """The top-level modules that a file imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return {name.split(".")[0] for name in names}


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_nothing_is_pickled(path: Path) -> None:
    """A pickle can run any code when it is read."""
    assert not modules(path) & PICKLERS
    for name, keywords, line in calls(path):
        assert name not in {"torch.load", "torch.save", "pd.read_pickle"}, f"line {line}"
        assert not name.endswith(("to_pickle", "loadmat")), f"line {line}"
        assert keywords.get("allow_pickle", "False") == "False", f"line {line}"
        assert name != "np.load" or "allow_pickle" in keywords, f"line {line}"
        assert not name.endswith("get_state_dict") or keywords["weights_only"] == "True"
        # yaml.load runs what a file says, unless its loader is a safe one.
        is_ours = path.name == "params.py" and issubclass(params._Loader, yaml.SafeLoader)
        assert name != "yaml.load" or is_ours, f"line {line}"
        assert not name.startswith(("yaml.unsafe", "yaml.full")), f"line {line}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_nothing_is_run_that_a_file_says(path: Path) -> None:
    for name, keywords, line in calls(path):
        assert name not in CODE | {"os.system", "os.popen"}, f"line {line}: {name}"
        assert keywords.get("shell", "False") == "False", f"line {line}: {name}"


@pytest.mark.parametrize("path", FILES, ids=NAMES)
def test_nothing_asks_the_network(path: Path) -> None:
    assert not modules(path) & NETWORK
    for name, _, line in calls(path):
        assert "hub" not in name.split("."), f"line {line}: {name}"
        assert "download" not in name, f"line {line}: {name}"


def test_only_imagenet_weights_are_downloaded() -> None:
    """Torchvision does it, for `network.weights: imagenet`. A benchmark takes its transforms."""
    users = {
        name for name, path in zip(NAMES, FILES, strict=True) if "torchvision" in modules(path)
    }
    assert users == {"stages/parts/network/backbone.py", "benchmarks/training.py"}


def test_export_tells_nobody_about_this_machine(tmp_path: Path) -> None:
    """onnxruntime's telemetry begins with its import: it leaves a number in the home folder."""
    code = "from stages.export import int8, onnx_file"
    kept = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}
    environment = kept | {"HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    assert list(tmp_path.rglob("*")) == []
