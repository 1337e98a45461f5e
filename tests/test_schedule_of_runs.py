"""Which run of a comparison is next when several run at once."""

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from experiments.plans import PLANS
from experiments.runs import Run, runs
from experiments.schedule import default_jobs, next_run, shared_parts
from tests.builders import ROOT, TREE

STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]


def planned(name: str = "ablation", seeds: int = 2) -> list[Run]:
    return runs(name, PLANS[name], range(seeds), (), TREE)


@given(st.integers(1, 5), st.lists(st.integers(0, 10), min_size=60, max_size=60))
def test_every_run_starts_once_and_nothing_shared_is_computed_twice_at_once(
    jobs: int, ends: list[int]
) -> None:
    """A machine that ends one of its runs at each step, whichever `ends` says."""
    waiting, shared = planned(), {}
    shared = {run.name: shared_parts(run.tree, STAGES) for run in waiting}
    names = [run.name for run in waiting]
    known: set[str] = set()
    on: list[str] = []
    started: list[str] = []
    for choice in ends:
        while len(on) < jobs:
            running = [part for name in on for part in shared[name]]
            position = next_run(waiting, shared, known, running)
            if position is None:
                break
            name = waiting.pop(position).name
            on.append(name)
            started.append(name)
            computing = [part for each in on for part in shared[each] if part not in known]
            assert len(set(computing)) == len(computing)
        if on:
            known |= {*shared[on.pop(choice % len(on))]}
    assert sorted(started) == sorted(names)


def test_one_job_keeps_the_order() -> None:
    waiting = planned()
    shared = {run.name: shared_parts(run.tree, STAGES) for run in waiting}
    assert next_run(waiting, shared, set(), []) == 0


def changed(**leaves: Any) -> dict[str, Any]:
    tree = copy.deepcopy(TREE)
    for name, value in leaves.items():
        section, leaf = name.split("__")
        tree[section][leaf] = value
    return tree


@pytest.mark.parametrize(
    ("leaves", "is_shared"),
    [
        ({"otla__delta": 5.0}, True),
        ({"den__enabled": False, "train__mixture": 0.8, "evaluate__trials": 1}, True),
        ({"spcl__mixture": 0.5}, False),
        ({"train__setting": "supervised"}, False),
        ({"synthesize__unpaired": 0.5}, False),
    ],
    ids=str,
)
def test_what_is_shared_is_what_the_stages_before_train_read(
    leaves: dict[str, Any], is_shared: bool
) -> None:
    same = shared_parts(changed(**leaves), STAGES)[1] == shared_parts(TREE, STAGES)[1]
    assert same == is_shared


def test_a_run_for_each_thread_of_the_machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    none, gpu = tmp_path / "none", tmp_path / "nvidia0"
    gpu.touch()
    assert default_jobs(changed(device__threads=2), none) == 4
    assert default_jobs(changed(device__threads=16), none) == 1
    assert default_jobs(changed(device__threads=2), gpu) == 1
    assert default_jobs(changed(device__threads=2, device__name="cpu"), gpu) == 4
    assert default_jobs(changed(device__name="cuda"), none) == 1
