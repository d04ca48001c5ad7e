"""Batched runs against a plain loop over autograd and the torch optimizer, and against each other."""

from __future__ import annotations

import math
import signal
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast import reference
from dmf_fast.chain import chain_product
from dmf_fast.experiments import low_rank_problem
from dmf_fast.experiments.recovery.sensing_descent import batched_gradient_descent
from dmf_fast.initialization import initialize
from dmf_fast.optim import GroupRMSprop
from dmf_fast.sensing import Measurements, gaussian_measurements, sensing_loss

Optimizer = Callable[..., torch.optim.Optimizer]

ROWS, COLUMNS = 7, 5
# Depths mixed, those of equal shapes apart, widths below and above those of the matrix.
HIDDEN = [(4,), (), (6, 3), (4,), (8, 8, 8), (9,), (6, 3)]
OPTIMIZERS = [
    partial(GroupRMSprop, lr=3e-3),
    partial(GroupRMSprop, lr=1e-2, alpha=0.9, eps=1e-3, weight_decay=0.05),
]


def assert_close(actual: Sequence[Tensor], expected: Sequence[Tensor], tolerance: float) -> None:
    torch.testing.assert_close(list(actual), list(expected), rtol=0.0, atol=tolerance, check_dtype=False)


def assert_equal(actual: Sequence[Tensor], expected: Sequence[Tensor]) -> None:
    assert all(torch.equal(one, other) for one, other in zip(actual, expected, strict=True))


@pytest.fixture
def measurements() -> Measurements:
    truth = low_rank_problem(ROWS, COLUMNS, rank=2, observed=1, seed=0, dtype=torch.float64).truth
    return gaussian_measurements(truth, 30, seed=1)


def chains(dtype: torch.dtype = torch.float64, init_scale: float = 0.3) -> list[list[Tensor]]:
    dims = [(COLUMNS, *hidden, ROWS) for hidden in HIDDEN]
    return [
        initialize("gaussian", one, init_scale, seed=place, dtype=dtype) for place, one in enumerate(dims)
    ]


def plain_descent(
    chain: Sequence[Tensor], measurements: Measurements, optimizer: Optimizer, steps: int
) -> tuple[list[Tensor], float]:
    """The oracle: the factors after so many steps, and their loss."""
    factors = [factor.clone().requires_grad_() for factor in chain]
    torch_optimizer = optimizer(factors)

    def loss() -> Tensor:
        torch_optimizer.zero_grad()
        residuals = torch.einsum("kij,ij->k", measurements.matrices, reference.chain_product(factors))
        return (residuals - measurements.values).square().mean()

    for _ in range(steps):
        loss().backward()
        torch_optimizer.step()
    return [factor.detach() for factor in factors], loss().item()


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_run_is_that_of_a_plain_loop(optimizer: Optimizer, measurements: Measurements) -> None:
    runs = batched_gradient_descent(chains(), measurements, optimizer, steps=200)

    for chain, run in zip(chains(), runs, strict=True):
        expected, loss = plain_descent(chain, measurements, optimizer, 200)
        assert_close(run.factors, expected, 1e-9)
        assert run.train_loss == pytest.approx(loss, rel=1e-9)
        assert (run.stopped_because, run.steps) == ("steps", 200)


def test_a_run_ends_at_the_first_step_that_is_good_enough(measurements: Measurements) -> None:
    optimizer, threshold = partial(GroupRMSprop, lr=1e-2), 0.05
    runs = batched_gradient_descent(chains(), measurements, optimizer, train_loss_threshold=threshold)

    assert len({run.steps for run in runs}) > 3
    for chain, run in zip(chains(), runs, strict=True):
        factors, loss = plain_descent(chain, measurements, optimizer, run.steps)
        assert run.stopped_because == "train_loss_threshold"
        assert run.train_loss <= threshold < plain_descent(chain, measurements, optimizer, run.steps - 1)[1]
        assert run.train_loss == pytest.approx(loss, rel=1e-6)
        assert_close(run.factors, factors, 1e-6)


def test_a_run_does_not_depend_on_the_other_runs_of_its_batch(measurements: Measurements) -> None:
    optimizer = partial(GroupRMSprop, lr=1e-2)
    # Most end early and leave the batch; the one of depth 1 does not.
    together = batched_gradient_descent(
        chains(), measurements, optimizer, steps=600, train_loss_threshold=0.05
    )
    assert {run.stopped_because for run in together} == {"steps", "train_loss_threshold"}

    for chain, run in zip(chains(), together, strict=True):
        (alone,) = batched_gradient_descent(
            [chain], measurements, optimizer, steps=600, train_loss_threshold=0.05
        )
        assert (alone.steps, alone.stopped_because) == (run.steps, run.stopped_because)
        assert_close(run.factors, alone.factors, 1e-9)


def test_a_run_fits_as_many_of_the_first_measurements_as_it_is_told(measurements: Measurements) -> None:
    optimizer, threshold = partial(GroupRMSprop, lr=1e-2), 0.02
    counts = [12, 30, 5, 20, 7, 12, 9]
    together = batched_gradient_descent(
        chains(), measurements, optimizer, counts=counts, steps=400, train_loss_threshold=threshold
    )
    # Some leave early, so that fewer measurements are left in the batch.
    assert {run.stopped_because for run in together} == {"steps", "train_loss_threshold"}

    for chain, count, run in zip(chains(), counts, together, strict=True):
        first = Measurements(measurements.matrices[:count], measurements.values[:count])
        factors, loss = plain_descent(chain, first, optimizer, run.steps)
        assert run.train_loss == pytest.approx(loss, rel=1e-6)
        assert_close(run.factors, factors, 1e-6)


