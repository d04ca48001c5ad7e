"""What holds for runs in native code: any memory, models with biases and in scaled coordinates, threads."""

from __future__ import annotations

from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.completion import ScaledFactorization
from dmf_fast.initialization import initialize
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.optim import AdaptiveGradientDescent, GroupRMSprop, OptimizerSpec
from dmf_fast.training import FitOptions, FitResult, Recording, fit
from tests.assertions import assert_close, assert_equal
from tests.problems import Problem, make_problem
from tests.training.runs import FEW_ROWS, RULES, start

NATIVE = FitOptions(steps=30, engine="native")

# The adaptive step amplifies rounding, which differs between processors.
CLOSE = 1e-7


@pytest.mark.parametrize("name", ["momentum", "group RMSprop", "Adam"])
@pytest.mark.usefixtures("descent_plan")
def test_factors_of_any_memory_layout_are_changed_in_place(name: str) -> None:
    problem = make_problem((9, 6, 8, 7), seed=6)
    train = problem.observations()
    plain_ones = start(problem)
    fit(plain_ones, train, RULES[name], NATIVE)

    transposed = [factor.T.contiguous().T for factor in start(problem)]
    padded = [torch.nn.functional.pad(factor, (2, 1, 1, 3), value=7.0) for factor in start(problem)]
    inner = [big[1:-3, 2:-1] for big in padded]
    leaves = [factor.requires_grad_() for factor in start(problem)]
    for factors in (transposed, inner, leaves):
        places = [factor.data_ptr() for factor in factors]
        fit(factors, train, RULES[name], NATIVE)
        assert_equal(factors, plain_ones)
        assert [factor.data_ptr() for factor in factors] == places
    assert all(leaf.requires_grad and leaf.is_leaf and leaf.grad is None for leaf in leaves)
    for big in padded:
        assert (big[0] == 7).all()
        assert (big[:, :2] == 7).all()


def test_indices_of_32_bits_are_the_same_entries() -> None:
    problem = make_problem((9, 6, 8), seed=8)
    narrow = Problem(**{**vars(problem), "rows": problem.rows.int(), "columns": problem.columns.int()})
    results = []
    for one in (problem, narrow):
        results.append(start(one))
        fit(results[-1], one.observations(), RULES["Adam"], NATIVE)
    assert_equal(*results)


@pytest.mark.parametrize("name", RULES)
@pytest.mark.usefixtures("descent_plan")
def test_threads_pieces_and_repetition_change_no_bit(name: str) -> None:
    problem = make_problem((33, 17, 18, 35), density=0.3, weighted=True, seed=9, dtype=torch.float32)
    train, before = problem.observations(), torch.get_num_threads()
    ends = []
    for threads, recording in [
        (1, FEW_ROWS),
        (1, FEW_ROWS),
        (2, FEW_ROWS),
        (1, Recording(every=1)),
        (2, Recording(every=7)),
        (1, Recording()),
    ]:
        torch.set_num_threads(threads)
        ends.append(start(problem, torch.float32))
        fit(ends[-1], train, RULES[name], NATIVE, recording=recording)
    torch.set_num_threads(before)
    for one, other in pairwise(ends):
        assert_equal(one, other)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("rule", [torch.optim.Adam, GroupRMSprop])
def test_a_zero_gradient_moves_nothing_with_the_least_eps(engine: str, rule: Any, dtype: torch.dtype) -> None:
    if engine == "torch":
        pytest.skip("that is torch's own")
    exact = [torch.eye(2, dtype=dtype)]
    train = Observations([0, 1], [0, 1], [1.0, 1.0], dtype=dtype)
    options = FitOptions(steps=5, engine=engine)  # type: ignore[arg-type]
    result = fit(exact, train, partial(rule, lr=0.1, eps=1e-30), options)
    assert result.history["gradient_norm"][-1] == 0
    assert_equal(exact, [torch.eye(2, dtype=dtype)])


TRAIN = make_problem((9, 14), density=0.5, weighted=True, seed=3).observations()
OTHERS = make_problem((9, 14), density=0.3, weighted=True, seed=4).observations()
OF_MODELS: dict[str, Any] = {
    "gradient descent": (torch.optim.SGD, {"lr": 0.05}),
    "momentum": (torch.optim.SGD, {"lr": 0.02, "momentum": 0.9}),
    "group RMSprop": (GroupRMSprop, {"lr": 3e-3}),
    "adaptive": (AdaptiveGradientDescent, {"lr": 0.5}),
    "Adam": (torch.optim.Adam, {"lr": 1e-3}),
}


def spec(name: str) -> OptimizerSpec:
    """The optimizer with decays, those of the biases apart."""
    optimizer, options = OF_MODELS[name]
    return OptimizerSpec(optimizer, options | {"weight_decay": 0.02}, {"weight_decay": 0.1})


