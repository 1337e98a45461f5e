"""Seeds, devices, and what a stage leaves behind: whole files, checkpoints, one-line errors."""

import importlib.util
import json
import os
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pandas as pd
import pytest
import torch

from stages.parts.run import checkpoint, console, files, seeds
from stages.parts.run import device as devices
from stages.parts.run.checkpoint import (
    Checkpoint,
    delete_finished,
    fingerprint,
    optimizer_tensors,
    parameters,
    restore_optimizer,
)
from stages.parts.run.console import busy, message, progress
from stages.parts.run.device import described, open_device, resolved, uses_bfloat16
from stages.parts.run.files import (
    append_line,
    file_hash,
    read_json,
    resolve,
    rounded,
    whole_folder,
    write_csv,
    write_json,
    write_text,
)
from stages.parts.run.rendered import is_rendered
from stages.parts.run.settings import Device
from stages.parts.run.stage import InputError, run_stage
from stages.parts.run.tensors import load_tensors, save_tensors
from tests.builders import ROOT


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(checkpoint, "CHECKPOINTS", Path(".ckpt"))
    return tmp_path


# Seeds


def test_seeds_are_the_same_on_every_machine():
    """The first 63 bits of a SHA-256, so these numbers may never change."""
    assert seeds.derive(0) == 3456079177858693020
    assert seeds.derive(0, "train", "erase") == 619103335577136597
    assert seeds.derive(1, "train", 7) == 7276499718449660605


def test_every_purpose_has_its_own_stream():
    purposes = [(), ("train",), ("train", 1), ("train", 11), ("train", "1", "1"), ("labels",)]
    found = {seeds.derive(seed, *purpose) for seed in (0, 1, 2) for purpose in purposes}
    assert len(found) == 3 * len(purposes)
    assert all(0 <= number < 2**63 for number in found)


def test_generators_follow_seed_and_purpose():
    draws = [
        torch.rand(4, generator=seeds.generator(*given))
        for given in ((1, "a"), (1, "a"), (2, "a"), (1, "b"))
    ]
    assert torch.equal(draws[0], draws[1])
    assert not torch.equal(draws[0], draws[2])
    assert not torch.equal(draws[0], draws[3])
    assert seeds.generator(1, "a").device.type == "cpu"
    again = [
        seeds.numpy_generator(*given).random(4).tolist() for given in ((1, "a"), (1, "a"), (1, "b"))
    ]
    assert again[0] == again[1] != again[2]


# Devices


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def device(name: str, threads: int = 1, precision: str = "auto") -> torch.device:
    """`open_device` with these values of the section `device`."""
    return open_device(section(name, threads, precision))


def section(name: str, threads: int = 1, precision: str = "auto") -> Device:
    return Device(name, precision, threads, shards=1, numerics="portable")


@pytest.fixture
def kernels(monkeypatch, tmp_path):
    """Two pretended GPUs; the kernels that they take are put back."""
    convolution, product = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    before = convolution.fp32_precision, product.fp32_precision
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: current.append(device.index))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda number: SimpleNamespace(uuid=f"GPU-{number}")
    )
    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.setattr(torch.utils.deterministic, "fill_uninitialized_memory", True)
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", "")
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG")
    monkeypatch.setattr(devices, "LOCKS", tmp_path / "locks")
    current: list[int] = []
    yield current
    torch.use_deterministic_algorithms(False)
    convolution.fp32_precision, product.fp32_precision = before


