"""What a run records: every row measures the state of its step, as computed again independently."""

from __future__ import annotations

import math
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from dmf_fast import Observations, reference
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.training import FitOptions, FitResult, Progress, Recording, fit
from tests import problems
from tests.assertions import assert_close, assert_equal
from tests.problems import make_problem
from tests.training.runs import PLAIN, RULES, others, plain_loop, problem, run, start

EVERYTHING = Recording(singular_values=None, spectrum=True, balancedness=True)


def recorded(engine: str, steps: int = 100, **rest: Any) -> tuple[FitResult, dict[int, list[Tensor]]]:
    """Run with momentum and return, besides the result, the factors that every callback saw."""
    states: dict[int, list[Tensor]] = {}

    def keep(progress: Progress) -> None:
        states[progress.step] = [factor.cpu() for factor in progress.factors]

    return run(engine, steps, callbacks=[keep], **rest)[1], states


def measured(
    factors: list[Tensor], validation: Observations, test: Observations, truth: Tensor
) -> dict[str, Any]:
    """Every column but step and seconds, by NumPy and autograd."""
    leaves = [factor.clone().requires_grad_() for factor in factors]
    train = problem().observations().to("cpu")
    loss = reference.completion_loss(leaves, *train.coordinates(), train.values, train.weights)
    gradients = torch.autograd.grad(loss, leaves)
    arrays = [factor.numpy() for factor in factors]
    product = arrays[2] @ arrays[1] @ arrays[0]
    values = np.linalg.svd(product, compute_uv=False)
    shares = values[:4] / values[:4].sum()  # beyond the narrowest width they are zero
    gaps = [np.linalg.norm(outer.T @ outer - inner @ inner.T) for inner, outer in pairwise(arrays)]

    def rmse(observations: Observations) -> float:
        rows, columns = observations.coordinates()
        errors = product[rows.numpy(), columns.numpy()] - observations.values.numpy()
        return math.sqrt(np.average(errors**2, weights=observations.weights.numpy()))

    return {
        "train_loss": loss.item(),
        "validation_rmse": rmse(validation),
        "test_rmse": rmse(test),
        "reconstruction_mse": ((product - truth.numpy()) ** 2).mean(),
        "gradient_norm": math.sqrt(sum(gradient.square().sum().item() for gradient in gradients)),
        "parameter_norm": math.sqrt(sum((array**2).sum() for array in arrays)),
        "effective_rank": math.exp(-(shares * np.log(shares)).sum()),
        "nuclear_norm": values.sum(),
        "schatten_norm": (values[:4] ** (2 / 3)).sum() ** (3 / 2),
        "balancedness": max(gaps),
    } | {f"singular_value_{place}": value for place, value in enumerate(values, start=1)}


@pytest.mark.usefixtures("descent_plan")
def test_every_row_of_native_code_measures_the_state_of_its_step(kernels: str) -> None:
    assert_rows_are_measured(kernels)


def test_every_row_measures_the_state_of_its_step(engine: str) -> None:
    assert_rows_are_measured(engine)


def assert_rows_are_measured(engine: str) -> None:
    validation, test = others(2), others(3)
    truth = torch.from_numpy(np.random.default_rng(4).standard_normal((8, 9)))
    given = {"recording": EVERYTHING, "validation": validation, "test": test, "truth": truth}
    result, states = recorded(engine, **given)
    rows = result.history.table.to_pylist()
    steps = [row.pop("step") for row in rows]
    seconds = [row.pop("seconds") for row in rows]
    assert steps == list(states)
    assert seconds == sorted(seconds)
    assert result.seconds >= seconds[-1] > 0
    plain = plain_loop(problem().factors, problem().observations(), RULES["momentum"], steps)
    for row, state, expected in zip(rows, states.values(), plain, strict=True):
        assert_close(state, expected, 1e-9)
        wanted = measured(state, validation.to("cpu"), test.to("cpu"), truth)
        assert list(row) == list(wanted)
        for name, value in wanted.items():
            assert row[name] == pytest.approx(value, rel=1e-10, abs=1e-12), name


def test_a_row_of_a_model_measures_its_biases_and_mean_too() -> None:
    train, other = problem().observations(), others()
    truth = torch.from_numpy(np.random.default_rng(4).standard_normal((8, 9)))
    rows = []
    for engine in ("native", "torch"):
        model = DeepMatrixFactorization((8, 9), 2, 4, 0.5, bias=True, seed=0, dtype=torch.float64)
        model.mean.fill_(0.3)

        def look(progress: Progress, model: DeepMatrixFactorization = model) -> None:
            assert model.row_bias is not None
            assert model.column_bias is not None
            dense = (model.product() + 0.3 + model.row_bias[:, None] + model.column_bias).detach()
            gaps = (dense[other.coordinates()] - other.values).square()
            rows.append(
                {
                    "step": progress.step,
                    "test_rmse": float((other.weights * gaps).sum() / other.weights.sum()) ** 0.5,
                    "reconstruction_mse": float((dense - truth).square().mean()),
                    "singular_value_1": float(torch.linalg.svdvals(model.product().detach())[0]),
                }
            )

        options = FitOptions(steps=25, engine=engine)  # type: ignore[arg-type]
        recording = Recording(every=10, singular_values=2)
        history = fit(
            model, train, PLAIN["momentum"], options,
            recording=recording, test=other, truth=truth, callbacks=[look],
        ).history  # fmt: skip
        assert history["step"] == [0, 10, 20, 25]
        assert np.isnan(history["validation_rmse"]).all()
        for row, expected in zip(history.table.to_pylist(), rows[-4:], strict=True):
            for name, value in expected.items():
                assert row[name] == pytest.approx(value, rel=1e-9), (engine, name)


