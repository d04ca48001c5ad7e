"""fit: its steps, what it records, and why it stops."""

from __future__ import annotations

import math
import signal
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast import Observations, reference
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.optim import GroupRMSprop
from dmf_fast.training import FitOptions, Progress, fit

SHAPE = (9, 7)


def problem(seed: int = 0, *, noise: float = 0.0) -> tuple[Observations, Observations, Tensor]:
    """Train and other entries of a matrix of rank 1, and the matrix."""
    generator = torch.Generator().manual_seed(seed)
    left, right = torch.randn(9, 1, generator=generator), torch.randn(1, 7, generator=generator)
    truth = (left @ right).double()
    noisy = truth + noise * torch.randn(SHAPE, generator=generator, dtype=torch.float64)
    chosen = torch.rand(SHAPE, generator=generator) < 0.6
    train, other = (
        Observations(*mask.nonzero(as_tuple=True), noisy[mask], SHAPE) for mask in (chosen, ~chosen)
    )
    return train, other, truth


def make_model(seed: int = 0, **options: Any) -> DeepMatrixFactorization:
    return DeepMatrixFactorization(SHAPE, 2, 4, 0.5, seed=seed, dtype=torch.float64, **options)


def gradient_descent(model: DeepMatrixFactorization, lr: float = 0.2) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr)


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_run_is_gradient_descent_and_records_the_mean_loss_before_each_update(reduction: Any) -> None:
    train, _, _ = problem()
    model, lr = make_model(), 0.2 if reduction == "mean" else 0.2 / len(problem()[0])
    factors = [factor.detach().clone().requires_grad_() for factor in model.factors]
    losses = []
    for _ in range(11):
        loss = reference.completion_loss(factors, train.rows, train.columns, train.values, None, "mean")
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, factors)
        if len(losses) < 11:
            factors = [
                (f - 0.2 * g).detach().requires_grad_() for f, g in zip(factors, gradients, strict=True)
            ]
    options = FitOptions(steps=10, evaluate_every=1, reduction=reduction)
    result = fit(model, train, gradient_descent(model, lr), options)
    assert result.history["train_loss"].to_pylist() == pytest.approx(losses, rel=1e-10)
    assert result.history["step"].to_pylist() == list(range(11))
    for own, expected in zip(model.factors, factors, strict=True):
        torch.testing.assert_close(own.detach(), expected.detach(), rtol=1e-9, atol=1e-12)
    assert (result.steps, result.stopped_because, result.best_step) == (10, "steps", None)


def test_a_row_measures_the_model_of_its_step() -> None:
    train, other, truth = problem()
    model = make_model(bias=True)
    model.mean.fill_(0.3)
    seen = []

    def look(progress: Progress) -> None:
        dense = model.product() + 0.3 + model.row_bias[:, None] + model.column_bias[None, :]
        gaps = (dense.detach() - truth)[other.rows, other.columns]
        seen.append(
            {
                "step": progress.step,
                "test_rmse": float(gaps.square().mean().sqrt()),
                "reconstruction_mse": float((dense.detach() - truth).square().mean()),
                "singular_value_1": float(torch.linalg.svdvals(model.product().detach())[0]),
                "singular_value_2": float(torch.linalg.svdvals(model.product().detach())[1]),
            }
        )

    options = FitOptions(steps=25, evaluate_every=10, record_singular_values=2)
    history = fit(
        model, train, gradient_descent(model), options, test=other, truth=truth, callbacks=[look]
    ).history
    assert history["step"].to_pylist() == [0, 10, 20, 25]
    assert history["validation_rmse"].null_count == 4
    for row, expected in zip(history.to_pylist(), seen, strict=True):
        for name, value in expected.items():
            assert row[name] == pytest.approx(value, rel=1e-9)
    seconds = history["seconds"].to_pylist()
    assert seconds == sorted(seconds)


def test_no_more_singular_values_are_recorded_than_there_are() -> None:
    train, _, _ = problem()
    model = make_model()
    history = fit(
        model, train, gradient_descent(model), FitOptions(steps=1, record_singular_values=50)
    ).history
    names = [name for name in history.column_names if name.startswith("singular_value_")]
    assert len(names) == 7


def test_it_stops_at_the_first_step_whose_loss_is_at_the_threshold() -> None:
    train, _, _ = problem()
    every = make_model()
    losses = fit(every, train, gradient_descent(every), FitOptions(steps=300, evaluate_every=1)).history
    below = [loss <= 0.05 for loss in losses["train_loss"].to_pylist()]
    model = make_model()
    options = FitOptions(steps=300, evaluate_every=100, train_loss_threshold=0.05)
    result = fit(model, train, gradient_descent(model), options)
    assert result.stopped_because == "train_loss_threshold"
    assert result.steps == below.index(True)
    assert model.loss(train).item() <= 0.05
    assert result.history["step"].to_pylist()[-1] == result.steps


