"""Which kernels the libraries take: chosen before they are imported, from params.yaml."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import portable
from stages.parts.run import numerics, params
from tests.builders import ROOT, write_parameters


@pytest.fixture(autouse=True)
def clean(monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment in which nobody has chosen; it is put back afterwards."""
    for name in (*numerics.PORTABLE, *numerics.THREADS, numerics.CHOSEN):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def chosen() -> dict[str, str]:
    names = (*numerics.PORTABLE, *numerics.THREADS)
    return {name: os.environ[name] for name in names if name in os.environ}


def test_portable_fixes_kernels_and_threads(tmp_path: Path) -> None:
    numerics.choose(write_parameters(tmp_path, {"device.threads": 3}))
    assert chosen() == numerics.PORTABLE | dict.fromkeys(numerics.THREADS, "3")


def test_native_leaves_the_choice_to_the_libraries(tmp_path: Path) -> None:
    numerics.choose(write_parameters(tmp_path, {"device.numerics": "native"}))
    assert chosen() == {}


def test_a_child_process_does_not_inherit_the_choice_of_its_parent(tmp_path: Path) -> None:
    """`python -m experiments … -S device.numerics=native`: the parent is portable."""
    numerics.choose(write_parameters(tmp_path))
    numerics.choose(write_parameters(tmp_path, {"device.numerics": "native"}))
    assert chosen() == {}


def test_what_the_user_has_set_stays_with_native_numerics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MKL_CBWR", "AVX2")
    numerics.choose(write_parameters(tmp_path, {"device.numerics": "native"}))
    assert chosen() == {"MKL_CBWR": "AVX2"}


def test_windows_has_another_name_for_the_same_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numerics.platform, "machine", lambda: "AMD64")
    numerics.choose(write_parameters(tmp_path, {"device.threads": 1}))
    assert chosen() == numerics.PORTABLE | dict.fromkeys(numerics.THREADS, "1")


def test_other_machines_are_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(numerics.platform, "machine", lambda: "aarch64")
    numerics.choose(write_parameters(tmp_path))
    assert chosen() == {}


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff", b"a: [1", b"device: 3"]
    + [b"device:\n  threads: " + value for value in (b"x", b"0", b"-1", b"true", b"1.0")],
)
def test_a_file_that_says_nothing_is_portable(tmp_path: Path, content: bytes) -> None:
    """What is wrong with it is said later, in one line."""
    (tmp_path / "params.yaml").write_bytes(content)
    numerics.choose(tmp_path / "params.yaml")
    assert chosen() == numerics.PORTABLE
    numerics.choose(tmp_path / "gone.yaml")
    assert chosen() == numerics.PORTABLE


def test_the_package_chooses_before_a_library_is_imported() -> None:
    """Otherwise the libraries would have chosen already."""
    code = "import stages, sys; print(*{'numpy', 'torch', 'faiss', 'scipy'} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == ""


def test_without_an_emulator_the_benchmark_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setattr(portable.shutil, "which", lambda name: None)
    assert portable.main([]) == 0
    assert "skipped: qemu-x86_64 is not on PATH" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "threads", "is_refused"),
    [
        ("OMP_THREAD_LIMIT=1", 2, True),
        ("OMP_THREAD_LIMIT=3", 4, True),
        ("OMP_THREAD_LIMIT=2", 2, False),
        ("OMP_THREAD_LIMIT=1", 1, False),
        ("OMP_THREAD_LIMIT=", 2, False),
        ("OMP_DYNAMIC=TRUE", 2, True),
        ("OMP_DYNAMIC=false", 2, False),
        ("OMP_DYNAMIC=true", 1, False),
        ("OMP_MAX_ACTIVE_LEVELS=0", 2, True),
        ("OMP_MAX_ACTIVE_LEVELS=1", 2, False),
        ("MKL_DYNAMIC=TRUE", 2, False),
        ("OMP_NESTED=true", 2, False),
    ],
)
def test_threads_that_would_not_come_are_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: str, threads: int, is_refused: bool
) -> None:
    """oneDNN waits for them without an end; two threads were seen to run with the others."""
    written = write_parameters(tmp_path, {"device.threads": threads})
    monkeypatch.setenv(*setting.split("="))
    if not is_refused:
        params.load(written)
        return
    with pytest.raises(ValueError, match=rf"^params.yaml: device.threads: .* {setting} .*unset it"):
        params.load(written)


def test_fewer_cores_than_threads_are_no_obstacle(tmp_path: Path) -> None:
    """One core of many, as by taskset, a container or a batch system: the threads take turns."""
    write_parameters(tmp_path, {"device.threads": 2})
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
        "from stages.parts.run import params, settings\n"
        "from stages.parts.run.device import open_device\n"
        "tree = params.load()\n"
        "open_device(params.section(tree, 'device', settings.Device))\n"
        "import torch\n"
        "torch.nn.Conv2d(16, 32, 3)(torch.ones(8, 16, 48, 24)).sum().backward()\n"
        "print(torch.get_num_threads())"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "PASSIVE"}
    command = [sys.executable, "-c", code]
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=120
    )
    assert (done.stdout, done.returncode) == ("2\n", 0), done.stderr