@pytest.mark.parametrize(
    ("recording", "steps"),
    [
        (Recording(per_decade=3), [0, 1, 2, 5, 10, 22, 46, 100, 215, 300]),
        (Recording(every=100), [0, 100, 200, 300]),
        (Recording(every=70), [0, 70, 140, 210, 280, 300]),
        (Recording(every=1000), [0, 300]),
    ],
)
def test_rows_come_at_the_scheduled_steps_and_at_the_end(recording: Recording, steps: list[int]) -> None:
    result, states = recorded("auto", 300, recording=recording)
    assert result.history["step"] == steps == list(states)


def test_no_step_at_all_records_the_start(engine: str) -> None:
    result, states = recorded(engine, 0)
    assert (result.steps, result.stopped_because, list(states)) == (0, "steps", [0])
    assert_equal(states[0], [factor.cpu() for factor in start(problem())])


@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_loss_is_the_mean_and_the_gradient_that_of_the_reduction(engine: str, reduction: Any) -> None:
    row = run(engine, 0, reduction=reduction)[1].history.table.to_pylist()[0]
    given = problem()
    assert row["train_loss"] == pytest.approx(given.reference_loss("mean").item(), rel=1e-13)
    gradients = torch.autograd.grad(given.reference_loss(reduction), given.factors)
    norm = math.hypot(*(gradient.norm().item() for gradient in gradients))
    assert row["gradient_norm"] == pytest.approx(norm, rel=1e-13)


def test_weight_decay_is_no_part_of_loss_and_gradient_norm(engine: str) -> None:
    rows = [
        run(engine, 0, optimizer=partial(torch.optim.SGD, lr=1.0, weight_decay=decay))[1]
        .history.table.drop_columns("seconds")
        .to_pylist()
        for decay in (0.0, 5.0)
    ]
    assert rows[0] == rows[1]


@pytest.mark.parametrize("scale", [1e-25, 1.0, 1e22])
def test_the_norm_of_tiny_and_huge_gradients_is_right_in_float32(kernels: str, scale: float) -> None:
    given = make_problem((40, 30), pattern="full", seed=5, dtype=torch.float32)
    train = given.observations().with_values(given.values * scale)
    factors, still = [torch.zeros(30, 40, device=problems.DEVICE)], partial(torch.optim.SGD, lr=0.0)
    _, result = run(kernels, 0, factors=factors, train=train, dtype=torch.float32, optimizer=still)
    expected = 2 * (given.values.double() * scale).norm().item() / len(train)
    assert result.history["gradient_norm"][0] == pytest.approx(expected, rel=1e-5, abs=0)


def test_what_a_callback_does_to_its_factors_does_not_reach_the_run(engine: str) -> None:
    def damage(progress: Progress) -> None:
        for factor in progress.factors:
            factor.fill_(math.nan)

    damaged, left_alone = (
        run(engine, 50, validation=others(), callbacks=callbacks)[0] for callbacks in ([damage], [])
    )
    assert_equal(damaged, left_alone)


def test_callbacks_see_the_rows_of_the_history_in_their_order(engine: str) -> None:
    seen: list[Any] = []
    callbacks = [
        lambda progress: seen.append(("first", progress.row)),
        lambda progress: seen.append("second"),
    ]
    _, result = run(engine, 20, callbacks=callbacks)
    assert seen == [one for row in result.history.table.to_pylist() for one in (("first", row), "second")]


def test_progress_goes_to_standard_error_where_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    for progress in (None, False):
        run("auto", 3, progress=progress)
    assert capsys.readouterr() == ("", "")
    run("auto", 3, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "3.00/3.00" in captured.err


def test_the_seed_governs_what_callbacks_draw_and_leaves_the_generator_outside_alone(engine: str) -> None:
    def draws() -> list[float]:
        drawn: list[float] = []
        run(engine, 20, seed=4, callbacks=[lambda _: drawn.append(float(torch.rand(())))])
        return drawn

    before = torch.get_rng_state()
    first = draws()
    assert torch.equal(torch.get_rng_state(), before)
    assert draws() == first
    assert len(set(first)) == 3


def test_group_rmsprop_from_a_small_start_recovers_a_matrix_of_rank_one() -> None:
    generator = torch.Generator().manual_seed(0)
    truth = torch.randn(9, 1, generator=generator).double() @ torch.randn(1, 7, generator=generator).double()
    rows, columns = (torch.rand(9, 7, generator=generator) < 0.6).nonzero(as_tuple=True)
    train = Observations(rows, columns, truth[rows, columns], (9, 7))
    model = DeepMatrixFactorization((9, 7), 3, 7, 1e-4, seed=0, dtype=torch.float64)
    options = FitOptions(steps=5000, train_loss_threshold=1e-8)
    result = fit(model, train, PLAIN["group RMSprop"], options, truth=truth)
    assert result.history["reconstruction_mse"][-1] < 1e-4