def test_the_state_of_the_best_validation_is_restored() -> None:
    train, other, _ = problem(noise=1.0)
    model = make_model()
    states = {}

    def keep(progress: Progress) -> None:
        states[progress.step] = [factor.detach().clone() for factor in progress.model.factors]

    options = FitOptions(steps=2000, evaluate_every=20)
    result = fit(model, train, gradient_descent(model), options, validation=other, callbacks=[keep])
    errors = result.history["validation_rmse"].to_pylist()
    steps = result.history["step"].to_pylist()
    assert 0 < result.best_step < 2000
    assert result.best_step == steps[errors.index(min(errors))]
    for factor, kept in zip(model.factors, states[result.best_step], strict=True):
        assert torch.equal(factor, kept)


def test_patience_counts_evaluations_without_a_better_validation() -> None:
    train, other, _ = problem(noise=1.0)
    model = make_model()
    options = FitOptions(steps=2000, evaluate_every=20, patience=3)
    result = fit(model, train, gradient_descent(model), options, validation=other)
    assert result.stopped_because == "patience"
    errors = result.history["validation_rmse"].to_pylist()
    assert errors.index(min(errors)) == len(errors) - 4
    assert result.steps == result.best_step + 3 * 20


def test_a_callback_that_returns_true_ends_the_run() -> None:
    train, _, _ = problem()
    model = make_model()
    result = fit(
        model,
        train,
        gradient_descent(model),
        FitOptions(steps=100, evaluate_every=10),
        callbacks=[lambda progress: progress.step == 30, lambda progress: None],
    )
    assert (result.stopped_because, result.steps) == ("callback", 30)


def test_a_run_that_diverges_stops_and_says_so() -> None:
    train, _, _ = problem()
    model = make_model()
    options = FitOptions(steps=1000, evaluate_every=5, record_singular_values=2)
    result = fit(model, train, gradient_descent(model, lr=100.0), options)
    assert result.stopped_because == "diverged"
    assert result.steps < 1000
    last = result.history.to_pylist()[-1]
    assert not math.isfinite(last["train_loss"])
    assert last["singular_value_1"] is None


def test_seconds_end_the_run() -> None:
    train, _, _ = problem()
    model = make_model()
    result = fit(model, train, gradient_descent(model), FitOptions(max_seconds=0.05, evaluate_every=10**6))
    assert result.stopped_because == "max_seconds"
    assert 0 < result.steps < 10_000


def test_no_steps_only_measure() -> None:
    train, _, _ = problem()
    model = make_model()
    before = [factor.detach().clone() for factor in model.factors]
    result = fit(model, train, gradient_descent(model), FitOptions(steps=0))
    assert (len(result.history), result.steps, result.stopped_because) == (1, 0, "steps")
    assert all(torch.equal(one, other) for one, other in zip(before, model.factors, strict=True))


