"""The raw operators under torch's own checks, torch.compile, and bit for bit from run to run."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import dmf_fast
from dmf_fast.ops import autograd
from dmf_fast.ops.operators import accumulator_dtype
from tests.problems import make_problem

OPS = torch.ops.dmf_fast


def sides(
    dtype: torch.dtype = torch.float32, weighted: bool = True
) -> tuple[torch.Tensor, torch.Tensor, object, int]:
    problem = make_problem((40, 6, 50), weighted=weighted).to(dtype)
    observations = problem.observations()
    b_transposed = problem.factors[0].detach().T.contiguous()
    return problem.factors[1].detach(), b_transposed, observations.layout(), observations.nnz


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_opcheck_passes_for_every_operator_and_dtype(dtype: torch.dtype, device: str) -> None:
    a, b_transposed, layout, nnz = sides(dtype)
    coefficients = torch.randn(nnz, dtype=accumulator_dtype(dtype), device=device)
    dense = torch.randn(50, 40, device=device).to(dtype)
    targets = (layout.buffer, layout.values, layout.weights)
    calls = {
        OPS.observed_product_forward.default: (a, b_transposed, layout.buffer, nnz),
        OPS.observed_product_backward.default: (coefficients, a, b_transposed, layout.buffer),
        OPS.completion_loss_forward.default: (a, b_transposed, *targets, 0.5),
        OPS.completion_loss_gradients.default: (a, b_transposed, layout.buffer, layout.values, None, 0.5),
        OPS.dense_loss_forward.default: (dense, *targets, 0.5),
        OPS.dense_loss_gradient.default: (dense, layout.buffer, layout.values, None, 0.5),
        OPS.caller_order.default: (layout.values, layout.buffer),
        OPS.gather_observed.default: (dense, layout.buffer, nnz),
        OPS.scatter_observed.default: (layout.values, layout.buffer, 50, 40),
    }
    for operator, arguments in calls.items():
        torch.library.opcheck(operator, arguments)


def test_wrong_arguments_of_raw_operators_are_refused_before_memory_is_touched() -> None:
    a, b_transposed, layout, nnz = sides()
    with pytest.raises(RuntimeError, match="layout does not hold"):
        OPS.observed_product_forward(a, b_transposed, torch.zeros(4096, dtype=torch.uint8), nnz)
    with pytest.raises(RuntimeError, match="layout does not hold"):
        OPS.observed_product_forward(a, b_transposed, layout.buffer[:-64], nnz)
    with pytest.raises(RuntimeError, match="a must be two-dimensional with 50 rows"):
        OPS.observed_product_forward(a[:-1], b_transposed, layout.buffer, nnz)
    with pytest.raises(RuntimeError, match="b_transposed must be contiguous"):
        OPS.observed_product_forward(a, b_transposed.T.contiguous().T, layout.buffer, nnz)
    with pytest.raises(RuntimeError, match="the same number of columns"):
        OPS.observed_product_forward(a[:, :3].contiguous(), b_transposed, layout.buffer, nnz)
    with pytest.raises(RuntimeError, match="the same dtype"):
        OPS.observed_product_forward(a.double(), b_transposed, layout.buffer, nnz)
    with pytest.raises(RuntimeError, match="values must be one-dimensional"):
        OPS.completion_loss_forward(a, b_transposed, layout.buffer, layout.values[1:], None, 1.0)
    with pytest.raises(RuntimeError, match="dense must have the columns of the layout"):
        OPS.dense_loss_forward(torch.zeros(50, 39), layout.buffer, layout.values, None, 1.0)
    with pytest.raises(RuntimeError, match="nnz must be that of the layout"):
        OPS.observed_product_forward(a, b_transposed, layout.buffer, nnz + 1)


class OperatorsCalled(TorchDispatchMode):
    """Keeps the names of all operators that are called."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(function))
        return function(*args, **(kwargs or {}))


def test_a_loss_and_its_gradients_are_one_operator_and_nothing_of_torch_but_the_seed() -> None:
    a, b_transposed, layout, _ = sides()
    dense = torch.zeros(50, 40, requires_grad=True)
    targets = (layout.buffer, layout.values, layout.weights, 0.5)
    for name, loss_of in {
        "completion_loss_gradients": lambda: autograd.completion_loss(
            a.requires_grad_(), b_transposed.requires_grad_(), *targets
        ),
        "dense_loss_gradient": lambda: autograd.dense_completion_loss(dense, *targets),
    }.items():
        with OperatorsCalled() as called:
            loss_of().backward()
        # torch makes the one that backward begins with; reading it, which a GPU does not, is no kernel.
        free = {"aten._local_scalar_dense.default", "aten.detach.default"}
        assert [one for one in called.names if one not in free] == [
            f"dmf_fast.{name}.default",
            "aten.ones_like.default",
        ]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.usefixtures("plan", "device")
@pytest.mark.parametrize("dynamic", [False, True])
@pytest.mark.parametrize("pattern", ["skewed", "full"])
def test_compiled_without_graph_breaks_gives_the_eager_result(pattern: str, dynamic: bool) -> None:
    problem = make_problem((50, 8, 9, 60), pattern=pattern, weighted=True, bias=True, dtype=torch.float32)
    observations = problem.observations()
    torch._dynamo.reset()

    def objective(factors: list[torch.Tensor]) -> torch.Tensor:
        product = dmf_fast.observed_product(factors, observations, **problem.biases())
        loss = dmf_fast.completion_loss(factors, observations, **problem.biases())
        return loss + product.square().mean()

    expected = torch.autograd.grad(objective(problem.factors), problem.parameters())
    compiled = torch.compile(objective, backend="aot_eager", fullgraph=True, dynamic=dynamic)
    actual = torch.autograd.grad(compiled(problem.factors), problem.parameters())
    for ours, theirs in zip(actual, expected, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.usefixtures("plan", "device")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_compiled_before_the_layout_was_built() -> None:
    problem = make_problem((50, 8, 60), dtype=torch.float32)
    torch._dynamo.reset()
    observations = problem.observations()
    compiled = torch.compile(dmf_fast.completion_loss, backend="aot_eager")
    loss = compiled(problem.factors, observations)
    assert torch.equal(loss, dmf_fast.completion_loss(problem.factors, problem.observations()))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_results_are_bit_identical_for_any_number_of_threads_and_from_run_to_run(
    dtype: torch.dtype, backend: str
) -> None:
    problem = make_problem((1500, 40, 2500), pattern="skewed", density=0.05, weighted=True).to(dtype)
    observations = problem.observations()
    arguments = (problem.factors[1].detach(), problem.factors[0].detach().T.contiguous())
    dense = torch.randn(2500, 1500).to(problem.values)
    before = torch.get_num_threads()
    outcomes = []
    try:
        for threads in (1, 2, 3, 2, 1, 8):
            torch.set_num_threads(threads)
            layout = problem.observations().layout() if threads == 3 else observations.layout()
            loss, gradient_a, gradient_b = OPS.completion_loss_gradients(
                *arguments, layout.buffer, layout.values, layout.weights, 1.0
            )
            products = OPS.observed_product_forward(*arguments, layout.buffer, observations.nnz)
            pair = OPS.observed_product_backward(products, *arguments, layout.buffer)
            formed = OPS.dense_loss_gradient(dense, layout.buffer, layout.values, layout.weights, 1.0)
            outcomes.append([layout.buffer, loss, gradient_a, gradient_b, products, *pair, *formed])
    finally:
        torch.set_num_threads(before)
    for outcome in outcomes[1:]:
        for first, other in zip(outcomes[0], outcome, strict=True):
            assert torch.equal(first, other)
