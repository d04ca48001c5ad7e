"""Training in several processes: the same model as in one, even if one of them stops, saves or fails."""

from __future__ import annotations

import shutil
import time
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast import FitOptions, Recording, explain, fit
from dmf_fast.chain import chain_product
from dmf_fast.completion import CompletionOptions, complete_matrix
from dmf_fast.distributed import RowBlocks, initial_factors, starts
from dmf_fast.distributed import row_blocks as module
from dmf_fast.optim import AdaptiveGradientDescent, GroupRMSprop
from dmf_fast.sharding import RowSharding, local_part, whole_tensor
from dmf_fast.training import FitResult
from tests.distributed.processes import run_processes
from tests.distributed.row_problems import BLOCKS, COLUMNS, ROWS, row_blocks

module.LEAST_ENTRIES_PER_COLUMN = 0  # in the processes, too, which import this module

RULES: dict[str, Any] = {
    "sgd": partial(torch.optim.SGD, lr=0.02, momentum=0.9, weight_decay=1e-3),
    "adam": partial(torch.optim.Adam, lr=1e-2),
    "nadam": partial(torch.optim.NAdam, lr=3e-3),
    "group-rmsprop": partial(GroupRMSprop, lr=0.05),
    "adaptive-gd": partial(AdaptiveGradientDescent, lr=0.2, weight_decay=1e-3),
}
RUNS = [
    *[
        ("native", rule, depth)
        for rule in ("sgd", "adam", "group-rmsprop", "adaptive-gd")
        for depth in (2, 3)
    ],
    *[("torch", rule, 3) for rule in RULES],
]
JOBS = {
    "auto": CompletionOptions(hidden=3, validation_fraction=0.2),
    "fast": CompletionOptions(depth=2, hidden=3, optimizer="lbfgs", validation_fraction=0.2),
    "plain": CompletionOptions(
        depth=3,
        hidden=3,
        coordinates="plain",
        optimizer="group-rmsprop",
        lr=0.05,
        init_scale=0.5,
        bias_weight_decay=1e-3,
        weight_decay=1e-4,
    ),
}


def job_options(name: str) -> CompletionOptions:
    job = JOBS[name]
    return replace(job, fit=replace(job.fit, steps=10))


def rows_of_all(model: Any, sharding: RowSharding) -> list[Tensor]:
    """Return all parameters, those of other processes included."""
    parts = [local_part(parameter.detach()) for parameter in model.parameter_list]
    depth = len(model.factors)
    for place in [depth - 1, *([depth] if model.biases else [])]:
        parts[place] = torch.cat(RowSharding(sharding.mesh).gathered([parts[place]]))
    return parts


def trained(
    blocks: RowBlocks, engine: Any, rule: str, depth: int, **options: Any
) -> tuple[FitResult, list[Tensor]]:
    dims = (COLUMNS, *[3] * (depth - 1), BLOCKS * ROWS)
    factors = initial_factors(blocks, dims, 2.0, seed=1)
    train, _ = blocks.split(0.1, seed=0)
    clip = 2.0 if rule == "sgd" else None
    chosen = {"steps": 20, "engine": engine, "gradient_clip": clip} | options
    result = fit(
        factors, train, RULES[rule], FitOptions(**chosen), recording=Recording(every=10, singular_values=2)
    )
    last = torch.cat(RowSharding(blocks.sharding.mesh).gathered([local_part(factors[-1])]))
    return result, [*(local_part(factor) for factor in factors[:-1]), last]