@pytest.fixture
def no_gpu(monkeypatch, tmp_path):
    """A machine on which torch can use no GPU; where it would show that it has one."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(devices, "GPU", tmp_path / "nvidia0")
    monkeypatch.setattr(devices, "DRIVER", tmp_path / "version")
    return devices


def test_the_number_of_threads_is_the_parameter(threads):
    for count in (1, 2):
        assert device("cpu", count) == torch.device("cpu")
        assert torch.get_num_threads() == count


def test_auto_is_the_gpu_where_there_is_one(threads, kernels, monkeypatch):
    assert device("auto") == torch.device("cuda:0")
    assert kernels == [0]
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert device("auto").type == "cpu"


def test_on_a_gpu_kernels_are_deterministic_and_without_tf32(threads, kernels):
    device("cuda")
    assert torch.are_deterministic_algorithms_enabled()
    assert not torch.backends.cudnn.benchmark
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"
    assert not torch.utils.deterministic.fill_uninitialized_memory


def test_each_of_several_processes_has_its_gpu(threads, kernels, monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for number in (0, 1):
        monkeypatch.setenv("LOCAL_RANK", str(number))
        assert device("cuda") == torch.device("cuda", number)
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(ValueError, match="process 3 on this machine, but torch sees 2 GPUs"):
        device("auto")


def test_a_workspace_that_is_set_stays(threads, kernels, monkeypatch):
    monkeypatch.setenv("CUBLAS_WORKSPACE_CONFIG", ":16:8")
    device("cuda")
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_tf32_is_for_convolutions_and_on_demand(threads, kernels):
    device("cuda", precision="tf32")
    assert torch.backends.cudnn.conv.fp32_precision == "tf32"
    assert torch.backends.cuda.matmul.fp32_precision == "ieee"


def test_on_the_cpu_nothing_is_switched(threads, kernels):
    device("cpu")
    assert not torch.are_deterministic_algorithms_enabled()
    assert torch.backends.cudnn.benchmark
    assert not kernels


def test_a_gpu_that_is_not_there_is_one_line(threads, no_gpu):
    with pytest.raises(ValueError, match=r"name: 'cuda', but torch .* \(CUDA .*\) can use no GPU$"):
        device("cuda")


OLD_DRIVER = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.05  Sat Aug 19 01:15:15 UTC\n"


def test_auto_warns_of_a_gpu_that_torch_cannot_use(threads, no_gpu, monkeypatch, capsys):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    device("auto")
    assert capsys.readouterr().out == ""
    no_gpu.GPU.touch()
    device("auto")
    assert capsys.readouterr().out.startswith(f"WARNING: torch {torch.__version__} (CUDA ")
    no_gpu.DRIVER.write_text(OLD_DRIVER)
    device("auto")
    assert capsys.readouterr().out.endswith(
        "can use no GPU with the NVIDIA driver 535.104.05 (CUDA 13 needs 580 or newer); "
        "the CPU computes\n"
    )
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    device("auto")
    device("cpu")
    assert capsys.readouterr().out == ""


def test_which_nvidia_driver_is_here(no_gpu):
    text = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build\n"
    no_gpu.DRIVER.write_text(text)
    assert " driver 580.95.05 (" in no_gpu._without_gpu()
    no_gpu.DRIVER.write_text("")
    assert " driver of an unknown version (" in no_gpu._without_gpu()


@pytest.fixture
def asks_for_a_free_gpu(kernels, monkeypatch):
    """This process takes a free one of the pretended GPUs, and lets it go at the end."""
    monkeypatch.setenv(devices.CHOICE, "free")
    before = set(os.listdir("/proc/self/fd"))
    devices._free_gpu.cache_clear()
    yield kernels
    devices._free_gpu.cache_clear()
    for number in set(os.listdir("/proc/self/fd")) - before:
        with suppress(OSError):
            if "/locks/" in os.readlink(f"/proc/self/fd/{number}"):
                os.close(int(number))


HOLDER = """if True:
    import sys
    from pathlib import Path
    from stages.parts.run import device
    device.LOCKS = Path(sys.argv[1])
    assert device._hold(sys.argv[2])
    print("held", flush=True)
    sys.stdin.readline()
"""


def other_process(number: int) -> subprocess.Popen[str]:
    """A process that holds a pretended GPU until it gets a line."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(devices.LOCKS), f"GPU-{number}"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert process.stdout
    assert process.stdout.readline() == "held\n"
    return process


def test_a_process_takes_a_free_gpu_and_keeps_it(threads, asks_for_a_free_gpu):
    devices.LOCKS.mkdir()
    other = other_process(0)
    try:
        assert device("auto") == torch.device("cuda:1")
    finally:
        other.kill()
        other.wait()
    assert device("auto") == torch.device("cuda:1")
    assert asks_for_a_free_gpu == [1, 1]


