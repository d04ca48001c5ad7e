"""Ways to compute the loss over Ω with dA and dBᵀ. Each builds its own structures before it is timed."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench.problems import Problem

Pass = Callable[[], tuple[Tensor, Tensor, Tensor]]  # loss (sum of squares), dA, dBᵀ


def dmf_fast(problem: Problem) -> Pass:
    """The fused sweep, as the autograd function calls it."""
    layout = problem.layout
    sweep = torch.ops.dmf_fast.completion_loss_gradients
    return lambda: sweep(problem.a, problem.b_transposed, layout.buffer, layout.values, None, 1.0)


def sampled_addmm(problem: Problem) -> Pass:
    """torch's sampled product, then two CSR products; both patterns and the order between them are prebuilt.

    32-bit indices and a B that is stored by columns are its fastest settings.
    """
    rows, columns, (m, n) = problem.rows, problem.columns, problem.shape
    order = torch.argsort(rows * n + columns)
    back = torch.argsort(columns[order] * m + rows[order])
    starts, column_of = _compressed(rows[order], m), columns[order].int()
    transposed_starts, row_of = _compressed(columns[order][back], n), rows[order][back].int()
    targets = problem.values[order]
    pattern = torch.sparse_csr_tensor(starts, column_of, torch.zeros_like(targets), (m, n))
    b = problem.b_transposed.T

    def one_pass() -> tuple[Tensor, Tensor, Tensor]:
        products = torch.sparse.sampled_addmm(pattern, problem.a, b, beta=0.0)
        residual = products.values() - targets
        coefficients = 2 * residual
        gradient = torch.sparse_csr_tensor(starts, column_of, coefficients, (m, n))
        transposed = torch.sparse_csr_tensor(transposed_starts, row_of, coefficients[back], (n, m))
        return residual.dot(residual), gradient @ problem.b_transposed, transposed @ problem.a

    return one_pass


def gather_autograd(problem: Problem) -> Pass:
    """The form found in most code: gather rows, multiply, sum, autograd."""

    def one_pass() -> tuple[Tensor, Tensor, Tensor]:
        a, b = problem.a.detach().requires_grad_(), problem.b_transposed.detach().requires_grad_()
        loss = ((a[problem.rows] * b[problem.columns]).sum(dim=1) - problem.values).square().sum()
        loss.backward()
        return loss.detach(), a.grad, b.grad

    return one_pass


def compiled_gather(problem: Problem) -> Pass:
    """The gather form under torch.compile."""

    def objective(a: Tensor, b: Tensor) -> Tensor:
        return ((a[problem.rows] * b[problem.columns]).sum(dim=1) - problem.values).square().sum()

    compiled = torch.compile(objective)

    def one_pass() -> tuple[Tensor, Tensor, Tensor]:
        a, b = problem.a.detach().requires_grad_(), problem.b_transposed.detach().requires_grad_()
        loss = compiled(a, b)
        loss.backward()
        return loss.detach(), a.grad, b.grad

    return one_pass


def numba_csr(problem: Problem) -> Pass:
    """SciPy's CSR and CSC of the entries, and two parallel Numba loops."""
    import numba
    import numpy as np
    from scipy.sparse import csr_array

    from bench.numba_csr import column_pass, row_pass

    # Numba's OpenMP threads keep spinning after a pass and would take time from the next one.
    numba.config.THREADING_LAYER = "workqueue"
    numba.set_num_threads(torch.get_num_threads())
    pairs = (problem.rows.numpy(), problem.columns.numpy())
    by_row = csr_array((problem.values.numpy(), pairs), shape=problem.shape)
    order = np.arange(problem.nnz, dtype=np.int32)
    by_column = csr_array((order, by_row.indices, by_row.indptr), shape=problem.shape).tocsc()
    a, b = problem.a.numpy(), problem.b_transposed.numpy()
    residuals = np.empty(problem.nnz, dtype=np.float32)

    def one_pass() -> tuple[Tensor, Tensor, Tensor]:
        gradient_a, gradient_b = np.empty_like(a), np.empty_like(b)
        loss = row_pass(by_row.indptr, by_row.indices, by_row.data, a, b, residuals, gradient_a)
        column_pass(by_column.indptr, by_column.indices, by_column.data, a, residuals, gradient_b)
        return torch.tensor(loss), torch.from_numpy(gradient_a), torch.from_numpy(gradient_b)

    return one_pass


def dense_autograd(problem: Problem) -> Pass:
    """The product formed whole, a dense mask, autograd."""
    mask = torch.zeros(problem.shape, device=problem.a.device)
    mask[problem.rows, problem.columns] = 1.0
    target = torch.zeros_like(mask)
    target[problem.rows, problem.columns] = problem.values

    def one_pass() -> tuple[Tensor, Tensor, Tensor]:
        a, b = problem.a.detach().requires_grad_(), problem.b_transposed.detach().requires_grad_()
        loss = (mask * (a @ b.T - target)).square().sum()
        loss.backward()
        return loss.detach(), a.grad, b.grad

    return one_pass


def _compressed(sorted_indices: Tensor, count: int) -> Tensor:
    starts = torch.zeros(count + 1, dtype=torch.int32, device=sorted_indices.device)
    starts[1:] = torch.bincount(sorted_indices, minlength=count).cumsum(0)
    return starts


RIVALS = {
    "dmf_fast": dmf_fast,
    "sampled_addmm + CSR": sampled_addmm,
    "Numba CSR + CSC": numba_csr,
    "gather + autograd": gather_autograd,
    "gather, torch.compile": compiled_gather,
    "dense + autograd": dense_autograd,
}
