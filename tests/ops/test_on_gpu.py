"""What holds on a GPU alone: no waiting, graphs, streams, tensor cores."""

from __future__ import annotations

import pytest
import torch

import dmf_fast
from dmf_fast import Observations
from tests.conftest import on_gpu
from tests.problems import Problem, make_problem

OPS = torch.ops.dmf_fast


def sides(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    return problem.factors[1].detach(), problem.factors[0].detach().T.contiguous()


def exact_gradients(problem: Problem) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss, dA and dBᵀ in float64 by plain indexing."""
    a, b_transposed = (side.double().requires_grad_() for side in sides(problem))
    residual = (a[problem.rows] * b_transposed[problem.columns]).sum(1) - problem.values.double()
    loss = residual.square().sum()
    return loss.detach(), *torch.autograd.grad(loss, (a, b_transposed))


@on_gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 2e-3), ("tf32x3", 1e-5)])
@pytest.mark.parametrize("h", [1, 31, 64, 66, 100, 128])
def test_tensor_cores_agree_with_float64(precision: str, tolerance: float, h: int, gpu: str) -> None:
    problem = make_problem((330, h, 450), pattern="skewed", density=0.2, dtype=torch.float32)
    layout = problem.observations().layout()
    actual = OPS.tile_loss_gradients(*sides(problem), layout.buffer, layout.values, None, 1.0, precision)
    for ours, exact in zip(actual, exact_gradients(problem), strict=True):
        assert float((ours - exact).norm()) <= tolerance * float(exact.norm())


@on_gpu
def test_a_matrix_with_blocks_and_wide_indices_agrees_with_float64(gpu: str) -> None:
    generator = torch.Generator().manual_seed(0)
    # 200,000 rows make four blocks of the column order; 12 columns leave lines long enough for them.
    rows = torch.randint(200_000, (300_000,), generator=generator)
    columns = torch.randint(12, (300_000,), generator=generator)
    keys = torch.unique(rows * 12 + columns)
    rows, columns = keys // 12, keys % 12
    values = torch.randn(len(keys), generator=generator)
    for shape in ((200_000, 12), (200_000, 100_000)):
        observations = Observations(rows, columns, values, shape, device=gpu)
        a = torch.randn(shape[0], 20, generator=generator).to(gpu)
        b_transposed = torch.randn(shape[1], 20, generator=generator).to(gpu)
        layout = observations.layout()
        loss, gradient_a, gradient_b = OPS.completion_loss_gradients(
            a, b_transposed, layout.buffer, layout.values, None, 0.5
        )
        rows_there, columns_there = rows.to(gpu), columns.to(gpu)
        residual = (a.double()[rows_there] * b_transposed.double()[columns_there]).sum(1) - values.to(gpu)
        exact_a = torch.zeros_like(a, dtype=torch.float64)
        exact_a.index_add_(0, rows_there, residual[:, None] * b_transposed.double()[columns_there])
        exact_b = torch.zeros_like(b_transposed, dtype=torch.float64)
        exact_b.index_add_(0, columns_there, residual[:, None] * a.double()[rows_there])
        assert float(loss) == pytest.approx(float(residual.square().sum()), rel=1e-6)
        assert float((gradient_a - exact_a).norm()) <= 1e-5 * float(exact_a.norm())
        assert float((gradient_b - exact_b).norm()) <= 1e-5 * float(exact_b.norm())


@on_gpu
def test_more_entries_than_coefficients_are_kept_agree_with_float64(gpu: str) -> None:
    problem = make_problem((2000, 16, 3000), density=0.8, dtype=torch.float32)
    layout = problem.observations().layout()
    actual = OPS.completion_loss_gradients(*sides(problem), layout.buffer, layout.values, None, 1.0)
    for ours, exact in zip(actual, exact_gradients(problem), strict=True):
        assert float((ours - exact).norm()) <= 1e-5 * float(exact.norm())


@on_gpu
@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.parametrize("matmul_precision", ["highest", "high", "medium"])
def test_a_step_neither_waits_for_the_gpu_nor_changes_from_run_to_run(
    matmul_precision: str, gpu: str
) -> None:
    problem = make_problem((400, 30, 500), pattern="skewed", density=0.2, weighted=True, dtype=torch.float32)
    observations = problem.observations()
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(matmul_precision)
    try:
        outcomes = []
        dmf_fast.completion_loss(problem.factors, observations).backward()  # builds what is built once
        torch.cuda.set_sync_debug_mode("error")
        for _ in range(3):
            loss = dmf_fast.completion_loss(problem.factors, observations)
            outcomes.append([loss, *torch.autograd.grad(loss, problem.factors)])
    finally:
        torch.cuda.set_sync_debug_mode("default")
        torch.set_float32_matmul_precision(before)
    for outcome in outcomes[1:]:
        for first, other in zip(outcomes[0], outcome, strict=True):
            assert torch.equal(first, other)


@on_gpu
def test_a_step_allocates_nothing_of_the_driver_once_it_is_warm(gpu: str) -> None:
    problem = make_problem((400, 30, 500), pattern="skewed", density=0.2, dtype=torch.float32)
    observations = problem.observations()

    def step() -> None:
        torch.autograd.grad(dmf_fast.completion_loss(problem.factors, observations), problem.factors)

    step()
    step()
    held = torch.cuda.memory_stats()["num_device_alloc"]
    step()
    assert torch.cuda.memory_stats()["num_device_alloc"] == held


@on_gpu
@pytest.mark.usefixtures("plan")
@pytest.mark.parametrize("density", [0.01, 0.3])
def test_a_graph_of_one_step_replays_what_the_step_computes(density: float, gpu: str) -> None:
    problem = make_problem((200, 16, 12, 150), density=density, dtype=torch.float32)
    observations = problem.observations()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            loss = dmf_fast.completion_loss(problem.factors, observations)
            gradients = torch.autograd.grad(loss, problem.factors)
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss = dmf_fast.completion_loss(problem.factors, observations)
        gradients = torch.autograd.grad(loss, problem.factors)
    with torch.no_grad():
        for factor in problem.factors:
            factor.mul_(1.5)
    graph.replay()
    expected_loss = dmf_fast.completion_loss(problem.factors, observations)
    assert torch.equal(loss, expected_loss)
    for ours, theirs in zip(gradients, torch.autograd.grad(expected_loss, problem.factors), strict=True):
        assert torch.equal(ours, theirs)


@on_gpu
def test_several_streams_do_not_disturb_each_other(gpu: str) -> None:
    problems = [make_problem((300, 24, 200), weighted=True, seed=k, dtype=torch.float32) for k in range(4)]
    pairs = [(problem, problem.observations()) for problem in problems]
    expected = [dmf_fast.completion_loss(problem.factors, held) for problem, held in pairs]
    torch.cuda.synchronize()
    streams = [torch.cuda.Stream() for _ in pairs]
    for _ in range(20):
        losses = []
        for stream, (problem, held) in zip(streams, pairs, strict=True):
            with torch.cuda.stream(stream):
                losses.append(dmf_fast.completion_loss(problem.factors, held))
        torch.cuda.synchronize()
        assert all(torch.equal(*pair) for pair in zip(losses, expected, strict=True))


@on_gpu
def test_another_stream_reads_the_layout_that_one_has_just_built(gpu: str) -> None:
    for seed in range(5):
        problem = make_problem((3000, 24, 2000), density=0.1, seed=seed, dtype=torch.float32)
        observations = problem.observations()
        torch.cuda.synchronize()
        with torch.cuda.stream(torch.cuda.Stream()):
            observations.layout()
        with torch.cuda.stream(torch.cuda.Stream()):
            loss = dmf_fast.completion_loss(problem.factors, observations)
        torch.cuda.synchronize()
        assert torch.equal(loss, dmf_fast.completion_loss(problem.factors, observations))


@on_gpu
@pytest.mark.filterwarnings("ignore:The CUDA Graph is empty")
def test_a_layout_that_a_graph_would_have_to_build_is_refused(gpu: str) -> None:
    problem = make_problem((30, 4, 20), dtype=torch.float32)
    observations = problem.observations()
    with (
        pytest.raises(ValueError, match=r"a CUDA graph is captured; call observations.layout\(\) before"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        dmf_fast.completion_loss(problem.factors, observations)


@on_gpu
def test_wrong_tensors_of_the_raw_operators_are_refused(gpu: str) -> None:
    problem = make_problem((40, 6, 50), dtype=torch.float32)
    a, b_transposed = sides(problem)
    layout = problem.observations().layout()
    with pytest.raises(RuntimeError, match="on the device of a"):
        OPS.observed_product_forward(a, b_transposed.cpu(), layout.buffer, problem.values.numel())
    with pytest.raises(RuntimeError, match="layout does not hold"):
        OPS.observed_product_forward(a, b_transposed, layout.buffer[:-256], problem.values.numel())
    sparse = Observations([0], [0], [1.0], (50, 40), device=gpu).layout()
    with pytest.raises(RuntimeError, match="too few entries"):
        OPS.tile_loss_gradients(a, b_transposed, sparse.buffer, sparse.values, None, 1.0, "tf32")
    with pytest.raises(RuntimeError, match="precision must be tf32 or tf32x3"):
        OPS.tile_loss_gradients(a, b_transposed, layout.buffer, layout.values, None, 1.0, "half")


@on_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU here")
def test_the_device_of_the_tensors_is_used_and_not_the_current_one(gpu: str) -> None:
    problem = make_problem((300, 24, 200), dtype=torch.float32)
    there = [factor.detach().to("cuda:1") for factor in problem.factors]
    loss = dmf_fast.completion_loss(there, problem.observations().to("cuda:1"))
    assert loss.device == torch.device("cuda:1")
    assert torch.equal(loss.cpu(), dmf_fast.completion_loss(problem.factors, problem.observations()).cpu())