def test_a_run_that_diverges_leaves_the_others_alone(measurements: Measurements) -> None:
    broken = [factor * 1e200 for factor in chains()[0]]
    first, diverged, last = batched_gradient_descent(
        [chains()[0], broken, chains()[4]], measurements, OPTIMIZERS[0], steps=50
    )
    alone = batched_gradient_descent([chains()[0], chains()[4]], measurements, OPTIMIZERS[0], steps=50)

    assert (diverged.stopped_because, diverged.steps) == ("diverged", 0)
    assert not math.isfinite(diverged.train_loss)
    assert_equal(diverged.factors, broken)
    assert_close(first.factors, alone[0].factors, 1e-9)
    assert_close(last.factors, alone[1].factors, 1e-9)


def test_a_run_that_explodes_is_marked(measurements: Measurements) -> None:
    huge = partial(GroupRMSprop, lr=1e200)
    runs = batched_gradient_descent(chains(), measurements, huge, steps=50, train_loss_threshold=0.0)

    assert {run.stopped_because for run in runs} == {"diverged"}


def test_starts_are_left_as_they_are_and_results_have_memory_of_their_own(measurements: Measurements) -> None:
    given = chains()
    runs = batched_gradient_descent(given, measurements, OPTIMIZERS[0], steps=0)

    for chain, before, run in zip(given, chains(), runs, strict=True):
        assert_equal(chain, before)
        assert_equal(run.factors, before)
        assert all(factor.is_contiguous() for factor in run.factors)
        run.factors[0].zero_()
        assert_equal(chain, before)
        assert run.train_loss == pytest.approx(float(sensing_loss(chain_product(before), measurements)))


def test_a_start_that_is_good_enough_makes_no_step(measurements: Measurements) -> None:
    (run,) = batched_gradient_descent(chains()[:1], measurements, OPTIMIZERS[0], train_loss_threshold=1e3)

    assert (run.steps, run.stopped_because) == (0, "train_loss_threshold")


def test_float32_runs_alike(measurements: Measurements) -> None:
    single = Measurements(measurements.matrices.float(), measurements.values.float())
    runs = batched_gradient_descent(chains(torch.float32), single, OPTIMIZERS[0], steps=100)

    for run, exact in zip(
        runs, batched_gradient_descent(chains(), measurements, OPTIMIZERS[0], steps=100), strict=True
    ):
        assert run.factors[0].dtype == torch.float32
        assert_close(run.factors, exact.factors, 1e-3)


def test_who_asks_may_interrupt(measurements: Measurements) -> None:
    answers = iter([False, False, True, True])
    runs = batched_gradient_descent(chains(), measurements, OPTIMIZERS[0], interrupted=lambda: next(answers))

    assert {(run.stopped_because, run.steps) for run in runs} == {("interrupted", 2)}


def test_ctrl_c_ends_all_runs_before_their_next_step(measurements: Measurements) -> None:
    def press() -> bool:
        signal.raise_signal(signal.SIGINT)
        return False

    runs = batched_gradient_descent(chains(), measurements, OPTIMIZERS[0], interrupted=press)

    assert {(run.stopped_because, run.steps) for run in runs} == {("interrupted", 1)}


def test_no_runs_give_no_results(measurements: Measurements) -> None:
    assert batched_gradient_descent([], measurements, OPTIMIZERS[0]) == []


def test_a_deep_factorization_recovers_a_matrix_of_rank_one() -> None:
    truth = low_rank_problem(12, 12, rank=1, observed=1, seed=0).truth
    start = initialize("gaussian", (12, 12, 12, 12), 1e-4, seed=100)
    (run,) = batched_gradient_descent(
        [start],
        gaussian_measurements(truth, 50, seed=1),
        partial(GroupRMSprop, lr=1e-2),
        train_loss_threshold=1e-5,
    )

    assert run.stopped_because == "train_loss_threshold"
    assert float((chain_product(run.factors) - truth).square().mean()) < 2e-4


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"chains": [torch.ones(7, 5)]}, TypeError, r"`chains\[0\]`: `factors` must be a sequence"),
        (
            {"chains": [[torch.ones(7, 5)]]},
            TypeError,
            r"`chains\[0\]` must have the dtype .* got torch.float32",
        ),
        (
            {"chains": [[torch.ones(5, 7).double()]]},
            ValueError,
            r"`chains\[0\]` must multiply to .* \(7, 5\), got \(5, 7\)",
        ),
        (
            {"chains": [[torch.ones(7, 5, device="meta").double()]]},
            ValueError,
            r"`chains\[0\]` must be on the device",
        ),
        (
            {"optimizer": torch.optim.SGD},
            TypeError,
            "`optimizer` must be a functools.partial of dmf_fast.optim",
        ),
        ({"counts": [30]}, ValueError, "`counts` must have one number for each of the 7 chains, got 1"),
        ({"counts": [0] * 7}, ValueError, r"`counts\[0\]` must be at least 1"),
        ({"counts": [30] * 6 + [31]}, ValueError, r"`counts\[6\]` must be .*at most 30, got 31"),
        ({"steps": -1}, ValueError, "`steps` must be at least 0, got -1"),
        ({"train_loss_threshold": math.nan}, ValueError, "`train_loss_threshold` must be finite, got nan"),
        ({"train_loss_threshold": -1.0}, ValueError, "`train_loss_threshold` must be at least 0, got -1.0"),
    ],
)
def test_what_makes_no_sense_is_refused(
    changes: dict[str, Any], error: type[Exception], message: str, measurements: Measurements
) -> None:
    arguments: dict[str, Any] = {"chains": chains(), "measurements": measurements, "optimizer": OPTIMIZERS[0]}
    with pytest.raises(error, match=message):
        batched_gradient_descent(**arguments | changes)
