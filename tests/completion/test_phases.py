"""Rates, decays and lengths of the phases of a job, in the search and in the refit: numbers by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest
import torch

from dmf_fast import Observations, reference
from dmf_fast.completion import CompletionOptions, DecayUnit, complete_matrix
from dmf_fast.completion.lbfgs import fast_options, prepared_warm, warm_start
from dmf_fast.completion.phases import begin, search_options
from dmf_fast.completion.refit import Turn, refit_options
from dmf_fast.completion.search import PhaseRun
from dmf_fast.completion.starts import Phase, Prepared, Start, bias_decay
from dmf_fast.evaluation import Biases
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.training import FitOptions, FitResult, History, Progress, Recording
from tests.assertions import assert_close
from tests.completion.ratings import ratings

# 40 rows and 30 columns; a unit whose roots are whole numbers.
UNIT = DecayUnit(noise=3.0, reference=16.0)
OPTIONS = CompletionOptions(hidden=6, weight_decay=0.2)


def prepared(
    options: CompletionOptions, train: Observations | None = None, *, biased: bool = True
) -> Prepared:
    train = ratings().to(dtype=torch.float64) if train is None else train
    return replace(Prepared.of(train, None, options, Biases.fit(train) if biased else None), unit=UNIT)


def started(phase: Phase, options: CompletionOptions, train: Observations | None = None) -> Start:
    part = prepared(options, train)
    before = begin(Phase(2, "gaussian"), part, replace(options, initialization="gaussian"))
    return begin(phase, part, options, replace(before, unit=UNIT, phase=Phase(3, "product")))


@pytest.mark.parametrize(
    ("phase", "decay"),
    [
        # weight_decay · noise · reference^(1 − 2/N), from depth 3 on 1.5 times as much near zero.
        (Phase(2, "spectral"), 0.2 * 3),
        (Phase(4, "spectral"), 1.5 * 0.2 * 3 * 4),
        (Phase(4, "gaussian"), 0.2 * 3 * 4),
        (Phase(1, "gaussian"), 0.2 * 3 / 16),
        # 2.3 times as much where a product is split, in the unit that the split before it has measured.
        (Phase(4, "product"), 2.3 * 0.2 * 3 * 4),
    ],
)
@pytest.mark.parametrize(
    ("changes", "of_loss"),
    [({}, 1.0), ({"reduction": "sum"}, "total"), ({"reduction": "sum", "batches": 4}, "batch")],
)
def test_the_decay_of_the_factors_is_a_multiple_of_the_unit_at_their_depth(
    phase: Phase, decay: float, changes: dict[str, Any], of_loss: Any
) -> None:
    options = OPTIONS.changed({"optimizer": "group-rmsprop"} | changes)
    options = replace(options, initialization="gaussian") if phase.start == "gaussian" else options
    total = ratings().total_weight
    times = {"total": total, "batch": total / 4}.get(of_loss, 1.0)
    assert started(phase, options).optimizer.options["weight_decay"] == pytest.approx(times * decay)


@pytest.mark.parametrize("phase", [Phase(2, "spectral"), Phase(4, "spectral"), Phase(4, "product")])
@pytest.mark.parametrize(
    ("changes", "decay"),
    [
        ({}, 0.2),
        ({"bias_weight_decay": 0.4}, 0.4),
        ({"bias_weight_decay": 0.0}, 0.0),
        ({"bias_weight_decay": 0.4, "reduction": "sum"}, 0.4),
    ],
)
def test_the_decay_of_the_biases_is_at_most_a_multiple_of_their_ridge_penalty(
    phase: Phase, changes: dict[str, Any], decay: float
) -> None:
    entries = ratings().to(dtype=torch.float64)
    weights = torch.arange(len(entries), dtype=torch.float64) / len(entries)
    start = started(phase, OPTIONS.changed(changes), entries.with_values(entries.values, weights))
    total = weights.sum().item()
    mean = (weights @ entries.values).item() / total
    variance = (weights @ (entries.values - mean).square()).item() / total
    # 15 · 0.2 times the penalty 3 b² in the sum of squares, whose b is half the spread times a parameter.
    expected = decay * 15 * 2 * 3 * variance / 4
    expected /= 1.0 if changes.get("reduction") == "sum" else total
    assert start.optimizer.bias_options["weight_decay"] == pytest.approx(expected)


def test_the_decay_of_the_biases_is_in_units_of_noise_where_that_is_less() -> None:
    part = replace(prepared(OPTIONS), unit=DecayUnit(noise=1e-3, reference=16.0))
    # The decay of a bias whose scale is a half is a quarter of that of an entry.
    assert bias_decay(part, OPTIONS) == pytest.approx(0.2 * 1e-3 / 4)


@pytest.mark.parametrize(
    ("changes", "phase", "lr"),
    [
        ({}, Phase(2, "spectral"), 0.5),
        ({}, Phase(3, "product"), 0.25),
        ({"lr": 0.7}, Phase(3, "product"), 0.7),
        ({"optimizer": "group-rmsprop"}, Phase(3, "product"), 0.04 * math.sqrt(40 + 30)),
        ({"optimizer": "sgd", "lr": 0.7}, Phase(2, "spectral"), 0.7),
        ({"optimizer": "lbfgs"}, Phase(2, "spectral"), 1.0),
        ({"optimizer": "lbfgs", "lr": 0.7}, Phase(2, "spectral"), 0.7),
        ({"optimizer": "lbfgs", "lr": 0.7}, Phase(3, "product"), 0.25),  # which adaptive-gd runs
    ],
)
def test_a_phase_has_the_rate_that_its_options_say(changes: dict[str, Any], phase: Phase, lr: float) -> None:
    assert started(phase, OPTIONS.changed(changes)).optimizer.options["lr"] == pytest.approx(lr)


def test_plain_coordinates_have_the_decays_of_torch() -> None:
    options = OPTIONS.changed(
        {"coordinates": "plain", "optimizer": "sgd", "lr": 0.7, "bias_weight_decay": 0.05, "depth": 2}
    )
    start = begin(Phase(2, "gaussian"), Prepared.of(ratings(), None, options, None), options)
    assert start.optimizer.options["weight_decay"] == 0.2
    assert start.optimizer.bias_options == {"weight_decay": 0.05}


@pytest.mark.parametrize(
    ("weight_decay", "patience", "steps", "expected"),
    [
        # 3.9 · 0.13 · 0.9^k first falls to 0.32 at k = 5, after 4 steps that keep the decay.
        (0.13, 20, 500, {"patience": 3, "patience_after": 9, "steps": 500}),
        (0.3, 5, 500, {"patience": 1, "patience_after": 17, "steps": 500}),
        (0.05, 20, 500, {"patience": 3, "patience_after": 4, "steps": 500}),
        (0.13, None, 500, {"patience": None, "patience_after": 0, "steps": 9}),
        (0.13, None, 7, {"patience": None, "patience_after": 0, "steps": 7}),
    ],
)
def test_the_patience_of_the_fast_phase_counts_once_the_decay_is_low_enough(
    weight_decay: float, patience: int | None, steps: int, expected: dict[str, Any]
) -> None:
    fit = FitOptions(steps=steps, patience=patience)
    assert fast_options(replace(OPTIONS, weight_decay=weight_decay), fit) == replace(fit, **expected)
    later = replace(fit, patience_after=40)
    if patience is not None:
        assert fast_options(replace(OPTIONS, weight_decay=weight_decay), later).patience_after == 40


def test_only_a_product_is_searched_with_a_quarter_of_the_patience() -> None:
    fit = FitOptions(patience=22)
    found = [
        search_options(Phase(depth, start), OPTIONS, fit)
        for depth, start in ((2, "spectral"), (3, "product"))
    ]
    assert found == [fit, replace(fit, patience=5)]
    assert search_options(Phase(3, "product"), OPTIONS, FitOptions(patience=3)).patience == 1
    assert search_options(Phase(3, "product"), OPTIONS, FitOptions()).patience is None


FAST = CompletionOptions(depth=2, hidden=6, optimizer="lbfgs", weight_decay=0.2)


@pytest.mark.parametrize(("step", "part"), [(0, 1.0), (4, 1.0), (5, 0.9), (14, 0.9**10)])
def test_a_refit_of_the_fast_phase_has_the_decay_that_its_search_had_come_to(step: int, part: float) -> None:
    part_of_search = prepared(FAST)
    first = begin(Phase(2, "spectral"), part_of_search, FAST)
    found = first.optimizer.options
    assert found["weight_decay"] == pytest.approx(3.9 * 0.2 * 3)
    assert (found["decay_rate"], found["decay_after"]) == (0.9, 4)

    warm = warm_start(first, part_of_search, FAST, step).optimizer.options

    assert warm["weight_decay"] == pytest.approx(part * found["weight_decay"])
    assert warm["decay_rate"] == 1.0
    assert {name: warm[name] for name in ("lr", "concavity", "knee")} == {
        name: found[name] for name in ("lr", "concavity", "knee")
    }
    assert found["knee"] == pytest.approx(0.3 * 16)


def test_noise_is_that_of_so_many_more_entries_in_the_refit() -> None:
    observed = ratings().to(dtype=torch.float64)
    weights = torch.where(torch.arange(len(observed)) < 100, 4.0, 1e-9)
    part = replace(prepared(FAST), train=observed.with_values(observed.values, weights))
    whole = prepared_warm(observed.with_values(observed.values, 4 * weights), part, None)
    assert whole.unit.noise == pytest.approx(1.5)  # four times the weight, half of the noise
    assert whole.unit.reference == pytest.approx(8.0)
    assert whole.coordinates is part.coordinates


def run_of(phase: Phase, best_step: int | None, steps: int, loss_ratio: float = 0.25) -> PhaseRun:
    return PhaseRun(
        phase, FitResult(History(pa.table({})), best_step, "patience", steps, 0.0, "native"), loss_ratio
    )


STRICT = FitOptions(steps=500, patience=7, train_loss_threshold=1e-9)


@pytest.mark.parametrize(
    ("phase", "changes", "steps", "is_as_close", "turns"),
    [
        (Phase(2, "spectral"), {}, 100 + 25, True, False),
        (Phase(4, "product"), {}, 100, False, False),
        (Phase(4, "spectral"), {}, 100, False, True),
        (Phase(4, "spectral"), {"weight_decay": 0.0}, 125, True, False),
        (Phase(2, "spectral"), {"optimizer": "group-rmsprop", "batches": 3}, 100, False, False),
        (Phase(4, "spectral"), {"optimizer": "group-rmsprop", "batches": 3}, 100, False, False),
        (Phase(2, "spectral"), {"optimizer": "lbfgs"}, 1, False, False),
    ],
)
def test_a_refit_is_as_long_or_as_close_as_the_best_step_of_the_search(
    phase: Phase, changes: dict[str, Any], steps: int, is_as_close: bool, turns: bool
) -> None:
    options = OPTIONS.changed(changes)
    start = started(phase, options)
    whole = prepared(options)
    fit = replace(STRICT, batches=options.fit.batches)

    found, turn = refit_options(fit, run_of(phase, 100, 140), start, whole, options)

    with torch.no_grad():
        loss = (start.model(whole.train) - whole.train.values).square().mean().item()
    threshold = pytest.approx(0.25 * loss) if is_as_close else None
    assert (found.steps, found.train_loss_threshold, found.patience) == (steps, threshold, None)
    assert (turn is not None) == turns


def test_without_a_best_step_a_refit_follows_the_last() -> None:
    start, whole = started(Phase(4, "product"), OPTIONS), prepared(OPTIONS)
    assert (
        refit_options(STRICT, run_of(Phase(4, "product"), None, 140), start, whole, OPTIONS)[0].steps == 140
    )


@pytest.mark.parametrize(
    ("losses", "ends"),
    [
        # In steps of 1; the second half of 10 steps begins at 5. It must have risen by more than a twentieth.
        ([1.0, 0.5, 0.3, 0.4, 0.35, 0.34], 5),
        ([1.0, 0.5, 0.3, 0.4, 0.45, 0.5, 0.5, 0.49], 7),
        ([1.0, 0.5, 0.3, 0.314, 0.31, 0.305, 0.3, 0.29], None),
        ([1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3], None),
        ([1.0, 0.5, 0.3, 0.2, 0.1, 0.1, 0.2, 0.19], 7),
    ],
)
def test_a_refit_from_a_deep_start_ends_where_the_loss_falls_again(
    losses: list[float], ends: int | None
) -> None:
    turn, rows = Turn(10), []
    model = DeepMatrixFactorization((2, 2), 1)
    answers = []
    for step, loss in enumerate(losses):
        rows.append({"step": step, "train_loss": loss})
        answers.append(turn(Progress(step, model, rows[-1], rows)))
    assert [step for step, answer in enumerate(answers) if answer][:1] == ([] if ends is None else [ends])
    assert turn.is_passed == (ends is not None)


def test_a_refit_that_resumes_sees_the_rows_before() -> None:
    rows = [{"step": step, "train_loss": loss} for step, loss in enumerate((1.0, 0.3, 0.4, 0.5, 0.5, 0.4))]
    turn = Turn(10)
    assert turn(Progress(5, DeepMatrixFactorization((2, 2), 1), rows[-1], rows))


@pytest.mark.parametrize("schedule", ["linear", "cosine", "constant"])
def test_the_refit_follows_the_rates_of_the_search_step_by_step(schedule: Any) -> None:
    """A plain loop over all entries from the same start, with rates for 12 steps, of which 3 warm up."""
    observed = ratings().to(dtype=torch.float64)
    options = CompletionOptions(
        depth=2, hidden=4, init_scale=4.0, bias=False, center=False, coordinates="plain", optimizer="sgd",
        lr=1.0, weight_decay=0.0, schedule=schedule, warmup=3, validation_fraction=0.1,
        fit=FitOptions(steps=12), recording=Recording(every=1),
    )  # fmt: skip

    completed = complete_matrix(observed, options, folds=[observed.split(0.1, seed=0)])

    shapes = {"linear": lambda part: 1 - part, "cosine": lambda part: (1 + math.cos(math.pi * part)) / 2}
    shape = shapes.get(schedule, lambda part: 1.0)
    start = DeepMatrixFactorization(
        observed.shape, 2, 4, 4.0, "gaussian", bias=False, seed=0, dtype=torch.float64
    )
    parameters = [factor.detach().clone().requires_grad_() for factor in start.factors]
    for step in range(completed.refit_steps):
        rate = (step + 1) / 4 if step < 3 else shape(min(1, (step - 3) / 9))
        loss = reference.completion_loss(parameters, *observed.coordinates(), observed.values, None, "mean")
        for parameter, slope in zip(parameters, torch.autograd.grad(loss, parameters), strict=True):
            parameter.data -= rate * slope
    assert completed.refit_steps > 4
    assert_close(list(completed.model.factors), [p.detach() for p in parameters], 1e-9)


@pytest.mark.parametrize(("hidden", "width"), [(6, 6), (None, 30), (1, 1)])
@pytest.mark.parametrize(
    ("phase", "changes"),
    [
        (Phase(2, "spectral"), {"optimizer": "lbfgs"}),
        (Phase(2, "spectral"), {}),
        (Phase(4, "spectral"), {}),
        (Phase(3, "gaussian"), {"initialization": "gaussian"}),
        (Phase(3, "gaussian"), {"coordinates": "plain", "optimizer": "sgd", "lr": 0.1}),
    ],
)
def test_factors_are_as_wide_as_was_asked_for_or_as_the_matrix(
    phase: Phase, changes: dict[str, Any], hidden: int | None, width: int
) -> None:
    options = OPTIONS.changed({"hidden": hidden} | changes)
    start = begin(phase, prepared(options), options)
    assert start.model.dims == (30, *[width] * (phase.depth - 1), 40)
