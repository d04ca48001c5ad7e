"""What holds on a GPU alone: no waiting, graphs, streams, tensor cores; and what is said where none is."""

from __future__ import annotations

import io
import pickle
import subprocess
import sys

import pytest
import torch

import dmf_fast
from dmf_fast import Observations, _native, cuda
from dmf_fast.observations.layout import build_device_layout, index_dtype
from dmf_fast.ops import costs, planner
from tests.conftest import HAS_GPU
from tests.problems import Problem, make_problem

OPS = torch.ops.dmf_fast
needs_gpu = [
    pytest.mark.cuda,
    pytest.mark.skipif(not HAS_GPU, reason=f"no GPU here: {cuda.missing_reason() or 'torch finds none'}"),
]


def on_gpu(function):
    """Mark a test that needs a GPU."""
    for mark in needs_gpu:
        function = mark(function)
    return function


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> str:
    """Draw problems on the GPU."""
    monkeypatch.setattr("tests.problems.DEVICE", "cuda")
    return "cuda"


def sides(problem: Problem) -> tuple[torch.Tensor, torch.Tensor]:
    return problem.factors[1].detach(), problem.factors[0].detach().T.contiguous()


def exact_gradients(problem: Problem) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Loss, dA and dBᵀ in float64 by plain indexing."""
    a, b_transposed = (side.double().requires_grad_() for side in sides(problem))
    residual = (a[problem.rows] * b_transposed[problem.columns]).sum(1) - problem.values.double()
    loss = residual.square().sum()
    return loss.detach(), *torch.autograd.grad(loss, (a, b_transposed))


class TestWithoutGpu:
    """The sizes of layouts, and the sentences."""

    @pytest.mark.skipif(HAS_GPU, reason="there is a GPU here")
    def test_observations_on_a_gpu_that_is_not_there_name_the_device(self) -> None:
        with pytest.raises(ValueError, match="device must be one that torch can use here, got 'cuda'"):
            Observations([0], [1], [1.0], device="cuda")

    def test_a_torch_without_cuda_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(torch.version, "cuda", None)
        cuda.missing_reason.cache_clear()
        with pytest.raises(ValueError, match=r"on cuda:0, but torch .* has no CUDA; install one that has"):
            cuda.check_usable(torch.device("cuda:0"))
        cuda.missing_reason.cache_clear()

    def test_a_build_without_kernels_says_how_to_build_them(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path
    ) -> None:
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(cuda, "LIBRARY", tmp_path / "missing.so")
        cuda.missing_reason.cache_clear()
        with pytest.raises(
            ValueError, match="without CUDA kernels; install the CUDA toolkit, then run `DMF_F"
        ):
            cuda.check_usable(torch.device("cuda:0"))
        cuda.missing_reason.cache_clear()

    def test_a_library_that_cannot_be_loaded_says_why(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path
    ) -> None:
        broken = tmp_path / "broken.so"
        broken.write_bytes(b"no library")
        monkeypatch.setattr(torch.version, "cuda", "13.0")
        monkeypatch.setattr(cuda, "LIBRARY", broken)
        cuda.missing_reason.cache_clear()
        assert "the CUDA kernels cannot be loaded" in cuda.missing_reason()
        cuda.missing_reason.cache_clear()

    @pytest.mark.filterwarnings("ignore::DeprecationWarning")
    def test_what_a_call_asks_about_the_gpu_does_not_break_a_compiled_graph(self) -> None:
        def ask(x: torch.Tensor) -> torch.Tensor:
            cuda.check_usable(torch.device("cpu"))
            return x + len(costs.matmul_precision("cuda", torch.float32))

        torch._dynamo.reset()
        compiled = torch.compile(ask, fullgraph=True, backend="eager")
        assert float(compiled(torch.zeros(()))) == len("highest")

    @pytest.mark.parametrize(
        ("setting", "expected"),
        [
            ("torch.set_float32_matmul_precision('high')", "high"),
            ("torch.set_float32_matmul_precision('medium')", "medium"),
            ("torch.backends.cuda.matmul.fp32_precision = 'tf32'", "high"),
            ("torch.backends.cuda.matmul.fp32_precision = 'ieee'", "highest"),
            ("torch.backends.fp32_precision = 'tf32'", "high"),
            ("torch.backends.cuda.matmul.allow_tf32 = True", "high"),
        ],
    )
    def test_the_precision_of_products_is_read_from_all_of_torchs_settings(
        self, setting: str, expected: str
    ) -> None:
        code = f"import torch; from dmf_fast.ops import costs; {setting}; "
        code += "print(costs.matmul_precision('cuda', torch.float32))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected

    def test_a_matrix_of_netflixs_size_takes_at_most_20_bytes_an_entry(self) -> None:
        nnz, h = 100_000_000, 64
        facts = _native.describe_device_layout(480_189, 17_770, nnz)
        values = 4
        assert facts["bytes"] / nnz + values + 4 * h * facts["slots"] / nnz <= 20
        assert facts["row_blocks"] == 1
        assert facts["column_blocks"] == 8

    def test_dense_patterns_have_masks_and_sparse_ones_do_not(self) -> None:
        assert _native.describe_device_layout(6040, 3706, 1_000_000)["has_masks"]
        assert not _native.describe_device_layout(69_878, 10_677, 10_000_000)["has_masks"]

    def test_a_pattern_beyond_a_gpus_counts_is_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(cuda, "check_usable", lambda device: None)
        shape = (2**31, 5)
        rows = torch.zeros(1, dtype=torch.int64).numpy().astype(index_dtype(shape))
        with pytest.raises(ValueError, match="a GPU takes at most 2\\*\\*31 - 1 rows"):
            build_device_layout(rows, rows, shape, torch.device("cuda:0"))


@on_gpu
@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 2e-3), ("tf32x3", 1e-5), ("bfloat16", 2e-2)])
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
        pytest.raises(ValueError, match=r"a CUDA graph is captured; call observations.layout\(\) first"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        dmf_fast.completion_loss(problem.factors, observations)


@on_gpu
def test_the_layout_leaves_the_gpu_with_the_last_observations_there(gpu: str) -> None:
    problem = make_problem((3000, 4, 2000), density=0.1, dtype=torch.float32)
    here = problem.observations().to("cpu")
    before = torch.cuda.memory_allocated()
    there = here.to("cuda")
    held = there.layout()
    assert here.with_values(here.values).to("cuda").layout().buffer is held.buffer
    del there, held
    assert torch.cuda.memory_allocated() == before


@on_gpu
def test_pickled_observations_of_a_gpu_are_read_where_they_are_mapped_to(gpu: str) -> None:
    problem = make_problem((30, 4, 20), weighted=True)
    assert pickle.loads(pickle.dumps(problem.observations())).device.type == "cuda"
    saved = io.BytesIO()
    torch.save(problem.observations(), saved)
    saved.seek(0)
    read = torch.load(saved, map_location="cpu", weights_only=False)
    assert read.device.type == "cpu"
    assert torch.equal(read.values, problem.values.cpu())


@on_gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="one GPU here")
def test_the_device_of_the_tensors_is_used_and_not_the_current_one(gpu: str) -> None:
    problem = make_problem((300, 24, 200), dtype=torch.float32)
    there = [factor.detach().to("cuda:1") for factor in problem.factors]
    loss = dmf_fast.completion_loss(there, problem.observations().to("cuda:1"))
    assert loss.device == torch.device("cuda:1")
    assert torch.equal(loss.cpu(), dmf_fast.completion_loss(problem.factors, problem.observations()).cpu())


@on_gpu
def test_entries_keep_the_callers_order_when_they_move_between_devices(gpu: str) -> None:
    problem = make_problem((300, 5, 400), weighted=True)
    observations = problem.observations()
    observations.layout()
    back = observations.to("cpu")
    back.layout()
    for moved in (observations, back, back.to("cuda")):
        moved.layout()
        assert torch.equal(moved.values.cpu(), problem.values.cpu())
        assert torch.equal(moved.weights.cpu(), problem.weights.cpu())
        assert torch.equal(moved.rows.cpu(), problem.rows.cpu())


@on_gpu
def test_observations_on_a_gpu_are_saved_as_those_of_the_cpu(gpu: str, tmp_path) -> None:
    problem = make_problem((30, 5, 40), weighted=True)
    dmf_fast.save_observations(problem.observations(), tmp_path / "ratings")
    loaded = dmf_fast.load_observations(tmp_path / "ratings")
    assert torch.equal(loaded.values, problem.values.cpu())


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
    with pytest.raises(RuntimeError, match="precision must be tf32, tf32x3 or bfloat16"):
        OPS.tile_loss_gradients(a, b_transposed, layout.buffer, layout.values, None, 1.0, "half")


def test_the_planner_uses_tiles_where_the_pattern_is_dense_and_follows_matmul_precision() -> None:
    dims, nnz = (3706, 64, 6040), 1_000_000

    def plan(precision: str, dtype: torch.dtype = torch.float32, **changes) -> planner.Plan:
        return planner.plan_chain(**{"dims": dims, "nnz": nnz, "dtype": dtype, "device": "cuda",
                                     "precision": precision, **changes})  # fmt: skip

    assert plan("high").tile_precision == "tf32"
    assert plan("medium").tile_precision == "bfloat16"
    assert plan("highest", torch.bfloat16).tile_precision == "tf32"
    assert plan("highest", torch.float64).tile_precision is None
    assert plan("high", nnz=100_000).tile_precision is None
    assert plan("high", dims=(3706, 200, 6040)).tile_precision is None
    assert plan("high", device="cpu").tile_precision is None
    for dense_enough in (plan("highest", nnz=8_000_000), plan("high")):
        text = str(dense_enough)
        assert f"tensor cores ({dense_enough.tile_precision})" in text
        assert "split at 1, tiles" in text
