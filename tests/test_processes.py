"""One stage in several processes: the same bytes, and what happens when one of them dies."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch

from stages.parts.run import processes
from stages.parts.run.stage import InputError
from stages.parts.run.world import ALONE, World, divided, gather_rows, own
from tests import tiny
from tests.builders import ROOT, write_parameters

# Everything that processes divide: both phases of SpCL, clusters, both kinds of predictions.
CHANGES = {
    "device.shards": 2,
    "spcl.batch": 16,
    "spcl.statistics_group": 4,
    "train.setting": "unsupervised",
    "train.images": 4,
    "train.epochs": 3,
    "otla.rows": "clusters",
    "clusters.radius": 0.7,
    "evaluate.flip": True,
}
PROTOTYPES = CHANGES | {
    "train.objective": "prototypes",
    "prototypes.views": 2,
    "prototypes.own_epochs": 1,
    "network.two_stream": True,
    "train.selection": "validation",
}
RESULTS = ("data/labels", "data/rankings", "models", "metrics")


# Shares


def test_shares_are_consecutive_and_of_like_size() -> None:
    for count in range(20):
        for size in (1, 2, 3, 8):
            shares = [own(count, World(rank, size)) for rank in range(size)]
            assert [thing for share in shares for thing in share] == list(range(count))
            lengths = [len(share) for share in shares]
            assert max(lengths) - min(lengths) <= 1


def test_alone_everything_is_computed_here() -> None:
    rows = torch.arange(6.0)[:, None].requires_grad_()
    assert torch.equal(divided(lambda part: rows.detach()[part], 6, 4, ALONE), rows)
    assert not gather_rows(rows, [6], ALONE).requires_grad


EXCHANGE = """if True:
    import sys
    import numpy as np
    import torch
    from stages.parts.clustering import neighbours
    from stages.parts.run import world as w
    world = w.open_world()
    assert w.open_world() == world and world.is_first == (world.rank == 0)
    rank, size = world
    # rows of unlike number, also none
    counts = [0] + [3] * (size - 1)
    rows = torch.full((counts[rank], 2), float(rank))
    expected = torch.tensor([[float(r)] * 2 for r in range(size) for _ in range(counts[r])])
    assert torch.equal(w.gather_rows(rows, counts, world), expected)
    # batches of 3 among all, and fewer batches than processes
    numbers = torch.arange(14.0)[:, None]
    for count in (14, 3, 0):
        found = w.divided(lambda part: numbers[:count][part], count, 3, world)
        assert torch.equal(found, numbers[:count]), (count, found)
    # queries of a search, in blocks of 4, each of which knows nothing of the others
    rows = torch.nn.functional.normalize(torch.rand(61, 5, generator=torch.Generator()), dim=1)
    neighbours.PRODUCTS = 4 * len(rows)
    searched = []
    def divide(rows, count, block):
        return w.divided(lambda part: searched.append(part) or rows(part), count, block, world)
    for modality in (None, np.arange(61) % 2):
        expected = neighbours.nearest_lists(rows.numpy(), 9, 2, modality)
        found = neighbours.nearest_lists(rows.numpy(), 9, 2, modality, divide=divide)
        assert all((one == two).all() for one, two in zip(found, expected))
    assert max(part.stop - part.start for part in searched) <= 61 / size + 4
    # a tree of sums, over more than one chunk
    w.CHUNK = 7
    gradients = [torch.rand(4, 3, generator=torch.Generator().manual_seed(r)) for r in range(size)]
    expected = gradients
    while len(expected) > 1:
        expected = [one + two for one, two in zip(expected[0::2], expected[1::2])]
    scalar, total = w.sum_gradients([torch.tensor(1.0), gradients[rank]], world)
    assert float(scalar) == size and torch.equal(total, expected[0])
    # what the first process has, strided and whole
    value = torch.full((2, 3), rank).T
    w.from_first({"value": value}, world)
    assert (value == 0).all()
    assert w.facts_from_first({"a": ["\\u4e2d", rank]}, world) == {"a": ["\\u4e2d", 0]}
    assert w.facts_from_first(None, world) is None
    given = {"b": torch.ones(2, dtype=torch.int64), "c": torch.tensor(True)} if rank == 0 else None
    found = w.tensors_from_first(given, world)
    assert sorted(found) == ["b", "c"] and found["b"].sum() == 2 and found["c"].dtype == torch.bool
    w.close_world()
