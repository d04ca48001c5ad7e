"""Observations on a GPU."""

from __future__ import annotations

import io
import pickle
from pathlib import Path

import torch

import dmf_fast
from tests.conftest import on_gpu
from tests.problems import make_problem


@on_gpu
def test_the_layout_leaves_the_gpu_with_the_last_observations_there(gpu: str) -> None:
    problem = make_problem((3000, 4, 2000), density=0.1, dtype=torch.float32)
    here = problem.observations().to("cpu")
    before = torch.cuda.memory_allocated()
    there = here.to("cuda")
    held = there.layout()
    assert here.with_values(here.values).to("cuda").layout().buffer is held.buffer
    del there, held
    assert torch.cuda.memory_allocated() == before


@on_gpu
def test_pickled_observations_of_a_gpu_are_read_where_they_are_mapped_to(gpu: str) -> None:
    problem = make_problem((30, 4, 20), weighted=True)
    assert pickle.loads(pickle.dumps(problem.observations())).device.type == "cuda"
    saved = io.BytesIO()
    torch.save(problem.observations(), saved)
    saved.seek(0)
    read = torch.load(saved, map_location="cpu", weights_only=False)
    assert read.device.type == "cpu"
    assert torch.equal(read.values, problem.values.cpu())


@on_gpu
def test_entries_keep_the_callers_order_when_they_move_between_devices(gpu: str) -> None:
    problem = make_problem((300, 5, 400), weighted=True)
    observations = problem.observations()
    observations.layout()
    back = observations.to("cpu")
    back.layout()
    for moved in (observations, back, back.to("cuda")):
        moved.layout()
        assert torch.equal(moved.values.cpu(), problem.values.cpu())
        assert torch.equal(moved.weights.cpu(), problem.weights.cpu())
        assert torch.equal(moved.rows.cpu(), problem.rows.cpu())


@on_gpu
def test_observations_on_a_gpu_are_saved_as_those_of_the_cpu(gpu: str, tmp_path: Path) -> None:
    problem = make_problem((30, 5, 40), weighted=True)
    dmf_fast.save_observations(problem.observations(), tmp_path / "ratings")
    loaded = dmf_fast.load_observations(tmp_path / "ratings")
    assert torch.equal(loaded.values, problem.values.cpu())