@pytest.fixture
def python_handles_interrupts() -> Iterator[None]:
    """Python's own handler, also where the tests run in the background and SIGINT is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def interrupt_by_signal(progress: Progress) -> None:
    if progress.step == 20:
        signal.raise_signal(signal.SIGINT)


def interrupt_by_exception(progress: Progress) -> None:
    if progress.step == 20:
        raise KeyboardInterrupt


@pytest.mark.usefixtures("python_handles_interrupts")
@pytest.mark.parametrize(("interrupt", "steps"), [(interrupt_by_signal, 21), (interrupt_by_exception, 20)])
def test_an_interrupted_run_returns_what_it_has(interrupt: Any, steps: int) -> None:
    train, _, _ = problem()
    model = make_model()
    options = FitOptions(steps=100, evaluate_every=10)
    result = fit(model, train, gradient_descent(model), options, callbacks=[interrupt])
    assert (result.stopped_because, result.steps) == ("interrupted", steps)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.usefixtures("python_handles_interrupts")
def test_a_second_interrupt_is_raised_at_once() -> None:
    train, _, _ = problem()
    model = make_model()

    def interrupt_twice(progress: Progress) -> None:
        interrupt_by_signal(progress)
        interrupt_by_signal(progress)

    caught = []

    def outside(progress: Progress) -> None:
        try:
            interrupt_twice(progress)
        except KeyboardInterrupt:
            caught.append(progress.step)
            raise RuntimeError("seen") from None

    with pytest.raises(RuntimeError, match="seen"):
        fit(model, train, gradient_descent(model), FitOptions(evaluate_every=10), callbacks=[outside])
    assert caught == [20]


def test_gradients_are_clipped_to_the_norm_asked_for() -> None:
    train, _, _ = problem()
    model = make_model()
    before = torch.cat([factor.detach().flatten().clone() for factor in model.factors])
    fit(model, train, gradient_descent(model, 1.0), FitOptions(steps=1, gradient_clip=1e-3))
    after = torch.cat([factor.detach().flatten() for factor in model.factors])
    assert float((after - before).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_the_seed_governs_what_callbacks_draw_and_leaves_the_generator_outside_alone() -> None:
    train, _, _ = problem()

    def draws() -> list[float]:
        drawn: list[float] = []
        model = make_model()
        options = FitOptions(steps=20, evaluate_every=10, seed=4)
        fit(
            model,
            train,
            gradient_descent(model),
            options,
            callbacks=[lambda _: drawn.append(float(torch.rand(())))],
        )
        return drawn

    before = torch.get_rng_state()
    first = draws()
    assert torch.equal(torch.get_rng_state(), before)
    assert draws() == first
    assert len(set(first)) == 3


def test_the_loss_is_read_only_at_evaluations(monkeypatch: pytest.MonkeyPatch) -> None:
    train, _, _ = problem()
    model = make_model(bias=True)
    reads = []
    item = Tensor.item
    monkeypatch.setattr(Tensor, "item", lambda tensor: reads.append(1) or item(tensor))
    fit(model, train, GroupRMSprop(model.parameters(), 0.01), FitOptions(steps=50, evaluate_every=25))
    assert len(reads) == 3


def test_progress_goes_to_standard_error_where_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    train, _, _ = problem()
    for progress in (None, False):
        model = make_model()
        fit(model, train, gradient_descent(model), FitOptions(steps=3, progress=progress))
    assert capsys.readouterr() == ("", "")
    model = make_model()
    fit(model, train, gradient_descent(model), FitOptions(steps=3, progress=True))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3/3" in captured.err


def test_group_rmsprop_from_a_small_start_recovers_a_matrix_of_rank_one() -> None:
    train, _, truth = problem()
    model = DeepMatrixFactorization(SHAPE, 3, 7, 1e-4, seed=0, dtype=torch.float64)
    options = FitOptions(steps=5000, train_loss_threshold=1e-8)
    result = fit(model, train, GroupRMSprop(model.parameters(), 3e-3), options, truth=truth)
    assert result.history["reconstruction_mse"].to_pylist()[-1] < 1e-4


@pytest.mark.parametrize(
    ("option", "value", "error"),
    [
        ("steps", -1, ValueError),
        ("steps", 1.5, TypeError),
        ("evaluate_every", 0, ValueError),
        ("patience", 0, ValueError),
        ("record_singular_values", -1, ValueError),
        ("checkpoint_every", 0, ValueError),
        ("reduction", "none", ValueError),
        ("train_loss_threshold", -1.0, ValueError),
        ("train_loss_threshold", math.nan, ValueError),
        ("gradient_clip", 0.0, ValueError),
        ("max_seconds", math.inf, ValueError),
        ("seed", -3, ValueError),
    ],
)
def test_an_option_out_of_range_is_named(option: str, value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match=option):
        FitOptions(**{option: value})


def test_data_that_do_not_fit_are_named() -> None:
    train, other, truth = problem()
    model = make_model()
    optimizer = gradient_descent(model)
    empty = Observations([], [], [], SHAPE, dtype=torch.float64)
    with pytest.raises(ValueError, match="train must hold"):
        fit(model, empty, optimizer)
    with pytest.raises(ValueError, match="validation must hold"):
        fit(model, train, optimizer, validation=empty)
    with pytest.raises(ValueError, match="test has shape"):
        fit(model, train, optimizer, test=other.transpose())
    with pytest.raises(ValueError, match="truth has shape"):
        fit(model, train, optimizer, truth=truth.T)
    with pytest.raises(ValueError, match="optimizer must hold parameters of the model"):
        fit(model, train, gradient_descent(make_model()))
    with pytest.raises(ValueError, match="resume needs a folder"):
        fit(model, train, optimizer, resume=True)
    with pytest.raises(ValueError, match="checkpoint_every needs a folder"):
        fit(model, train, optimizer, FitOptions(checkpoint_every=3))