def plain_model(depth: int, bias: bool) -> DeepMatrixFactorization:
    hidden = 5 if depth > 1 else None
    return DeepMatrixFactorization((14, 9), depth, hidden, 0.5, bias=bias, seed=0, dtype=torch.float64)


def scaled_model(depth: int, bias: bool) -> ScaledFactorization:
    scales = (torch.linspace(0.5, 2.0, 14), torch.linspace(1.5, 0.4, 9))
    dims = (9, *[5] * (depth - 1), 14)
    factors = initialize("gaussian", dims, 0.5, seed=0, dtype=torch.float64)
    return ScaledFactorization(factors, *scales, 1.3, (0.5, 0.5) if bias else None)


def both(
    make: Any, depth: int, bias: bool, name: str, mean: float = 0.7, **options: Any
) -> list[tuple[list[Tensor], FitResult]]:
    """Train one model by native code and by torch."""
    ends = []
    for engine in ("native", "torch"):
        model = make(depth, bias)
        model.mean.fill_(mean)
        for place, side in enumerate(model.biases):
            side.data.copy_(torch.linspace(-0.3, 0.4 + place, len(side)))
        given = FitOptions(steps=60, engine=engine, **options)
        recording = Recording(every=20, singular_values=2, spectrum=True, balancedness=True)
        truth = torch.linspace(-1, 1, 14 * 9, dtype=torch.float64).view(14, 9)
        result = fit(
            model, TRAIN, spec(name), given,
            recording=recording, validation=OTHERS, test=TRAIN, truth=truth,
        )  # fmt: skip
        assert result.engine == engine
        ends.append(([parameter.detach() for parameter in model.parameters()], result))
    return ends


def assert_rows_close(one: FitResult, other: FitResult) -> None:
    for mine, theirs in zip(one.history.table.to_pylist(), other.history.table.to_pylist(), strict=True):
        assert mine.pop("seconds") >= 0 <= theirs.pop("seconds")
        assert mine == pytest.approx(theirs, rel=CLOSE, abs=1e-10)


@pytest.mark.parametrize(
    ("make", "depth", "name"),
    [(plain_model, depth, name) for depth in (1, 2, 3) for name in OF_MODELS]
    + [(scaled_model, depth, name) for depth in (2, 3) for name in OF_MODELS if name != "Adam"],
)
@pytest.mark.usefixtures("descent_plan")
def test_models_are_trained_and_measured_as_by_torch(make: Any, depth: int, name: str) -> None:
    for bias, reduction in ((True, "mean"), (False, "mean"), (True, "sum")):
        if reduction == "sum" and name in ("gradient descent", "momentum"):
            continue  # the learning rate is for means
        (native, ours), (torchs, theirs) = both(make, depth, bias, name, reduction=reduction)
        assert_close(native, torchs, CLOSE)
        assert_rows_close(ours, theirs)
        assert ours.best_step == theirs.best_step


@pytest.mark.parametrize("make", [plain_model, scaled_model])
@pytest.mark.parametrize("name", ["momentum", "group RMSprop", "adaptive"])
def test_gradients_are_clipped_as_by_torch(make: Any, name: str) -> None:
    (native, ours), (torchs, theirs) = both(make, 2, True, name, gradient_clip=0.05)
    assert_close(native, torchs, CLOSE)
    assert_rows_close(ours, theirs)
    (unclipped, _), _ = both(make, 2, True, name)
    if name != "adaptive":  # whose step grows as its gradients shrink
        assert max(float((a - b).abs().max()) for a, b in zip(native, unclipped, strict=True)) > 1e-3


@pytest.mark.parametrize("make", [plain_model, scaled_model])
@pytest.mark.parametrize("name", ["momentum", "group RMSprop", "adaptive"])
def test_threads_change_no_bit_of_a_model_and_its_errors(make: Any, name: str) -> None:
    before, ends = torch.get_num_threads(), []
    for threads in (1, 2):
        torch.set_num_threads(threads)
        ends.append(both(make, 3, True, name)[0])
    torch.set_num_threads(before)
    assert_equal(ends[0][0], ends[1][0])
    assert (
        ends[0][1]
        .history.table.drop_columns("seconds")
        .equals(ends[1][1].history.table.drop_columns("seconds"))
    )


def test_the_mean_is_added_and_not_learnt() -> None:
    (native, ours), (torchs, theirs) = both(plain_model, 2, False, "Adam", mean=2.0)
    assert_close(native, torchs, CLOSE)
    (without, _), _ = both(plain_model, 2, False, "Adam", mean=0.0)
    assert not torch.allclose(native[0], without[0], atol=1e-3)
    assert_rows_close(ours, theirs)