def all_results(mesh: Any = None) -> dict[str, Any]:
    """Return the losses and parameters of every run and job, of blocks held in both ways.

    Four processes on two cores take long for a message: they make fewer runs.
    """
    found, runs, jobs = {}, RUNS, JOBS
    if mesh is not None and mesh.size() > 2:
        runs, jobs = [("native", "adaptive-gd", 3), ("torch", "adam", 3)], {"fast": JOBS["fast"]}
    for reproducible in (False, True):
        blocks = row_blocks(mesh, reproducible=reproducible)
        for engine, rule, depth in runs:
            if reproducible and engine == "torch" and rule != "adam":
                continue  # it is refused
            result, factors = trained(blocks, engine, rule, depth)
            columns = ("train_loss", "gradient_norm", "parameter_norm", "singular_value_2")
            numbers = [result.history[name] for name in columns]
            found[f"{engine} {rule} {depth} {reproducible}"] = (result.engine, numbers, factors)
        for name in jobs:
            completed = complete_matrix(blocks, job_options(name), folds=blocks.folds(0.2, 1, seed=0))
            numbers = [completed.history["train_loss"]]
            parameters = rows_of_all(completed.model, blocks.sharding)
            found[f"{name} {reproducible}"] = (completed.chosen.name, numbers, parameters)
    blocks = row_blocks(mesh, dtype=torch.float32)
    found["float32 twice"] = [trained(blocks, "native", "adaptive-gd", 2)[1] for _ in range(2)]
    return found


def matrix_of(parameters: list[Tensor]) -> list[Tensor]:
    """Return the product of the factors, and the biases."""
    return [
        chain_product([one for one in parameters if one.dim() == 2]),
        *[one for one in parameters if one.dim() == 1],
    ]


@pytest.fixture(scope="module")
def of_one_process() -> dict[str, Any]:
    return all_results()


@pytest.mark.parametrize("count", [2, 4])
def test_any_number_of_processes_trains_the_same_model(count: int, of_one_process: dict[str, Any]) -> None:
    first, *others = run_processes(count, all_results)
    for name, (kind, numbers, parameters) in ((n, v) for n, v in first.items() if n != "float32 twice"):
        expected_kind, expected_numbers, expected_parameters = of_one_process[name]
        assert kind == expected_kind, name
        is_bit_identical = name.endswith("True")
        for own, expected in zip(numbers, expected_numbers, strict=True):
            assert own == pytest.approx(expected, rel=1e-12), name
        for own, expected in zip(parameters, expected_parameters, strict=True):
            assert not is_bit_identical or torch.equal(own, expected), name
        # Singular vectors, where jobs begin, may have other signs: the matrix does not know.
        for own, expected in zip(matrix_of(parameters), matrix_of(expected_parameters), strict=True):
            torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-10)
        for other in others:
            for own, same in zip(parameters, other[name][2], strict=True):
                assert torch.equal(own, same), name
    for once, again in zip(*first["float32 twice"], strict=True):
        assert torch.equal(once, again)


def stopped_by_one(mesh: Any) -> dict[str, Any]:
    """Return at what step and why runs end that only process 1 wants to end."""
    rank, found = mesh.get_local_rank(), {}
    blocks = row_blocks(mesh)
    dims = (COLUMNS, 3, BLOCKS * ROWS)

    def run(engine: Any, **options: Any) -> tuple[int, str]:
        factors = initial_factors(blocks, dims, 2.0, seed=1)
        seconds = options.pop("max_seconds", None)
        chosen = FitOptions(steps=10**7, engine=engine, max_seconds=seconds)
        result = fit(factors, blocks, RULES["sgd"], chosen, recording=Recording(every=10), **options)
        return result.steps, result.stopped_because

    def interrupting(progress: Any) -> bool:
        import signal

        if rank == 1 and progress.step == 20:
            signal.raise_signal(signal.SIGINT)
        return False

    for engine in ("native", "torch"):
        found[f"{engine} callback"] = run(
            engine, callbacks=[lambda progress: rank == 1 and progress.step >= 20]
        )
        found[f"{engine} interrupt"] = run(engine, callbacks=[interrupting] if rank == 1 else [])
        found[f"{engine} seconds"] = run(engine, max_seconds=0.1 if rank == 1 else None)
    return found


def saved_and_resumed(mesh: Any, folder: Path, resumes: bool) -> dict[str, Any]:
    found = {}
    for engine, rule in (("native", "adaptive-gd"), ("torch", "adam"), ("native", "sgd")):
        blocks = row_blocks(mesh, reproducible=True)
        dims = (COLUMNS, 3, BLOCKS * ROWS)
        factors = initial_factors(blocks, dims, 2.0, seed=1)
        train, validation = blocks.split(0.2, seed=0)
        options = FitOptions(steps=20 if resumes else 10, engine=engine)
        result = fit(
            factors,
            train,
            RULES[rule],
            options,
            recording=Recording(every=4),
            validation=validation,
            checkpoint=folder / f"{engine}-{rule}",
            resume=resumes,
        )
        last = torch.cat(RowSharding(mesh).gathered([local_part(factors[-1])]))
        found[f"{engine} {rule}"] = (result.history["train_loss"], result.best_step, last)
    return found