"""


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 4])
def test_what_processes_exchange(tmp_path: Path, size: int) -> None:
    place = {"WORLD_SIZE": str(size), "MASTER_ADDR": "localhost", "MASTER_PORT": str(_free_port())}
    started = [
        subprocess.Popen(
            [sys.executable, "-c", EXCHANGE],
            cwd=tmp_path,
            env=os.environ | {"PYTHONPATH": str(ROOT), "RANK": str(rank)} | place,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(size)
    ]
    for process in started:
        _, complaint = process.communicate(timeout=120)
        assert process.returncode == 0, complaint


def _free_port() -> int:
    import socket

    with socket.socket() as free:
        free.bind(("localhost", 0))
        return int(free.getsockname()[1])


# Which processes


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "²"])
def test_a_number_of_processes_is_one(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    monkeypatch.setenv(processes.PROCESSES, text)
    with pytest.raises(InputError, match="expected a number of processes"):
        processes.run(lambda: None)


def test_by_default_a_stage_is_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (processes.PROCESSES, processes.TORCHRUN, "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    seen = []
    processes.run(lambda: seen.append(os.getpid()))
    assert seen == [os.getpid()]


def test_what_ends_one_of_several_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of another process is one line; an error of its own is left as it is."""
    waited: list[float] = []
    monkeypatch.setattr(processes.time, "sleep", waited.append)

    def lost() -> None:
        raise RuntimeError("[gloo/transport/tcp/pair.cc] Connection closed by peer")

    def broken() -> None:
        raise RuntimeError("sizes do not match")

    with pytest.raises(InputError, match="another process has ended: "):
        processes._run_one(lost)
    assert waited == [processes.PATIENCE]
    with pytest.raises(RuntimeError, match="sizes do not match"):
        processes._run_one(broken)


# Whole stages


def prepare(folder: Path, changes: dict[str, object]) -> None:
    write_parameters(folder, tiny.SMALL | changes)
    (folder / "dvc.yaml").write_bytes((ROOT / "dvc.yaml").read_bytes())
    (folder / "stages").symlink_to(ROOT / "stages")  # whose code the checkpoints stand for
    here = Path.cwd()
    os.chdir(folder)
    try:
        tiny.write_images()
    finally:
        os.chdir(here)


def start(folder: Path, stage: str, count: int) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", f"stages.{stage}"],
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(ROOT), processes.PROCESSES: str(count)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def training(folder: Path) -> tuple[subprocess.Popen[str], list[psutil.Process]]:
    """`train` in two processes, which have finished an epoch; and all processes below it."""
    finish(folder, "pseudo_label", 1)
    process = start(folder, "train", 2)
    while not list(folder.glob(".ckpt/train-*.safetensors")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    return process, psutil.Process(process.pid).children(recursive=True)


def finish(folder: Path, stage: str, count: int) -> str:
    process = start(folder, stage, count)
    said, complaint = process.communicate(timeout=300)
    assert (process.returncode, complaint) == (0, ""), complaint
    return said


def results(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for top in RESULTS
        for path in sorted((folder / top).rglob("*"))
        if path.is_file()
    }


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one process."""
    folder = tmp_path_factory.mktemp("alone")
    prepare(folder, CHANGES)
    for stage in tiny.STAGES:
        finish(folder, stage, 1)
    return folder


@pytest.mark.slow
def test_two_processes_write_the_bytes_of_one(alone: Path, tmp_path: Path) -> None:
    prepare(tmp_path, CHANGES)
    for stage in tiny.STAGES:
        said = finish(tmp_path, stage, 2)
        if stage == "train":
            assert said.count("train: epoch   3/3") == 1  # one process speaks
    assert results(tmp_path) == results(alone)


@pytest.mark.slow
def test_prototypes_in_two_processes(tmp_path: Path) -> None:
    found = []
    for count in (1, 2):
        folder = tmp_path / str(count)
        folder.mkdir()
        prepare(folder, PROTOTYPES)
        finish(folder, "pseudo_label", 1)
        finish(folder, "train", count)
        found.append(results(folder))
    assert found[0] == found[1]


@pytest.mark.slow
def test_a_dead_process_ends_all_and_the_next_run_goes_on(alone: Path, tmp_path: Path) -> None:
    prepare(tmp_path, CHANGES)
    process, children = training(tmp_path)
    (last,) = [each for each in children if each.environ().get("RANK") == "1"]
    last.send_signal(signal.SIGKILL)
    _, complaint = process.communicate(timeout=30)
    assert process.returncode == 1
    assert complaint.splitlines() == [
        "error in train: process 1 ended by SIGKILL, so the others were ended; the same command "
        "goes on from what is finished"
    ]
    assert not [each for each in children if each.is_running() and each.status() != "zombie"]
    assert "going on after epoch" in finish(tmp_path, "train", 1)
    for stage in list(tiny.STAGES)[2:]:
        finish(tmp_path, stage, 1)
    assert results(tmp_path) == results(alone)


@pytest.mark.slow
def test_a_signal_ends_all_processes_in_one_line(alone: Path, tmp_path: Path) -> None:
    prepare(tmp_path, CHANGES | {"train.epochs": 60})
    process, children = training(tmp_path)
    process.send_signal(signal.SIGTERM)
    _, complaint = process.communicate(timeout=10)
    assert process.returncode == 143
    line = "stopped by SIGTERM; the same command goes on from what is finished"
    assert complaint == f"\n{line}\n"
    assert not [each for each in children if each.is_running() and each.status() != "zombie"]


@pytest.mark.slow
def test_what_all_processes_refuse_is_said_once(alone: Path, tmp_path: Path) -> None:
    prepare(tmp_path, CHANGES | {"device.shards": 1})
    process = start(tmp_path, "pseudo_label", 2)
    _, complaint = process.communicate(timeout=60)
    assert process.returncode == 1
    assert len(complaint.splitlines()) == 1
    assert "device.shards: 1, but 2 processes were started" in complaint
