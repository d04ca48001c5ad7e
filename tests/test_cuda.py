"""Messages without a GPU, and the sizes of layouts on one."""

from __future__ import annotations

import pytest
import torch

from dmf_fast import Observations, _native, cuda
from dmf_fast.observations.layout import build_device_layout, index_dtype
from dmf_fast.ops import costs
from tests.conftest import HAS_GPU
from tests.killing import assert_runs

# A process of its own for every setting, which torch keeps for good.
PRECISIONS = """
import os
import torch
from dmf_fast.ops import costs

for setting, expected in {
    "torch.set_float32_matmul_precision('high')": "high",
    "torch.set_float32_matmul_precision('medium')": "medium",
    "torch.backends.cuda.matmul.fp32_precision = 'tf32'": "high",
    "torch.backends.cuda.matmul.fp32_precision = 'ieee'": "highest",
    "torch.backends.fp32_precision = 'tf32'": "high",
    "torch.backends.cuda.matmul.allow_tf32 = True": "high",
}.items():
    child = os.fork()
    if child == 0:
        exec(setting)
        found = costs.matmul_precision("cuda", torch.float32), costs.matmul_precision("cpu", torch.float32)
        os._exit(found != (expected, "highest"))
    assert os.waitpid(child, 0)[1] == 0, setting
"""


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU here")
def test_observations_on_a_gpu_that_is_not_there_name_the_device() -> None:
    with pytest.raises(ValueError, match="`device` must be available to torch, got 'cuda'"):
        Observations([0], [1], [1.0], device="cuda")


def test_a_torch_without_cuda_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "cuda", None)
    cuda.missing_reason.cache_clear()
    with pytest.raises(
        ValueError, match=r"got cuda:0: torch .* has no CUDA support; install a build that has it"
    ):
        cuda.check_usable(torch.device("cuda:0"))
    cuda.missing_reason.cache_clear()


def test_a_build_without_kernels_says_how_to_build_them(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cuda, "LIBRARY", tmp_path / "missing.so")
    cuda.missing_reason.cache_clear()
    with pytest.raises(ValueError, match="without CUDA kernels; install the CUDA toolkit, then run `DMF_F"):
        cuda.check_usable(torch.device("cuda:0"))
    cuda.missing_reason.cache_clear()


def test_a_library_that_cannot_be_loaded_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path) -> None:
    broken = tmp_path / "broken.so"
    broken.write_bytes(b"no library")
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(cuda, "LIBRARY", broken)
    cuda.missing_reason.cache_clear()
    assert "the CUDA kernels cannot be loaded" in cuda.missing_reason()
    cuda.missing_reason.cache_clear()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_what_a_call_asks_about_the_gpu_does_not_break_a_compiled_graph() -> None:
    def ask(x: torch.Tensor) -> torch.Tensor:
        cuda.check_usable(torch.device("cpu"))
        return x + len(costs.matmul_precision("cuda", torch.float32))

    torch._dynamo.reset()
    compiled = torch.compile(ask, fullgraph=True, backend="eager")
    assert float(compiled(torch.zeros(()))) == len("highest")


def test_the_precision_of_products_is_read_from_all_of_torchs_settings() -> None:
    assert_runs(PRECISIONS)


def test_a_matrix_of_netflixs_size_takes_at_most_20_bytes_an_entry() -> None:
    nnz, h = 100_000_000, 64
    facts = _native.describe_device_layout(480_189, 17_770, nnz)
    values = 4
    assert facts["bytes"] / nnz + values + 4 * h * facts["slots"] / nnz <= 20
    assert facts["row_blocks"] == 1
    assert facts["column_blocks"] == 8


def test_dense_patterns_have_masks_and_sparse_ones_do_not() -> None:
    assert _native.describe_device_layout(6040, 3706, 1_000_000)["has_masks"]
    assert not _native.describe_device_layout(69_878, 10_677, 10_000_000)["has_masks"]


def test_a_pattern_beyond_a_gpus_counts_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda, "check_usable", lambda device: None)
    shape = (2**31, 5)
    rows = torch.zeros(1, dtype=torch.int64).numpy().astype(index_dtype(shape))
    with pytest.raises(ValueError, match="a GPU must have at most 2\\*\\*31 - 1 rows"):
        build_device_layout(rows, rows, shape, torch.device("cuda:0"))
