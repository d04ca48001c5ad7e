"""Modes and settings of torch in a user's program: nothing here depends on them."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn.utils import parametrize

import dmf_fast
from dmf_fast import Observations
from dmf_fast.chain import singular_values
from dmf_fast.convex import ConvexOptions, minimum_nuclear_norm
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations.file import load_observations, save_observations
from dmf_fast.optim import AdaptiveGradientDescent, GroupRMSprop, PreconditionedLBFGS
from dmf_fast.sensing import gaussian_measurements
from dmf_fast.training import FitOptions, Recording, Trial, fit, fit_many, gradient_flow
from tests.estimator.ratings import quick, ratings

SGD = partial(torch.optim.SGD, lr=0.1)


def entries(**options: Any) -> Observations:
    return Observations(
        [0, 1, 2, 1], [0, 1, 0, 2], [1.0, 2.0, 3.0, 4.0], (3, 3), dtype=torch.float32, **options
    )


def model(*, bias: bool = False, dtype: torch.dtype = torch.float32) -> DeepMatrixFactorization:
    return DeepMatrixFactorization((3, 3), 2, 2, init_scale=1.0, seed=0, bias=bias, dtype=dtype)


def trained(optimizer: Any, engine: str = "auto", **options: Any) -> list[Tensor]:
    started = model(bias=True)
    fit(
        started,
        entries(weights=[1.0, 2.0, 1.0, 3.0]),
        optimizer,
        FitOptions(steps=4, engine=engine, **options),
    )
    return [parameter.detach() for parameter in started.parameters()]


@pytest.fixture(params=["meta", "float64"])
def other_defaults(request: pytest.FixtureRequest) -> Iterator[None]:
    """Another default device, on which nothing can be computed, or another default dtype."""
    if request.param == "meta":
        torch.set_default_device("meta")
    else:
        torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_device(None)
    torch.set_default_dtype(torch.float32)


@pytest.mark.usefixtures("other_defaults")
class TestOtherDefaults:
    def test_observations_are_made_and_read(self, tmp_path: Path) -> None:
        observations = entries(weights=[1, 2, 3, 4])
        for one in (
            observations,
            copy.deepcopy(observations),
            observations.to(dtype=torch.float64),
            observations.with_values([1, 2, 3, 4], observations.weights),
            observations.transpose().transpose(),
            Observations([0, 1, 2, 1, 1], [0, 1, 0, 2, 2], [1, 2, 3, 4, 4], (3, 3), duplicates="mean"),
        ):
            one.layout()
            assert one.values.tolist() == [1.0, 2.0, 3.0, 4.0]
        assert observations.digest() == copy.deepcopy(observations).digest()
        assert [len(part) for part in observations.split(0.25, seed=0)] == [3, 1]
        save_observations(observations, tmp_path / "a.safetensors")
        assert load_observations(tmp_path / "a.safetensors").digest() == observations.digest()

    @pytest.mark.parametrize("name", ["gaussian", "balanced", "orthogonal", "identity", "uniform"])
    def test_a_model_predicts_alike_in_every_way(self, name: str) -> None:
        for bias in (False, True):
            own = DeepMatrixFactorization((3, 3), 2, 2, 1.0, name, bias=bias)
            own.mean.fill_(1.5)
            predicted = own.predict([0, 1, 2, 1], np.array([0, 1, 0, 2]))
            torch.testing.assert_close(own(entries()), predicted)
            assert own.loss(entries()).item() == pytest.approx(
                (predicted - entries().values).square().mean().item()
            )
            assert own.singular_values().dtype == torch.float64

    @pytest.mark.parametrize(
        "optimizer",
        [SGD, partial(GroupRMSprop, lr=0.1), AdaptiveGradientDescent, PreconditionedLBFGS, torch.optim.LBFGS],
    )
    def test_a_run_is_that_of_the_usual_defaults(self, optimizer: Any) -> None:
        engines = ["torch"] if optimizer is torch.optim.LBFGS else ["torch", "native"]
        got = [trained(optimizer, engine) for engine in engines]
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        for engine, parameters in zip(engines, got, strict=True):
            assert all(map(torch.equal, parameters, trained(optimizer, engine)))

    def test_everything_that_a_row_measures_is_measured(self, tmp_path: Path) -> None:
        recording = Recording(singular_values=2, spectrum=True, balancedness=True, norms=True)
        truth = torch.zeros(3, 3, device="cpu")
        for steps in (2, 4):
            result = fit(
                model(), entries(), SGD, FitOptions(steps=steps, batches=2, patience=9, checkpoint_every=1),
                recording=recording, validation=entries(), test=entries(), truth=truth,
                checkpoint=tmp_path, resume=True,
            )  # fmt: skip
        assert not any(column.null_count for column in result.history.table.columns)

    def test_an_estimator_is_that_of_the_usual_defaults(self, tmp_path: Path) -> None:
        X, y = ratings(count=200)

        def answers(name: str, **parameters: Any) -> list[Any]:
            completer = quick(steps=10, **parameters).fit(X, y)
            completer.save(tmp_path / name)
            completer = dmf_fast.MatrixCompleter.load(tmp_path / name)
            completer.partial_fit(X[:3], y[:3] + 1).fold_in([(-1, X[0, 1])], [2.0])
            with pytest.warns(UserWarning, match="1 of 3 ids"):
                recommended = completer.recommend([-1, X[0, 0], "?"], k=3)
            ranked = recommended, completer.similar_items(X[:1, 1], k=3)
            return [completer.predict(X), *(one.scores for one in ranked)]

        kinds: list[dict[str, Any]] = [{}, {"depth": 1, "bias": False}, {"optimizer": "lbfgs", "depth": 2}]
        got = [answers(f"{place}", **kind) for place, kind in enumerate(kinds)]
        torch.set_default_device(None)
        torch.set_default_dtype(torch.float32)
        for place, kind in enumerate(kinds):
            for one, other in zip(got[place], answers(f"usual {place}", **kind), strict=True):
                assert np.array_equal(one, other)

    def test_convex_programs_measurements_and_flows_run(self) -> None:
        for thresholding in ("dense", "truncated"):
            assert minimum_nuclear_norm(entries(), 0.1, ConvexOptions(thresholding=thresholding)).converged  # type: ignore[arg-type]
        gaussian_measurements(torch.ones(3, 3, device="cpu"), 4, seed=0)
        own = model(dtype=torch.float64)
        assert len(gradient_flow(list(own.factors), entries().to(dtype=torch.float64), [0.1]).factors) == 1


MODES: dict[str, Callable[[], AbstractContextManager[Any]]] = {
    "inference mode": torch.inference_mode,
    "no gradients": torch.no_grad,
    "autocast": lambda: torch.autocast("cpu", torch.bfloat16),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("engine", ["torch", "native"])
def test_what_is_made_and_trained_in_a_mode_can_be_trained_outside(
    mode: str, engine: str, tmp_path: Path
) -> None:
    save_observations(entries(), tmp_path / "a.safetensors")
    with MODES[mode]():
        own, made = model(bias=True), entries(weights=[1.0, 2.0, 1.0, 3.0])
        others = [made.with_values(made.values, made.weights), load_observations(tmp_path / "a.safetensors")]
        options = FitOptions(steps=4, engine=engine)  # type: ignore[arg-type]
        fit(own, made, SGD, options, validation=others[0], truth=torch.zeros(3, 3))
        fit_many([Trial({}, list(model().factors), made, SGD, options)])
        gradient_flow(list(model(dtype=torch.float64).factors), made.to(dtype=torch.float64), [0.1])
        own.predict([0], [0])
    if mode != "autocast":  # whose products have fewer digits
        assert all(map(torch.equal, own.parameters(), trained(SGD, engine)))
    for observations in (made, *others):
        own.loss(observations).backward()
        fit(own, observations, SGD, options)


def test_a_model_that_only_inference_mode_may_change_is_refused_with_a_way_out() -> None:
    with torch.inference_mode():
        copied = copy.deepcopy(model())
    with pytest.raises(
        ValueError, match=r"`model.factors\[0\]` must not be an inference tensor.* copy.deepcopy"
    ):
        fit(copied, entries(), SGD)
    fit(copy.deepcopy(copied), entries(), SGD, FitOptions(steps=1))


def test_a_compiled_model_follows_all_that_changes_in_it() -> None:
    own, observations = model(dtype=torch.float64), entries().to(dtype=torch.float64)

    def answers(seen: Observations) -> tuple[Tensor, Tensor]:
        return own(seen).detach(), own.loss(seen).detach()

    compiled = torch.compile(answers, backend="aot_eager", fullgraph=True)

    def check(seen: Observations) -> None:
        expected = (own.product().detach() + own.mean)[tuple(seen.coordinates())]
        squares = (expected - seen.values).square()
        weights = torch.ones_like(squares) if seen.weights is None else seen.weights
        for ask in (compiled, answers):
            torch.testing.assert_close(ask(seen), (expected, (weights @ squares) / weights.sum()))
        torch.testing.assert_close(own.predict(*seen.coordinates()), expected)

    check(observations)
    own.mean.data.fill_(-3.0)
    check(observations)
    own.load_state_dict({name: 2 * tensor for name, tensor in own.state_dict().items()})
    own.factors[0].data.mul_(2.0)
    check(observations)
    check(observations.with_values([4, 3, 2, 1]))
    check(Observations([0, 2], [1, 1], [1.0, 5.0], (3, 3), weights=[2.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16])
def test_a_model_that_is_moved_to_another_dtype_agrees_with_itself(dtype: torch.dtype) -> None:
    own = model()
    own.mean.data.fill_(2.0)
    own.to(dtype)
    torch.testing.assert_close(own(entries().to(dtype=dtype)), own.predict([0, 1, 2, 1], [0, 1, 0, 2]))


def test_a_mean_of_zero_is_differentiated_like_any_other() -> None:
    own = model()
    everything = {**dict(own.named_parameters()), **dict(own.named_buffers())}

    def total(tensors: dict[str, Tensor]) -> Tensor:
        result: Tensor = torch.func.functional_call(own, tensors, (entries(),)).sum()
        return result

    assert torch.func.grad(total)(everything)["mean"].item() == 4.0
    own.mean.requires_grad_()
    own(entries()).sum().backward()
    assert own.mean.grad.item() == 4.0


class Ascending(torch.optim.SGD):
    """Takes the gradient where the loss is larger, as sharpness-aware minimization does."""

    def step(self, closure: Any = None) -> Any:
        assert closure is not None
        parameters = [parameter for group in self.param_groups for parameter in group["params"]]
        moves = [0.05 * parameter.grad for parameter in parameters]
        with torch.no_grad():
            torch._foreach_add_(parameters, moves)
        with torch.enable_grad():
            closure()
        with torch.no_grad():
            torch._foreach_sub_(parameters, moves)
        return super().step()


class Wrapping(torch.optim.Optimizer):
    """Leaves its steps to another optimizer."""

    def __init__(self, params: Any) -> None:
        self.inner = torch.optim.LBFGS(params)
        super().__init__(self.inner.param_groups[0]["params"], {})

    def step(self, *arguments: Any, **options: Any) -> Any:
        return self.inner.step(*arguments, **options)


@pytest.mark.parametrize(
    "optimizer",
    [torch.optim.LBFGS, partial(Ascending, lr=0.1), Wrapping, partial(torch.optim.Rprop, lr=0.01)],
)
def test_an_optimizer_that_calls_a_closure_makes_the_steps_of_a_loop(optimizer: Any) -> None:
    looped = model(bias=True)
    observations, made = entries(weights=[1.0, 2.0, 1.0, 3.0]), optimizer(looped.parameter_list)

    def closure() -> Tensor:
        made.zero_grad()
        loss = looped.loss(observations)
        loss.backward()
        return loss

    for _ in range(4):
        closure()
        made.step(closure)
    assert all(map(torch.equal, trained(optimizer), looped.parameters()))


class Positive(torch.nn.Module):
    def forward(self, numbers: Tensor) -> Tensor:
        return numbers.abs()


@pytest.mark.parametrize("bound", [False, True])
def test_what_a_parametrized_factor_is_computed_from_is_trained(bound: bool) -> None:
    own, looped = (model(), model())
    for one in (own, looped):
        parametrize.register_parametrization(one.factors, "0", Positive())
    result = fit(own, entries(), SGD(own.parameters()) if bound else SGD, FitOptions(steps=5))
    optimizer = SGD(looped.parameters())
    for _ in range(5):
        optimizer.zero_grad()
        looped.loss(entries()).backward()
        optimizer.step()
    assert result.engine == "torch"
    assert all(map(torch.equal, own.parameters(), looped.parameters()))


def test_hooks_on_gradients_are_called() -> None:
    called: list[str] = []
    for register in ("register_hook", "register_post_accumulate_grad_hook"):
        own = model()
        getattr(own.factors[0], register)(lambda _, name=register: called.append(name))
        fit(own, entries(), SGD, FitOptions(steps=1))
    assert set(called) == {"register_hook", "register_post_accumulate_grad_hook"}


ONES = torch.ones(3, 3)
TAKERS: dict[str, Callable[[list[Tensor]], Any]] = {
    "loss": lambda factors: dmf_fast.completion_loss(factors, entries()),
    "fit": lambda factors: fit(factors, entries(), SGD, FitOptions(steps=1)),
    "of_factors": DeepMatrixFactorization.of_factors,
    "singular_values": singular_values,
}


@pytest.mark.parametrize("taker", TAKERS)
@pytest.mark.parametrize(
    ("invalid", "sentence", "fixed"),
    [
        (
            ONES.to(torch.complex64),
            r"must hold real numbers, got torch.complex64; use factors\[1\].real",
            ONES,
        ),
        (ONES.to(torch.int64), r"got torch.int64; use factors\[1\].to\(torch.float32\)", ONES),
        (ONES.double(), r"got torch.float64; use (factors\[1\].to\(factors\[0\]\)|observations.to)", ONES),
        (
            ONES.to_sparse(),
            r"must be a dense matrix, got torch.sparse_coo; use factors\[1\].to_dense\(\)",
            ONES,
        ),
        (ONES.to("meta"), r"got meta; (use factors\[1\].to\(factors\[0\]\)|make it on a CPU or a GPU)", None),
    ],
)
def test_factors_of_another_kind_are_refused_with_advice_that_works(
    taker: str, invalid: Tensor, sentence: str, fixed: Tensor | None
) -> None:
    if taker == "singular_values" and (invalid.dtype in (torch.int64, torch.float64) or fixed is None):
        pytest.skip("takes these")
    with pytest.raises((TypeError, ValueError), match=rf"`factors\[1\]` {'.*' + sentence}"):
        TAKERS[taker]([ONES, invalid])
    if fixed is not None:
        advised = invalid.to_dense() if invalid.is_sparse else invalid.real.to(torch.float32)
        TAKERS[taker]([ONES.clone(), advised.clone()])