def test_a_process_waits_until_a_gpu_is_free(threads, asks_for_a_free_gpu, monkeypatch, capsys):
    devices.LOCKS.mkdir()
    others = [other_process(number) for number in (0, 1)]
    waited = []

    def sleep(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            others[1].kill()  # its lock goes with it
            others[1].wait()

    monkeypatch.setattr(devices.time, "sleep", sleep)
    try:
        assert device("cuda") == torch.device("cuda:1")
    finally:
        for other in others:
            other.kill()
            other.wait()
    assert waited == [1, 1]  # seconds
    assert capsys.readouterr().out == "waiting for a free GPU: other processes hold all 2\n"


def test_nobody_else_may_hold_our_gpus(threads, asks_for_a_free_gpu):
    assert device("cuda") == torch.device("cuda:0")
    assert devices.LOCKS.stat().st_mode & 0o777 == 0o700


def test_another_choice_of_a_gpu_is_refused(threads, kernels, monkeypatch):
    monkeypatch.setenv(devices.CHOICE, "1")
    with pytest.raises(ValueError, match="VIREID_GPU=1 in the environment, expected free or"):
        device("cuda")


def test_a_stage_says_what_it_runs_on(monkeypatch):
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: f"GPU {device.index}")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: True)
    cpu, gpu = torch.device("cpu"), torch.device("cuda:1")
    lines = [described(each, resolved(section("auto", 2), each)) for each in (cpu, gpu)]
    assert lines == ["running on the CPU (threads: 2), float32", "running on GPU 1, bfloat16"]


def test_a_state_of_the_cpu_is_not_one_of_a_gpu(monkeypatch):
    """Both were asked for by `auto`."""
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    cpu, gpu = (
        parameters([resolved(section("auto"), torch.device(name))], seed=0)
        for name in ("cpu", "cuda:1")
    )
    assert fingerprint(cpu, []) != fingerprint(gpu, [])
    Checkpoint("train", fingerprint(cpu, []), cpu).save({}, {})
    (line,) = Checkpoint("train", fingerprint(gpu, []), gpu).refused()
    assert line.endswith(": device.name cpu there, cuda asked for")


def test_bfloat16_is_for_gpus_that_have_it_or_on_demand(monkeypatch):
    cpu, gpu = torch.device("cpu"), torch.device("cuda")
    for has in (True, False):
        monkeypatch.setattr(
            torch.cuda, "is_bf16_supported", lambda including_emulation, has=has: has
        )
        assert uses_bfloat16(gpu, "auto") == has
        assert not uses_bfloat16(cpu, "auto")
        assert uses_bfloat16(cpu, "bfloat16")
        assert not uses_bfloat16(gpu, "float32")


# Files


def test_text_is_written_whole_or_not_at_all(here, monkeypatch):
    path = here / "deep" / "file.txt"
    write_text(path, "one\n")
    assert path.read_text() == "one\n"

    def broken(*_: object) -> None:
        raise OSError("no space left")

    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", broken)
        with pytest.raises(OSError, match="no space"):
            write_text(path, "two\n")
    assert path.read_text() == "one\n"
    write_text(path, "three\n")
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]


def test_json_keeps_order_and_comes_back(here):
    tree = {"b": 1, "a": [0.5, None, {"é": "ü"}]}
    write_json(here / "a.json", tree)
    assert read_json(here / "a.json") == tree
    assert list(read_json(here / "a.json")) == ["b", "a"]
    assert (here / "a.json").read_text().endswith("}\n")
    with pytest.raises(FileNotFoundError, match=r"missing\.json"):
        read_json(here / "missing.json")


def test_lines_are_added(here):
    for epoch in (1, 2):
        append_line(here / "logs" / "a.jsonl", {"epoch": epoch})
    lines = (here / "logs" / "a.jsonl").read_text().splitlines()
    assert [json.loads(line)["epoch"] for line in lines] == [1, 2]


def test_a_log_can_begin_anew(here):
    for epoch in (1, 2, 1):
        append_line(here / "a.jsonl", {"epoch": epoch}, anew=epoch == 1)
    assert (here / "a.jsonl").read_text() == '{"epoch": 1}\n'


def test_floats_of_a_table_have_the_digits_that_are_asked_for(here):
    table = pd.DataFrame({"epoch": [1, 2], "share": [0.125, 1 / 3]})
    write_csv(here / "a.csv", table, digits=2)
    assert (here / "a.csv").read_bytes() == b"epoch,share\n1,0.12\n2,0.33\n"
    write_csv(here / "a.csv", table)
    assert (here / "a.csv").read_text() == f"epoch,share\n1,0.125\n2,{1 / 3!r}\n"


