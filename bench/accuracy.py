"""Errors of loss, dA and dBᵀ of a pass compared with float64."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.problems import Problem

CHUNK = 1_000_000  # entries whose rows of A and Bᵀ are copied at once: 64 float64 each take half a gigabyte


def exact(problem: Problem) -> tuple[Tensor, Tensor, Tensor]:
    """Return loss, dA and dBᵀ computed in float64 from gathered rows, on the problem's device."""
    a, b = problem.a.double(), problem.b_transposed.double()
    loss = torch.zeros((), dtype=torch.float64, device=a.device)
    gradient_a, gradient_b = torch.zeros_like(a), torch.zeros_like(b)
    chunks = (tensor.split(CHUNK) for tensor in (problem.rows, problem.columns, problem.values))
    for rows, columns, values in zip(*chunks, strict=True):
        a_rows, b_rows = a[rows], b[columns]
        residuals = (a_rows * b_rows).sum(dim=1) - values
        loss += residuals.square().sum()
        gradient_a.index_add_(0, rows, 2 * residuals[:, None] * b_rows)
        gradient_b.index_add_(0, columns, 2 * residuals[:, None] * a_rows)
    return loss, gradient_a, gradient_b


def errors(outputs: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> dict[str, float]:
    """Return the relative error of every output."""
    names = ("loss", "dA", "dB")
    return {name: _error(*pair) for name, *pair in zip(names, outputs, expected, strict=True)}


def _error(actual: Tensor, expected: Tensor) -> float:
    """Return the larger of two ratios: of the norms, and of the largest difference to the largest number."""
    difference = actual.double() - expected
    in_norm = difference.norm() / expected.norm()
    at_worst = difference.abs().max() / expected.abs().max()
    return max(float(in_norm), float(at_worst))