def sharded_columns(mesh: Any, folders: Path) -> tuple[list[Tensor], list[Tensor], str]:
    """Return the factors of a run whose first factor processes share, those of one in which each has all of
    it, and what is said of the first."""
    blocks, found, said = row_blocks(mesh), [], []
    for least in (0, 10**9):
        starts.SHARDED_COLUMNS_FROM = least
        factors = initial_factors(blocks, (COLUMNS, 3, BLOCKS * ROWS), 2.0, seed=1)
        said.append(str(explain(factors, blocks, torch.optim.Adam)))
        options = FitOptions(steps=10, engine="torch", gradient_clip=5.0)
        recording = Recording(every=4, singular_values=3, balancedness=True)
        folder = folders / f"columns-{least}"
        half = replace(options, steps=5)
        fit(factors, blocks, RULES["adam"], half, recording=recording, checkpoint=folder)
        result = fit(
            factors, blocks, RULES["adam"], options, recording=recording, checkpoint=folder, resume=True
        )
        assert result.steps == 10
        names = ("gradient_norm", "parameter_norm", "singular_value_3", "balancedness")
        numbers = torch.tensor([result.history[name] for name in names])
        found.append([numbers, *(whole_tensor(factor.detach()) for factor in factors)])
    return found[0], found[1], said[0]


def several_folds(mesh: Any) -> float | None:
    """Return the error of a job on several folds, whose steps one process makes later than the other."""

    def late(progress: Any) -> None:
        if mesh.get_local_rank() == 1 and progress.step == 0:
            time.sleep(0.1)

    job = job_options("auto")
    job = replace(job, depth=2, recording=Recording(every=10), fit=replace(job.fit, patience=None))
    return complete_matrix(row_blocks(mesh), job, callbacks=[late]).validation_rmse


SAVED_JOBS = {
    "adaptive-gd": CompletionOptions(depth=3, hidden=3),
    "lbfgs": CompletionOptions(depth=2, hidden=3, optimizer="lbfgs"),
    "adam": CompletionOptions(depth=3, hidden=3, optimizer="adam", lr=1e-3),
}


def trained_again(mesh: Any, folder: Path) -> None:
    """Begin a run whose checkpoint is there already, without resuming it."""
    blocks = row_blocks(mesh)
    factors = initial_factors(blocks, (COLUMNS, 3, BLOCKS * ROWS), 2.0, seed=1)
    fit(factors, blocks, RULES["adam"], FitOptions(steps=1), checkpoint=folder / "native-sgd")


def saved_jobs(mesh: Any, folder: Path, resumes: bool) -> dict[str, tuple[int, float]]:
    """Return at which step a job has begun, and its train loss."""
    found = {}
    for name, options in SAVED_JOBS.items():
        engine: Any = "torch" if name == "adam" else "auto"
        steps: list[int] = []

        def seen(progress: Any, steps: list[int] = steps) -> None:
            steps.append(progress.step)

        chosen = replace(options, refit=False, fit=FitOptions(steps=20, patience=50, engine=engine))
        blocks = row_blocks(mesh)
        completed = complete_matrix(
            blocks,
            chosen,
            folds=blocks.folds(0.2, 1, seed=0),
            callbacks=[seen] if resumes else [lambda progress: progress.step >= 10],
            checkpoint=folder / f"job-{name}",
            resume=resumes,
        )
        found[name] = (steps[0] if steps else -1, completed.train_loss)
    return found


def failures(mesh: Any, folder: Path) -> list[str]:
    """Return what every process raises of what one alone sees."""
    found = []

    def fails_in_one() -> int:
        if mesh.get_local_rank() == 1:
            raise ValueError("the disk of this machine is gone")
        return 0

    for action in (
        lambda: RowSharding(mesh).together(fails_in_one),
        lambda: RowBlocks.open(folder / "nothing", mesh),
        lambda: RowBlocks([*row_blocks(mesh).parts] * (1 + mesh.get_local_rank()), mesh),
        lambda: trained_again(mesh, folder),
    ):
        with pytest.raises(Exception) as raised:  # noqa: PT011 (which is looked at)
            action()
        found.append(str(raised.value))
    return found


def resumed_work(mesh: Any, folder: Path) -> tuple[dict[str, Any], dict[str, tuple[int, float]]]:
    return saved_and_resumed(mesh, folder, resumes=True), saved_jobs(mesh, folder, resumes=True)


def several_checks(mesh: Any, folder: Path) -> dict[str, Any]:
    return {
        "stopped": stopped_by_one(mesh),
        "saved": saved_and_resumed(mesh, folder, resumes=False),
        "failures": failures(mesh, folder),
        "columns": sharded_columns(mesh, folder),
        "jobs": saved_jobs(mesh, folder, resumes=False),
        "folds": several_folds(mesh),
    }


@pytest.fixture(scope="module")
def checks(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return run_processes(2, several_checks, folder), folder


def test_all_processes_end_at_one_step_where_one_is_interrupted_late_or_called_back(
    checks: tuple[list[dict[str, Any]], Path],
) -> None:
    first, second = (results["stopped"] for results in checks[0])
    assert first == second
    for engine in ("native", "torch"):
        assert first[f"{engine} callback"] == (20, "callback")
        assert first[f"{engine} interrupt"][1] == "interrupted"
        assert first[f"{engine} seconds"][1] == "max_seconds"


def test_a_first_factor_that_processes_share_is_trained_as_one_that_each_has(
    checks: tuple[list[dict[str, Any]], Path],
) -> None:
    for results in checks[0]:
        shared, replicated, said = results["columns"]
        for own, expected in zip(shared, replicated, strict=True):
            torch.testing.assert_close(own, expected, rtol=1e-11, atol=1e-12)
        assert "2 processes: W_2 is sharded by rows, W_1 is sharded by columns" in said
        assert "engine: torch, since processes share the columns of the first factor" in said


def test_an_error_of_one_process_is_raised_in_all(checks: tuple[list[dict[str, Any]], Path]) -> None:
    for results in checks[0]:
        alone, missing, uneven, again = results["failures"]
        assert "already holds a checkpoint" in again
        assert alone == "the disk of this machine is gone"
        assert "nothing" in missing
        assert "same number and shape" in uneven


@pytest.mark.parametrize("count", [1, 4])
def test_a_run_of_two_processes_resumes_bit_identically_in_another_number(
    checks: tuple[list[dict[str, Any]], Path], count: int, tmp_path: Path
) -> None:
    copy = tmp_path / "checkpoints"
    shutil.copytree(checks[1], copy)
    resumed, jobs = run_processes(count, resumed_work, copy)[0]
    whole = saved_and_resumed_at_once(tmp_path / "whole")
    for name, (losses, best_step, last) in resumed.items():
        assert losses == whole[name][0], name
        assert best_step == whole[name][1], name
        assert torch.equal(last, whole[name][2]), name
    undisturbed = saved_jobs(None, tmp_path / "undisturbed", resumes=True)
    for name, (first_step, loss) in jobs.items():
        assert first_step >= 10, name
        assert loss == pytest.approx(undisturbed[name][1], rel=1e-7), name


def saved_and_resumed_at_once(folder: Path) -> dict[str, Any]:
    """Return the results of runs that nothing interrupts, in this process."""
    folder.mkdir()
    return saved_and_resumed(None, folder, resumes=True)


def test_a_job_of_two_processes_resumes_without_torchrun(
    checks: tuple[list[dict[str, Any]], Path], tmp_path: Path
) -> None:
    shutil.copytree(checks[1], tmp_path / "checkpoints")
    resumed = saved_jobs(None, tmp_path / "checkpoints", resumes=True)
    undisturbed = saved_jobs(None, tmp_path / "undisturbed", resumes=True)
    for name, (first_step, loss) in resumed.items():
        assert first_step >= 10, name
        assert loss == pytest.approx(undisturbed[name][1], rel=1e-7), name


def test_folds_in_several_processes_pause_together(checks: tuple[list[dict[str, Any]], Path]) -> None:
    first, second = (results["folds"] for results in checks[0])
    assert first == second is not None