def test_what_is_no_json_is_named(here):
    (here / "bad.json").write_text("{")
    with pytest.raises(ValueError, match=r"bad\.json is not a JSON file"):
        read_json(here / "bad.json")


def test_rounding_reaches_every_float_and_no_whole_number():
    tree = {
        "a": 0.123456,
        "b": [1.00004, (2.5, 3)],
        "c": {"d": 123456789, "e": None, "f": True, "g": "0.123456"},
    }
    wanted = {
        "a": 0.1235,
        "b": [1.0, [2.5, 3]],
        "c": {"d": 123456789, "e": None, "f": True, "g": "0.123456"},
    }
    assert rounded(tree) == wanted
    assert rounded(0.123456, 2) == 0.12


def test_a_folder_takes_its_place_when_all_is_written(here):
    target = here / "data" / "out"
    for content in ("one", "two"):
        with whole_folder(target) as folder:
            assert folder != target
            (folder / content).write_text(content)
        assert [path.name for path in target.iterdir()] == [content]
    assert [path.name for path in target.parent.iterdir()] == ["out"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_folder_that_was_not_finished_leaves_the_old_one(here, error):
    target = here / "out"
    with whole_folder(target) as folder:
        (folder / "old").write_text("old")
    with pytest.raises(error), whole_folder(target) as folder:  # noqa: PT012
        (folder / "new").write_text("new")
        raise error
    assert [path.name for path in target.iterdir()] == ["old"]
    assert [path.name for path in here.iterdir()] == ["out"]


def test_a_folder_that_a_killed_run_left_half_written_is_no_obstacle(here):
    (here / ".out.killed.part").mkdir()
    (here / ".out.killed.part" / "half").write_text("half")
    with whole_folder(here / "out") as folder:
        assert list(folder.iterdir()) == []
    assert [path.name for path in here.iterdir()] == ["out"]


# Tensors


def test_tensors_and_facts_come_back_and_equal_content_is_equal_bytes(here):
    tensors = {"b": torch.arange(6.0).view(2, 3), "a": torch.tensor([1, 2]), "c": torch.tensor(0.5)}
    facts = {"epoch": 3, "rate": 0.1, "history": [None, 1e-7]}
    save_tensors(here / "x" / "a.safetensors", tensors, facts)
    back, told = load_tensors(here / "x" / "a.safetensors")
    assert told == facts
    assert back.keys() == tensors.keys()
    assert all(
        torch.equal(back[name], tensors[name]) and back[name].dtype == tensors[name].dtype
        for name in tensors
    )
    other_way = {
        name: tensors[name].t().contiguous().t() if name == "b" else tensors[name] for name in "cba"
    }
    save_tensors(here / "x" / "b.safetensors", other_way, facts)
    assert (here / "x" / "a.safetensors").read_bytes() == (
        here / "x" / "b.safetensors"
    ).read_bytes()
    assert sorted(path.name for path in (here / "x").iterdir()) == [
        "a.safetensors",
        "b.safetensors",
    ]


def test_parameters_and_tensors_without_facts_can_be_stored(here):
    save_tensors(here / "a", {"w": torch.nn.Parameter(torch.ones(2))})
    back, facts = load_tensors(here / "a")
    assert (back["w"].tolist(), back["w"].requires_grad, facts) == ([1.0, 1.0], False, None)


def test_a_file_without_tensors_is_one_line(here):
    with pytest.raises(InputError, match=r"gone\.safetensors is not here"):
        load_tensors(here / "gone.safetensors")
    (here / "bad.safetensors").write_bytes(b"\x00" * 40)
    with pytest.raises(InputError, match=r"bad\.safetensors is not a readable safetensors file"):
        load_tensors(here / "bad.safetensors")
    save_tensors(here / "cut.safetensors", {"w": torch.ones(100)})
    (here / "cut.safetensors").write_bytes((here / "cut.safetensors").read_bytes()[:-4])
    with pytest.raises(InputError, match=r"cut\.safetensors is not a readable safetensors file"):
        load_tensors(here / "cut.safetensors")


# Checkpoints


@dataclass(frozen=True)
class One:
    """Settings."""

    value: float
    names: tuple[str, ...] = ("a", "b")


@dataclass(frozen=True)
class Two:
    """Settings of another section with the same leaf."""

    value: float


def test_a_fingerprint_changes_with_every_setting_file_and_seed(here):
    (here / "code" / "deep").mkdir(parents=True)
    (here / "code" / "deep" / "a.py").write_text("a = 1\n")
    (here / "table.csv").write_text("row\n")
    paths = [here / "table.csv", here / "code"]
    one = One(0.5)

    def key(settings: list[object], seed: int = 1, paths: list[Path] = paths) -> str:
        return fingerprint(parameters(settings, seed), paths)

    first = key([one])
    assert first == key([one])
    assert (len(first), int(first, 16) >= 0) == (16, True)
    others = [
        key([one], seed=2),
        key([replace(one, value=0.5000001)]),
        key([replace(one, names=("a",))]),
        key([Two(0.5)]),
        key([one, Two(0.5)]),
        key([one], paths=paths[:1]),
    ]
    (here / "code" / "notes.txt").write_text("not code")
    (here / "code" / ".#a.py").symlink_to("somebody@a.machine.1234")  # Emacs, of an open file
    assert key([one]) == first
    (here / "code" / "deep" / "a.py").write_text("a = 2\n")
    others.append(key([one]))
    (here / "table.csv").write_text("row\n0\n")
    others.append(key([one]))
    assert len({first, *others}) == len(others) + 1
    with pytest.raises(FileNotFoundError, match="gone"):
        fingerprint({}, [here / "gone"])


def test_a_checkpoint_is_kept_by_key_until_it_is_deleted():
    one, other = Checkpoint("train", "aa"), Checkpoint("train", "bb")
    assert one.load() is None
    one.save({"w": torch.ones(2)}, {"epoch": 1})
    one.save({"w": torch.zeros(2)}, {"epoch": 2})
    tensors, facts = Checkpoint("train", "aa").load()
    assert (tensors["w"].tolist(), facts) == ([0.0, 0.0], {"epoch": 2})
    assert other.load() is None
    assert one.path == Path(".ckpt/train-aa.safetensors")
    one.finish()
    one.finish()
    assert one.load() is None


def test_dvc_s_stage_keeps_a_finished_state_until_its_results_are_recorded(monkeypatch):
    """DVC deletes results that it has not recorded, and runs the stage again."""
    monkeypatch.setenv("DVC_STAGE", "train")
    for _ in range(2):
        Checkpoint("train", "none").finish()
    Checkpoint("train", "aa").save({"w": torch.ones(2)}, {"epoch": 3})
    for _ in range(2):
        Checkpoint("train", "aa").finish()
        assert [path.name for path in Path(".ckpt").iterdir()] == ["train-aa.finished"]
        assert Checkpoint("train", "bb").refused() == []
        assert Checkpoint("train", "aa").load().facts == {"epoch": 3}
    Checkpoint("train", "cc").save({}, {"epoch": 1})
    Checkpoint("train", "aa").finish()
    delete_finished()
    delete_finished()
    assert [path.name for path in Path(".ckpt").iterdir()] == ["train-cc.safetensors"]


def second(module: ModuleType) -> ModuleType:
    """A second copy of a module, imported now."""
    spec = importlib.util.spec_from_file_location("fresh", module.__file__)
    fresh = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(fresh)
    return fresh


def test_checkpoints_lie_in_the_user_s_checkout_when_dvc_runs_in_a_copy(monkeypatch):
    """The variables are read when the module is imported, so a second copy of it is.

    In a comparison DVC_ROOT is its copy, and VIREID_ROOT the user's checkout.
    """
    for variables, wanted in (
        ({"DVC_ROOT": "/user"}, "/user"),
        ({"DVC_ROOT": "/copy", "VIREID_ROOT": "/user"}, "/user"),
        ({}, ""),
    ):
        for name in ("DVC_ROOT", "VIREID_ROOT"):
            monkeypatch.delenv(name, raising=False)
        for name, root in variables.items():
            monkeypatch.setenv(name, root)
        fresh = second(files)
        assert Path(wanted) == fresh.ROOT
        assert fresh.resolve("a/b") == Path(wanted, "a/b")
        assert fresh.resolve("/absolute/path") == Path("/absolute/path")
        assert Path("logs") == fresh.LOGS
        with monkeypatch.context() as patch:
            patch.setattr(files, "ROOT", fresh.ROOT)
            assert Path(wanted, ".ckpt") == second(checkpoint).CHECKPOINTS


def test_a_path_that_is_here_goes_before_the_users_checkout(here, monkeypatch):
    """DVC runs some experiments in a copy; what it made there is meant."""
    monkeypatch.setattr(files, "ROOT", Path("elsewhere"))
    assert resolve("data/synthetic") == Path("elsewhere/data/synthetic")
    Path("data/synthetic").mkdir(parents=True)
    assert resolve("data/synthetic") == Path("data/synthetic")


def test_images_below_the_folder_of_rendered_ones_are_rendered(here):
    for root in ("data/synthetic", "data/synthetic/SYSU-MM01", here / "data/synthetic"):
        assert is_rendered(root)
    for root in ("data", "data/synthetic2", "data/raw"):
        assert not is_rendered(root)


@pytest.mark.parametrize("kind", ["adam", "sgd"])
def test_an_optimiser_goes_on_to_the_same_bits(kind):
    """Three steps, stored, two more; against five in one go. One parameter never had a gradient."""

    def fresh() -> tuple[list[torch.nn.Parameter], torch.optim.Optimizer]:
        generator = torch.Generator().manual_seed(0)
        weights = [torch.nn.Parameter(torch.randn(3, 2, generator=generator)) for _ in range(3)]
        groups = [{"params": weights[:1], "lr": 0.1}, {"params": weights[1:], "lr": 0.01}]
        if kind == "adam":
            return weights, torch.optim.Adam(groups, weight_decay=0.1)
        return weights, torch.optim.SGD(groups, momentum=0.9, lr=0.1)

    def step(
        weights: list[torch.nn.Parameter], optimizer: torch.optim.Optimizer, number: int
    ) -> None:
        optimizer.zero_grad()
        sum(((weight - number) ** 2).sum() for weight in weights[:2]).backward()
        optimizer.step()

    weights, optimizer = fresh()
    for number in range(5):
        step(weights, optimizer, number)
    half, first = fresh()
    for number in range(3):
        step(half, first, number)
    Checkpoint("test", "a").save(optimizer_tensors(first), None)
    again, second = fresh()
    for mine, stored in zip(again, half, strict=True):
        mine.data.copy_(stored)
    restore_optimizer(second, Checkpoint("test", "a").load()[0] | {"network.weight": torch.ones(1)})
    assert [group["lr"] for group in second.param_groups] == [0.1, 0.01]
    for number in (3, 4):
        step(again, second, number)
    assert all(torch.equal(one, other) for one, other in zip(weights, again, strict=True))


# A stage


@pytest.mark.parametrize(
    "error",
    [
        InputError("a\n  b"),
        ValueError("a b"),
        FileNotFoundError("a b"),
        FloatingPointError("a b"),
        PermissionError("a b"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_bad_input_ends_a_stage_in_one_line(error, capsys):
    with pytest.raises(SystemExit) as end, run_stage("train"):
        raise error
    assert end.value.code == "error in train: a b"
    assert capsys.readouterr().err == ""
    assert not Path("logs/train.json").exists()


def test_a_traceback_on_demand(monkeypatch, capsys):
    monkeypatch.setenv("VIREID_TRACEBACK", "1")
    with pytest.raises(SystemExit), run_stage("train"):
        raise InputError("a")
    assert "Traceback" in capsys.readouterr().err


def test_a_fault_of_the_program_keeps_its_traceback():
    with pytest.raises(KeyError), run_stage("train"):
        raise KeyError("a")


def test_a_stage_leaves_its_time_in_the_logs():
    with run_stage("train"):
        pass
    assert set(read_json(Path("logs/train.json"))) == {"seconds"}


def test_progress_is_silent_without_a_terminal_and_gives_every_item(capsys):
    assert list(progress(iter(range(3)), "what", "step", 3)) == [0, 1, 2]
    message("a line")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("a line\n", "")


def test_work_without_steps_says_what_it_is_on_a_terminal_only(capsys, monkeypatch):
    with busy("clustering"):
        pass
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(console.sys.stderr, "isatty", lambda: True)
    with busy("clustering"):
        assert "clustering …" in capsys.readouterr().err


def test_a_hash_is_of_the_bytes(here):
    (here / "a").write_bytes(b"abc")
    assert (
        file_hash(here / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )
