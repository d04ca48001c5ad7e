"""What every engine offers between two steps of a run: pieces, pauses, thresholds, states."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import dmf_fast
from dmf_fast._native import Outcome
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.optim import OptimizerSpec
from dmf_fast.training import FitOptions, Recording, Trial, fit, fit_many
from dmf_fast.training.engines.choice import make_engine
from dmf_fast.training.engines.protocol import Engine
from tests.assertions import assert_equal
from tests.conftest import on_gpu
from tests.problems import make_problem
from tests.training.runs import PLAIN, RULES, problem, start

pytestmark = pytest.mark.usefixtures("bounded")


def make(name: str, optimizer: Any = RULES["momentum"], scale: float = 1.0, **options: Any) -> Engine:
    model = DeepMatrixFactorization.of_factors([scale * factor for factor in start(problem())])
    given = FitOptions(engine=name, **options)  # type: ignore[arg-type]
    return make_engine(model, problem().observations(), OptimizerSpec.of(optimizer), given)[0]


def parameters(engine: Engine) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in engine.model().parameters()]


def rules_of(engine: str) -> list[Any]:
    return [rule for name, rule in PLAIN.items() if not (engine.startswith("cuda") and name == "adaptive")]


def test_pieces_and_a_taken_up_state_change_no_bit(engine: str) -> None:
    for rule in rules_of(engine):
        whole, pieces, taken_up = (make(engine, rule) for _ in range(3))
        whole.run(50, most_seconds=60.0)
        for until in (0, 1, 7, 23, 50):
            pieces.run(until, most_seconds=60.0)
            if until == 23:
                taken_up.resume(pieces.state())
        taken_up.run(50, most_seconds=60.0)
        for one in (pieces, taken_up):
            assert one.step == 50
            assert_equal(parameters(one), parameters(whole))
            assert (one.loss, one.gradient_norm) == (whole.loss, whole.gradient_norm)


def test_the_kept_parameters_are_left_if_the_best_is_asked_for(engine: str) -> None:
    one = make(engine)
    one.run(5, most_seconds=60.0)
    one.keep()
    kept = parameters(one)
    one.run(9, most_seconds=60.0)
    other = make(engine)
    other.resume(one.state())
    last = parameters(one)
    for ended in (one, other):
        ended.finish(best=True)
        assert ended.step == 9
    assert not torch.equal(kept[0], last[0])
    again = make(engine)
    again.resume(one.state())
    assert_equal(parameters(again), last if engine != "torch" else parameters(one))


def test_it_diverges_and_stays_there(engine: str) -> None:
    diverging = make(engine, partial(torch.optim.SGD, lr=1e6))
    assert diverging.run(10_000, most_seconds=60.0) == Outcome.diverged
    step = diverging.step
    assert diverging.run(10_000, most_seconds=60.0) == Outcome.diverged
    assert diverging.step == step < 100


def test_it_pauses_when_its_time_is_over(engine: str) -> None:
    slow = make(engine, partial(torch.optim.SGD, lr=1e-6))
    assert slow.run(10**9, most_seconds=0.01) == Outcome.paused
    assert 0 < slow.step < 10**9


@pytest.mark.parametrize("until", [0, 1, 15, 16, 17, 32])
def test_it_pauses_only_before_its_end_and_measures_there(engine: str, until: int) -> None:
    pausing, whole = (make(engine) for _ in range(2))
    while pausing.run(until, most_seconds=0.0) == Outcome.paused:
        assert pausing.step < until
    assert whole.run(until, most_seconds=60.0) == Outcome.reached
    assert (pausing.step, pausing.loss, pausing.gradient_norm) == (until, whole.loss, whole.gradient_norm)


@on_gpu
def test_many_runs_on_a_gpu_are_each_the_run_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.problems.DEVICE", "cuda")
    trials = []
    for depth in (2, 3, 4):
        given = make_problem((13, *[9] * (depth - 1), 11), density=0.4, seed=depth, dtype=torch.float32)
        factors, options = start(given, torch.float32), FitOptions(steps=2000)
        rule = RULES["group RMSprop"]
        trials.append(
            Trial({"depth": depth}, factors, given.observations(), rule, options, Recording(every=500))
        )
    for one in fit_many(trials, workers=3).results:
        alone, trial = [factor.clone() for factor in one.trial.factors], one.trial
        fit(alone, trial.train, trial.optimizer, trial.options, recording=trial.recording)
        assert_equal(alone, one.factors)


@on_gpu
def test_a_model_is_fitted_on_the_gpu_and_agrees_with_the_cpu(gpu: str) -> None:
    histories = []
    for device in ("cpu", gpu):
        problem = make_problem((60, 4, 50), density=0.5)
        model = dmf_fast.DeepMatrixFactorization(
            (50, 60), depth=3, seed=0, dtype=torch.float64, device=device
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=1e-2)
        observations = problem.observations().to(device)
        options = dmf_fast.FitOptions(steps=50)
        histories.append(dmf_fast.fit(model, observations, optimizer, options).history["train_loss"])
    assert histories[1] == pytest.approx(histories[0], rel=1e-9)
