"""What machines have in store: locales, signals, full disks, closed pipes, a second process."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from dvc.repo import Repo

from stages.parts.run.files import remove_parts, whole_folder
from stages.parts.run.stage import run_stage
from stages.parts.run.tensors import load_tensors, save_tensors
from tests.builders import ROOT, write_parameters

SMALL = {"synthesize.train_persons": 60, "synthesize.test_persons": 30, "device.threads": 1}


def start(code: str, folder: Path, **environment: str) -> subprocess.Popen[str]:
    """Python code as a process of its own in `folder`, with what it prints as UTF-8."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
    )


# Locales


@pytest.fixture(params=["C", "zh_CN.GB18030", "ja_JP.EUC-JP", "de_DE.ISO-8859-1"])
def locale(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The variables of a locale that is not UTF-8; it is compiled here if need be."""
    name = request.param
    if name != "C":
        language, encoding = name.split(".")
        command = ["localedef", "-i", language, "-f", encoding, str(tmp_path / name)]
        if not shutil.which("localedef") or subprocess.run(command, capture_output=True).returncode:
            pytest.skip(f"this machine cannot compile {name}")
    utf8_for_c = {"PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}  # Python's own, switched off
    return {"LC_ALL": name, "LOCPATH": str(tmp_path), **utf8_for_c}


def test_files_are_utf_8_and_a_terminal_shows_what_it_can(
    locale: dict[str, str], tmp_path: Path
) -> None:
    code = """if True:
        from pathlib import Path
        from stages.parts.run import console, files
        text = "\\u4e2d \\xe9 \\xb1 \\u2013 \\U0001f600 \\udcff"
        console.message(text)
        files.write_text(Path("a.txt"), text[:-1])
        files.append_line(Path("a.jsonl"), {"text": text})
        files.write_json(Path("a.json"), {text: 1})
        assert files.read_json(Path("a.json")) == {text: 1}
    """
    process = start(code, tmp_path, **locale)
    process.stdout.reconfigure(encoding="latin-1")
    said, complaint = process.communicate(timeout=60)
    assert (process.returncode, complaint) == (0, "")
    assert r"\udcff" in said
    written = (tmp_path / "a.txt").read_text(encoding="utf-8")
    assert written == "\u4e2d \xe9 \xb1 \u2013 \U0001f600 "


# Signals


def rendering(folder: Path, *command: str) -> subprocess.Popen[str]:
    """A command that runs the stage `synthesize` in `folder`, whose workers are at work."""
    write_parameters(folder, SMALL)
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), "DVC_SITE_CACHE_DIR": str(folder / "site")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    while not list(folder.rglob("*.jpg")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process


@pytest.fixture
def stage(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The stage `synthesize` at work, with its workers."""
    with rendering(tmp_path, "stages.synthesize") as process:
        yield process
        process.kill()


def is_alive(group: int) -> bool:
    """Whether a process of the group is left; one that has ended needs a moment to be gone."""
    for _ in range(50):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    return True


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["stage", "group"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_stage_and_workers_in_one_line(
    stage: subprocess.Popen[str], tmp_path: Path, number: signal.Signals, send: object
) -> None:
    send(stage.pid, number)
    _, said = stage.communicate(timeout=5)
    line = f"stopped by {number.name}; the same command goes on from what is finished"
    assert (stage.returncode, said) == (128 + number, f"\n{line}\n")
    assert not is_alive(stage.pid)
    assert list((tmp_path / "data").iterdir()) == []


@pytest.mark.parametrize("shell", ["/bin/sh", "bash"])
@pytest.mark.parametrize(
    ("send", "number", "said_by_dvc"),
    [(os.killpg, signal.SIGINT, "exited with 130"), (os.kill, signal.SIGTERM, "")],
    ids=["Ctrl-C", "kill of DVC alone"],
)
def test_a_signal_ends_what_dvc_runs(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    send: object,
    number: signal.Signals,
    said_by_dvc: str,
    shell: str,
) -> None:
    if not (path := shutil.which(shell)):
        pytest.skip(f"this machine has no {shell}")
    monkeypatch.setenv(
        "SHELL", path
    )  # DVC's shell; dash, the usual /bin/sh, stays beside a command
    (tmp_path / ".dvc").mkdir()
    (tmp_path / ".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    command = f"{{cmd: exec {sys.executable} -m stages.synthesize, outs: [data/synthetic]}}"
    (tmp_path / "dvc.yaml").write_text(f"stages: {{synthesize: {command}}}\n")
    with rendering(tmp_path, "dvc", "repro") as process:
        send(process.pid, number)
        _, said = process.communicate(timeout=10)
    assert "the same command goes on from what is finished" in said
    assert said_by_dvc in said
    assert "Traceback" not in said
    assert not is_alive(process.pid)
    assert list((tmp_path / "data").glob("*synthetic*")) == []


def test_a_killed_stage_leaves_no_worker_and_the_next_one_removes_its_files(
    stage: subprocess.Popen[str], tmp_path: Path
) -> None:
    stage.kill()
    stage.communicate()
    assert not is_alive(stage.pid)
    target = tmp_path / "data/synthetic"
    assert len(list(target.parent.iterdir())) == 1
    with whole_folder(target):
        pass
    assert list(target.parent.iterdir()) == [target]


# Files that cannot be written


@pytest.fixture
def full(tmp_path: Path) -> dict[str, object]:
    """A checkpoint and a text in a folder, in which no file of more than 64 kB has room."""
    save_tensors(tmp_path / "state", {"w": torch.zeros(100)})
    (tmp_path / "text").write_text("old")
    return {path.name: path.read_bytes() for path in tmp_path.iterdir()}


@pytest.mark.parametrize(
    ("call", "name"),
    [
        ("save_tensors(Path('state'), {'w': torch.ones(100_000)})", "state"),
        ("write_text(Path('text'), 'x' * 100_000)", "text"),
        ("np.save(stack.enter_context(whole_folder(Path('new'))) / 'x', np.ones(99_999))", "new"),
    ],
)
def test_a_full_disk_is_one_line_and_the_last_state_stays(
    full: dict[str, object], tmp_path: Path, call: str, name: str
) -> None:
    code = f"""if True:
        import resource
        from contextlib import ExitStack
        from pathlib import Path
        import numpy as np, torch
        from stages.parts.run.files import whole_folder, write_text
        from stages.parts.run.stage import run_stage
        from stages.parts.run.tensors import save_tensors
        resource.setrlimit(resource.RLIMIT_FSIZE, (65536, 65536))
        with run_stage("train"), ExitStack() as stack:
            {call}
    """
    process = start(code, tmp_path)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 1
    assert said.startswith("error in train: ")
    assert said.count("\n") == 1
    assert re.search(
        f"File too large: '{name}'; make room|^error in train: {name} cannot be written", said
    )
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == full


def mounted(folder: Path, commands: str) -> subprocess.CompletedProcess[str]:
    """Shell commands that may mount, and then the stage `synthesize`, in `folder`."""
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-m", "true"], capture_output=True).returncode:
        pytest.skip("only root may mount a file system, with unshare of util-linux")
    write_parameters(folder, SMALL)
    return subprocess.run(
        [unshare, "-m", "sh", "-ec", f"{commands}; exec {sys.executable} -m stages.synthesize"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("commands", "line"),
    [
        (
            "mkdir data; mount -t tmpfs -o size=200k tmpfs data",
            "No space left on device: 'data/synthetic'; make room, then the same command goes on "
            "from what is finished",
        ),
        (
            "mkdir data; mount -t tmpfs -o ro tmpfs data",
            "Read-only file system: 'data/synthetic'",
        ),
        (
            "mount -t tmpfs -o size=4k tmpfs /dev/shm; head -c 4096 /dev/zero > /dev/shm/full",
            "No space left on device: '/dev/shm'; make room, then the same command goes on "
            "from what is finished",
        ),
    ],
    ids=["full", "read-only", "/dev/shm"],
)
def test_a_file_system_that_takes_nothing_is_one_line(
    tmp_path: Path, commands: str, line: str
) -> None:
    done = mounted(tmp_path, commands)
    assert done.returncode == 1
    assert re.fullmatch(rf"error in synthesize: \[Errno \d+\] {line}\n", done.stderr)
    assert list((tmp_path / "data").iterdir()) == []


FAISS = (
    "Error in virtual void* faiss::gpu::StandardGpuResourcesImpl::allocMemory(const AllocRequest&) "
    "at faiss/gpu/StandardGpuResources.cpp:530: StandardGpuResources: alloc fail type FlatData dev "
    "0 space Device stream 0x7f size 8192000000 bytes (cudaMalloc error out of memory [2])\n"
)


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(28, "No space left on device", "a.json"), r"'a.json'; make room, then"),
        (OSError(30, "Read-only file system", "a.json"), r"Read-only file system: 'a.json'$"),
        (MemoryError("Unable to allocate 7 GiB"), r"Unable to allocate 7 GiB; lower a × b, or set"),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has x."),
            r"CUDA out of memory. Tried to allocate 2.00 GiB; lower a × b, or set device.precision",
        ),
        (RuntimeError(FAISS), r"GPU \(device.name: cpu searches on the CPU\); lower a × b, or set"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you"), r"memory: you; lower"),
    ],
    ids=["disk", "read-only", "numpy", "GPU", "faiss", "torch"],
)
def test_too_little_room_is_one_line_that_says_what_helps(error: Exception, line: str) -> None:
    with (
        pytest.raises(SystemExit, match=r"^error in train: .*" + line),
        run_stage("train", "a × b"),
    ):
        raise error


def test_another_error_at_run_time_keeps_its_traceback() -> None:
    with pytest.raises(RuntimeError), run_stage("train"):
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")


# Other processes


def test_two_processes_that_save_the_same_file_do_not_meet(tmp_path: Path) -> None:
    code = """if True:
        import sys
        from pathlib import Path
        import torch
        from stages.parts.run.files import write_text
        from stages.parts.run.tensors import save_tensors
        print("ready", flush=True)
        sys.stdin.readline()
        for number in range(60):
            save_tensors(Path("state"), {"w": torch.full((10_000,), float(number))}, number)
            write_text(Path("text"), "x" * 10_000)
    """
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", code],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    for process in processes:
        _, said = process.communicate(timeout=100)
        assert (process.returncode, said) == (0, "")
    tensors, number = load_tensors(tmp_path / "state")
    assert tensors["w"].unique().tolist() == [number]
    assert {path.name for path in tmp_path.iterdir()} == {"state", "text"}


def test_what_is_written_leaves_no_file_open(tmp_path: Path) -> None:
    """A training writes a checkpoint in each of thousands of epochs."""
    before = os.listdir("/proc/self/fd")
    for _ in range(3):
        with whole_folder(tmp_path / "a") as part:
            (part / "x").write_text("1")
    assert os.listdir("/proc/self/fd") == before


def test_what_a_process_writes_now_is_not_taken_for_what_a_killed_one_left(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "a[1]") as part:
        remove_parts(tmp_path / "a[1]")
        assert part.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["a[1]"]


def test_a_reader_that_stops_early_ends_a_stage_without_a_traceback(tmp_path: Path) -> None:
    """As `python -m stages.synthesize | head -0`."""
    write_parameters(tmp_path, {"scale": "paper"})
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "stages.synthesize"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


LEFTOVERS = (
    ".a.py.swp",
    "a.py~",
    ".#a.py",
    "#a.py#",
    "a.py.orig",
    "a.py.rej",
    ".a.json.k3x9_2ab.part/a.json",
    "__pycache__/a.cpython-311.pyc",
    ".ipynb_checkpoints/a.ipynb",
    ".DS_Store",
    "._a.py",
    ".directory",
    ".nfs000000001",
    "Thumbs.db",
    "desktop.ini",
    ".idea/workspace.xml",
    ".vscode/settings.json",
)


def test_what_editors_and_systems_leave_in_a_folder_reruns_no_stage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DVC_SITE_CACHE_DIR", str(tmp_path / "site"))
    monkeypatch.chdir(tmp_path)
    for name in ("code/deep/a.py", ".dvc/config"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    shutil.copy(ROOT / ".dvcignore", tmp_path)
    Path(".dvc/config").write_text("[core]\n    no_scm = true\n    analytics = false\n")
    Path("dvc.yaml").write_text("stages: {a: {cmd: touch out, deps: [code], outs: [out]}}\n")
    with Repo() as repository:
        repository.reproduce()
        for name in LEFTOVERS:
            path = Path("code/deep", name)
            path.parent.mkdir(exist_ok=True)
            path.write_text("left")
        assert repository.status() == {}
        Path("code/deep/b.py").touch()
        assert set(repository.status()) == {"a"}
