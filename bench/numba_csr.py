"""A reasonable parallel Numba kernel on SciPy's CSR and CSC arrays, as one would write without a library."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(parallel=True, fastmath=True, cache=False)
def row_pass(starts, columns, values, a, b, residuals, gradient_a):
    """Residuals and dA, a row of A at a time; returns the loss."""
    loss = 0.0
    h = a.shape[1]
    for i in numba.prange(a.shape[0]):
        for v in range(h):
            gradient_a[i, v] = 0.0
        for k in range(starts[i], starts[i + 1]):
            j = columns[k]
            product = np.float32(0.0)
            for v in range(h):
                product += a[i, v] * b[j, v]
            residual = product - values[k]
            loss += residual * residual
            twice = np.float32(2.0) * residual
            residuals[k] = twice
            for v in range(h):
                gradient_a[i, v] += twice * b[j, v]
    return loss


@numba.njit(parallel=True, fastmath=True, cache=False)
def column_pass(starts, rows, place, a, residuals, gradient_b):
    """The transposed product: dB, a column at a time."""
    h = a.shape[1]
    for j in numba.prange(gradient_b.shape[0]):
        for v in range(h):
            gradient_b[j, v] = 0.0
        for k in range(starts[j], starts[j + 1]):
            i = rows[k]
            coefficient = residuals[place[k]]
            for v in range(h):
                gradient_b[j, v] += coefficient * a[i, v]
