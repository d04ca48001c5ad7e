"""The engine over operators makes the steps of the native one; and what holds for engines on a GPU alone."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast._native import Outcome
from dmf_fast.training import (
    Adam,
    DescentOptions,
    GradientDescent,
    GroupRMSprop,
    Recording,
    Rule,
    Trial,
    descend,
    descend_many,
    descent_run,
)
from dmf_fast.training.block_engine import BlockEngine
from dmf_fast.training.cpu_engine import CpuEngine
from dmf_fast.training.descend import finish_run
from dmf_fast.training.descent_run import DescentRun
from dmf_fast.training.factor_measures import FactorMeasures
from dmf_fast.training.operator_engine import OperatorEngine
from tests.problems import Problem, make_problem
from tests.test_cuda import on_gpu

RULES = {
    "gradient descent": GradientDescent(lr=0.05),
    "momentum": GradientDescent(lr=0.02, momentum=0.9, weight_decay=1e-3),
    "group RMSprop": GroupRMSprop(lr=1e-2),
    "group RMSprop with decay": GroupRMSprop(lr=1e-2, weight_decay=1e-3),
    "Adam": Adam(lr=1e-2, weight_decay=1e-3),
}
NO_STOP = DescentOptions()


def problem(depth: int = 3, dtype: torch.dtype = torch.float64) -> Problem:
    dims = (13, *[9] * (depth - 1), 11)
    return make_problem(dims, density=0.4, weighted=True, seed=depth, dtype=dtype)


def assert_close(one: list[Tensor], other: list[Tensor], rtol: float = 1e-9) -> None:
    for first, second in zip(one, other, strict=True):
        gap = torch.linalg.vector_norm(first.cpu() - second.cpu())
        assert gap <= rtol * torch.linalg.vector_norm(second.cpu())


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_its_steps_are_those_of_native_code(rule: Rule, reduction: str) -> None:
    given, options = problem(), DescentOptions(reduction=reduction)  # type: ignore[arg-type]
    engines = [
        engine(given.factors, given.observations(), rule, options) for engine in (OperatorEngine, CpuEngine)
    ]
    for engine in engines:
        assert engine.run(300, most_seconds=60.0) == Outcome.reached
    ours, native = engines
    assert_close(ours.factors(), native.factors())
    assert ours.step == native.step == 300
    assert ours.loss == pytest.approx(native.loss, rel=1e-9)
    assert ours.gradient_norm == pytest.approx(native.gradient_norm, rel=1e-8)
    assert ours.state().square_average == pytest.approx(native.state().square_average, rel=1e-9)


@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
def test_pieces_and_a_taken_up_state_change_no_bit(rule: Rule) -> None:
    given = problem()
    whole, pieces, taken_up = (OperatorEngine(given.factors, given.observations(), rule) for _ in range(3))
    whole.run(50, most_seconds=60.0)
    for until in (0, 1, 7, 23, 50):
        pieces.run(until, most_seconds=60.0)
        if until == 23:
            taken_up.go_on_from(pieces.state())
    taken_up.run(50, most_seconds=60.0)
    for engine in (pieces, taken_up):
        assert all(map(torch.equal, engine.factors(), whole.factors()))
        assert engine.loss == whole.loss


@pytest.mark.parametrize(
    ("name", "threshold"), [("train_loss_threshold", 0.5), ("gradient_norm_threshold", 0.02)]
)
def test_it_stops_at_the_step_of_native_code(name: str, threshold: float) -> None:
    given = problem()
    options = DescentOptions(**{name: threshold})
    steps = []
    for engine in (OperatorEngine, CpuEngine):
        run = engine(given.factors, given.observations(), RULES["gradient descent"], options)
        assert run.run(100_000, most_seconds=60.0).name == name
        steps.append(run.step)
    assert steps[0] == steps[1] > 0


def test_it_diverges_with_a_status_and_stays_there() -> None:
    given = problem()
    engine = OperatorEngine(given.factors, given.observations(), GradientDescent(lr=1e6))
    assert engine.run(10_000, most_seconds=60.0) == Outcome.diverged
    step = engine.step
    assert engine.run(10_000, most_seconds=60.0) == Outcome.diverged
    assert engine.step == step < 100


def test_it_pauses_when_its_time_is_over() -> None:
    given = problem()
    engine = OperatorEngine(given.factors, given.observations(), GradientDescent(lr=1e-6))
    assert engine.run(10**9, most_seconds=0.01) == Outcome.paused
    assert 0 < engine.step < 10**9


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("engine", [OperatorEngine, CpuEngine])
@pytest.mark.parametrize("until", [0, 1, 15, 16, 17, 32])
def test_it_pauses_only_before_its_end_and_measures_there(
    until: int, engine: type[OperatorEngine | CpuEngine]
) -> None:
    given = problem()
    pausing, whole = (engine(given.factors, given.observations(), GradientDescent(lr=0.05)) for _ in range(2))
    while pausing.run(until, most_seconds=0.0) == Outcome.paused:
        assert pausing.step < until
    assert whole.run(until, most_seconds=60.0) == Outcome.reached
    assert (pausing.step, pausing.loss, pausing.gradient_norm) == (until, whole.loss, whole.gradient_norm)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("every", [1, 16, 20, 1000])
def test_checkpoints_by_time_change_no_row(
    every: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, options, rows, ends = problem(), DescentOptions(steps=64), [], []
    for folder in (None, tmp_path):
        factors = [factor.detach().clone() for factor in given.factors]
        engine = OperatorEngine(factors, given.observations(), RULES["Adam"], options)
        measures = FactorMeasures(recording=Recording(every=every))
        result = finish_run(DescentRun(engine, options, measures, checkpoint=folder), factors)
        rows.append(result.history.drop_columns("seconds"))
        ends.append(factors)
        monkeypatch.setattr(descent_run, "_SECONDS_A_CHECKPOINT", 0.0)
        monkeypatch.setattr(descent_run, "_SECONDS_A_SLICE", 0.0)
    assert rows[0].equals(rows[1])
    assert all(map(torch.equal, *ends))
    assert any(tmp_path.glob("version-*"))


def on_the_gpu(given: Problem) -> tuple[list[Tensor], Observations]:
    return [factor.detach().cuda() for factor in given.factors], given.observations().to("cuda")


@on_gpu
@pytest.mark.parametrize("depth", range(1, 6))
@pytest.mark.parametrize("rule", RULES.values(), ids=RULES)
@pytest.mark.parametrize("kind", ["block", "graph"])
def test_engines_on_a_gpu_make_the_steps_of_native_code(depth: int, rule: Rule, kind: str) -> None:
    given = problem(depth)
    factors, train = on_the_gpu(given)
    if kind == "block":
        engine = BlockEngine.where_it_fits(factors, train, rule, NO_STOP)
        assert engine is not None
    else:
        engine = OperatorEngine(factors, train, rule)
    native = CpuEngine(given.factors, given.observations(), rule)
    for run in (engine, native):
        assert run.run(1000, most_seconds=60.0) == Outcome.reached
    assert_close(engine.factors(), native.factors())
    again = BlockEngine.where_it_fits(factors, train, rule, NO_STOP) if kind == "block" else None
    if again is not None:
        again.run(400, most_seconds=60.0)
        state = again.state()
        again.go_on_from(state)
        again.run(1000, most_seconds=60.0)
        assert all(map(torch.equal, again.factors(), engine.factors()))


@on_gpu
def test_a_problem_too_large_for_a_block_gets_none() -> None:
    factors, train = on_the_gpu(make_problem((700, 600, 500), density=0.05, seed=0))
    assert BlockEngine.where_it_fits(factors, train, RULES["Adam"], NO_STOP) is None
    before = [factor.clone() for factor in factors]
    result = descend(factors, train, GradientDescent(lr=1e-3), DescentOptions(steps=40))
    assert result.steps == 40
    assert not any(map(torch.equal, factors, before))


@on_gpu
def test_graphs_are_captured_beside_each_other_and_beside_blocks() -> None:
    given = problem()
    factors, train = on_the_gpu(given)

    def run(place: int) -> list[Tensor]:
        if place % 2:
            engine = OperatorEngine(factors, train, RULES["Adam"])
        else:
            engine = BlockEngine.where_it_fits(factors, train, RULES["Adam"], NO_STOP)
        assert engine.run(200, most_seconds=60.0) == Outcome.reached
        return engine.factors()

    native = CpuEngine(given.factors, given.observations(), RULES["Adam"])
    native.run(200, most_seconds=60.0)
    with ThreadPoolExecutor(8) as pool:
        for ours in pool.map(run, range(80)):  # more than torch has streams
            assert_close(ours, native.factors())


@on_gpu
def test_many_runs_on_a_gpu_are_each_the_run_alone() -> None:
    trials = []
    for depth in (2, 3, 4):
        factors, train = on_the_gpu(problem(depth, torch.float32))
        trials.append(
            Trial(
                {"depth": depth},
                factors,
                train,
                GroupRMSprop(1e-3),
                DescentOptions(steps=2000),
                Recording(every=500),
            )
        )
    for one in descend_many(trials, workers=3).results:
        alone = [factor.clone() for factor in one.trial.factors]
        descend(alone, one.trial.train, one.trial.rule, one.trial.options, recording=one.trial.recording)
        assert all(map(torch.equal, alone, one.factors))
