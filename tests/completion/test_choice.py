"""What a search runs next and chooses, given how its phases ended: a runner that only tells errors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from dmf_fast.completion import CompletedMatrix, CompletionOptions, complete_matrix
from dmf_fast.completion.search import Candidate, PhaseRun, Search, best_rmse
from dmf_fast.completion.starts import Prepared, Start
from dmf_fast.evaluation import Biases
from dmf_fast.training import FitOptions, FitResult, History
from tests.completion.ratings import ratings

OPTIONS = CompletionOptions(hidden=4, fit=FitOptions(patience=22))
# The validation error compared with that of the biases, the best step and why the phase ended.
End = tuple[float, int, str]
SPECTRAL_2, PRODUCT_3, PRODUCT_4 = "depth-2-spectral", "depth-3-product", "depth-4-product"
SPECTRAL_3 = "depth-3-spectral"


def result_of(rmse: float, best_step: int | None, because: Any = "patience") -> FitResult:
    rows = {"step": [0, 5, 10], "validation_rmse": [9.0, 9.0, 9.0]}
    if best_step is not None:
        rows["validation_rmse"][rows["step"].index(best_step)] = rmse
    return FitResult(History(pa.table(rows)), best_step, because, 10, 0.0, "native")


def searched(ends: Mapping[str, End], **changes: Any) -> tuple[Search, list[str]]:
    """Return a search whose phases end as told, and those that it has run."""
    options = OPTIONS.changed(changes)
    train, validation = ratings().split(0.1, seed=0)
    part = Prepared.of(train, validation, options, Biases.fit(train))
    names: list[str] = []

    def run(name: str, starts: Sequence[Start], parts: Sequence[Prepared], fit: FitOptions) -> PhaseRun:
        phase = starts[0].phase
        assert name == f"search-{phase.name}"
        names.append(phase.name)
        times, best_step, because = ends[phase.name]
        rmse = times * (search.candidates[0].validation_rmse or 0.0)
        return PhaseRun(phase, result_of(rmse, best_step, because), 0.5, tuple(starts))

    search = Search([part], options, options.fit, run)
    search.search()
    return search, names


GOOD = (0.8, 10, "patience")
BETTER, BEST = (0.7, 10, "patience"), (0.6, 5, "patience")


@pytest.mark.parametrize(
    ("ends", "changes", "run", "chosen"),
    [
        # Deeper as long as it pays, up to depth 4.
        (
            {SPECTRAL_2: GOOD, PRODUCT_3: BETTER, PRODUCT_4: BEST},
            {},
            [SPECTRAL_2, PRODUCT_3, PRODUCT_4],
            "depth 4",
        ),
        # A split that is at its best before its first step ends it.
        ({SPECTRAL_2: GOOD, PRODUCT_3: (0.8, 0, "patience")}, {}, [SPECTRAL_2, PRODUCT_3], "depth 2"),
        # Nothing was learned at depth 2: there is nothing to split, and the gradient is tried at depth 3.
        (
            {SPECTRAL_2: (1.0, 0, "patience"), SPECTRAL_3: GOOD},
            {},
            [SPECTRAL_2, SPECTRAL_3],
            "depth 3, spectral start",
        ),
        # Less than a hundredth is little: the gradient is tried besides.
        (
            {SPECTRAL_2: (0.991, 5, "patience"), PRODUCT_3: (0.991, 0, "patience"), SPECTRAL_3: GOOD},
            {},
            [SPECTRAL_2, PRODUCT_3, SPECTRAL_3],
            "depth 3, spectral start",
        ),
        (
            {SPECTRAL_2: (0.989, 5, "patience"), PRODUCT_3: (0.989, 0, "patience")},
            {},
            [SPECTRAL_2, PRODUCT_3],
            "depth 2",
        ),
        # Without a decay nothing drops noise from a product.
        (
            {SPECTRAL_2: GOOD, SPECTRAL_3: BETTER},
            {"weight_decay": 0.0},
            [SPECTRAL_2, SPECTRAL_3],
            "depth 3, spectral start",
        ),
        ({SPECTRAL_3: GOOD}, {"weight_decay": 0.0, "depth": 3}, [SPECTRAL_3], "depth 3, spectral start"),
        # A depth that is given is gone to, whether it pays or not, and those on the way are no candidates.
        (
            {SPECTRAL_2: GOOD, PRODUCT_3: (0.9, 0, "patience"), PRODUCT_4: BETTER},
            {"depth": 4},
            [SPECTRAL_2, PRODUCT_3, PRODUCT_4],
            "depth 4",
        ),
        ({SPECTRAL_2: GOOD}, {"depth": 2}, [SPECTRAL_2], "depth 2"),
        ({"depth-1-spectral": GOOD}, {"depth": 1}, ["depth-1-spectral"], "depth 1"),
        (
            {"depth-3-gaussian": GOOD},
            {"depth": 3, "initialization": "gaussian"},
            ["depth-3-gaussian"],
            "depth 3",
        ),
        # What did not come to its end is the last phase.
        ({SPECTRAL_2: (0.8, 10, "interrupted")}, {}, [SPECTRAL_2], "depth 2"),
        ({SPECTRAL_2: (0.8, 10, "max_seconds")}, {"depth": 4}, [SPECTRAL_2], "depth 2"),
        (
            {SPECTRAL_2: GOOD, PRODUCT_3: (0.7, 10, "callback")},
            {"depth": 4},
            [SPECTRAL_2, PRODUCT_3],
            "depth 3",
        ),
        (
            {SPECTRAL_2: GOOD, PRODUCT_3: (0.7, 10, "diverged")},
            {"depth": 4},
            [SPECTRAL_2, PRODUCT_3],
            "depth 2",
        ),
        ({SPECTRAL_2: GOOD, PRODUCT_3: (0.7, 10, "diverged")}, {}, [SPECTRAL_2, PRODUCT_3], "depth 2"),
        ({SPECTRAL_2: (0.8, 10, "diverged")}, {}, [SPECTRAL_2], "biases"),
    ],
)
def test_phases_follow_from_how_those_before_ended(
    ends: dict[str, End], changes: dict[str, Any], run: list[str], chosen: str
) -> None:
    search, names = searched(ends, **changes)
    assert names == run
    assert search.chosen.name == chosen
    assert search.has_diverged == (ends[run[0]][2] == "diverged")


def test_candidates_have_the_runs_that_lead_to_them() -> None:
    search, _ = searched({SPECTRAL_2: GOOD, PRODUCT_3: BETTER, PRODUCT_4: BEST})
    assert [(one.name, one.depth, [run.phase.depth for run in one.runs]) for one in search.candidates] == [
        ("biases", 0, []), ("depth 2", 2, [2]), ("depth 3", 3, [2, 3]), ("depth 4", 4, [2, 3, 4]),
    ]  # fmt: skip
    assert [run.steps for run in search.chosen.runs] == [10, 10, 5]


@pytest.mark.parametrize(
    ("errors", "chosen"),
    [
        # The biases count as equal within a thousandth, a shallower model within a tenth of that.
        ([("biases", 0, 1.0), ("depth 2", 2, 0.9992)], "biases"),
        ([("biases", 0, 1.0), ("depth 2", 2, 0.9988)], "depth 2"),
        ([("biases", 0, 2.0), ("depth 2", 2, 1.0), ("depth 3", 3, 0.99992)], "depth 2"),
        ([("biases", 0, 2.0), ("depth 2", 2, 1.0), ("depth 3", 3, 0.99988)], "depth 3"),
        ([("biases", 0, 2.0), ("depth 2", 2, 1.0), ("depth 3", 3, 1.0)], "depth 2"),
        ([("biases", 0, 2.0), ("depth 2", 2, None), ("depth 3", 3, 1.0)], "depth 3"),
        ([("depth 2", 2, None), ("depth 3", 3, None)], "depth 2"),
    ],
)
def test_the_simplest_model_is_chosen_among_those_that_are_as_good(
    errors: list[tuple[str, int, float | None]], chosen: str
) -> None:
    search = Search([], OPTIONS, OPTIONS.fit, None)  # type: ignore[arg-type]
    search.candidates = [Candidate(*one) for one in errors]
    assert search.chosen.name == chosen


def test_the_error_of_the_biases_is_that_of_all_folds() -> None:
    folds = [ratings().split(0.1, seed=seed) for seed in (0, 1)]
    parts = [Prepared.of(train, validation, OPTIONS, Biases.fit(train)) for train, validation in folds]
    squares = []
    for train, validation in folds:
        rows, columns = (side.numpy() for side in validation.coordinates())
        squares.append(((Biases.fit(train).predict(rows, columns) - validation.values.numpy()) ** 2).mean())

    found = Search(parts, OPTIONS, OPTIONS.fit, None)._biases()  # type: ignore[arg-type]

    assert found.validation_rmse == pytest.approx((sum(squares) / 2) ** 0.5, rel=1e-5)


def test_the_error_of_a_run_is_that_of_its_best_step() -> None:
    assert best_rmse(result_of(0.5, 5)) == 0.5
    assert best_rmse(result_of(0.5, None)) is None


@pytest.fixture(scope="module")
def completed() -> CompletedMatrix:
    return complete_matrix(ratings(), replace(OPTIONS, depth=2, fit=FitOptions(steps=3)))


def test_models_are_ordered_by_their_error_and_of_equal_ones_the_deepest_is_first(
    completed: CompletedMatrix,
) -> None:
    def of(depth: int, rmse: float | None) -> CompletedMatrix:
        factors = [completed.model.factors[0]] * depth
        model = type("Deep", (), {"factors": factors})()
        return replace(completed, model=model, chosen=Candidate(f"depth {depth}", depth, rmse))

    models = [of(2, 0.5), of(4, 0.5), of(3, 0.4), of(2, None), of(3, None)]
    ordered = sorted(models, key=lambda one: one.merit)
    assert [(one.depth, one.validation_rmse) for one in ordered] == [
        (3, 0.4), (4, 0.5), (2, 0.5), (3, None), (2, None),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("search", "refit", "interrupted", "diverged"),
    [
        (["patience", "patience"], ["steps"], False, False),
        (["patience", "interrupted"], [], True, False),
        (["patience"], ["interrupted"], True, False),
        (["diverged"], [], False, True),
        (["patience", "diverged"], ["steps"], False, False),
        (["patience"], ["diverged"], False, True),
    ],
)
def test_a_job_ends_as_its_runs_do(
    completed: CompletedMatrix, search: list[str], refit: list[str], interrupted: bool, diverged: bool
) -> None:
    def runs(ends: list[str]) -> tuple[PhaseRun, ...]:
        return tuple(replace(completed.search[0], result=result_of(0.5, 5, because)) for because in ends)

    found = replace(completed, search=runs(search), refit=runs(refit))
    assert (found.interrupted, found.diverged) == (interrupted, diverged)
    assert (found.steps, found.refit_steps) == (10 * len(search), 10 * len(refit))


def test_what_a_job_ends_with_is_its_last_run_and_its_history_goes_through_all(
    completed: CompletedMatrix,
) -> None:
    rows = [{"step": [0, 4], "seconds": [0.0, 2.0]}, {"step": [0, 3], "seconds": [0.5, 1.5]}]
    runs = [
        replace(
            completed.search[0],
            result=FitResult(History(pa.table(one)), 3, "steps", steps, seconds, "native"),
        )
        for one, steps, seconds in zip(rows, (4, 3), (2.5, 1.75), strict=True)
    ]
    chosen = replace(completed.chosen, runs=tuple(runs))
    found = replace(completed, search=tuple(runs), chosen=chosen, refit=())
    assert found.result is runs[1].result
    assert replace(found, refit=tuple(runs[::-1])).result is runs[0].result
    assert replace(found, chosen=replace(chosen, runs=())).result is runs[1].result
    assert (found.steps, found.seconds) == (7, 4.25)
    assert found.history.table.column_names == ["depth", "step", "seconds"]
    assert found.history["step"] == [0, 4, 4, 7]
    assert found.history["seconds"] == [0.0, 2.0, 3.0, 4.0]
    assert found.history["depth"] == [2] * 4
