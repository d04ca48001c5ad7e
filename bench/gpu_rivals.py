"""The passes that compete on a GPU: suitable ones of the CPU, dense tiles, and other forms of rivals."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from bench import rivals
from bench.precision import float32_products
from bench.problems import Problem
from bench.rivals import Pass


def tiles(precision: str) -> Callable[[Problem], Pass]:
    """The dense-tile path, on tensor cores; for densities of at least 2% and h up to 128."""

    def build(problem: Problem) -> Pass:
        layout = problem.layout
        sweep = torch.ops.dmf_fast.tile_loss_gradients
        sides = (problem.a, problem.b_transposed)
        return lambda: sweep(*sides, layout.buffer, layout.values, None, 1.0, precision)

    return build


def index_select_autograd(problem: Problem) -> Pass:
    """The gather form with `index_select`, whose gradient adds with atomics where `a[rows]` sorts first."""

    def one_pass() -> tuple[Tensor, Tensor, Tensor]:
        a, b = problem.a.detach().requires_grad_(), problem.b_transposed.detach().requires_grad_()
        products = (a.index_select(0, problem.rows) * b.index_select(0, problem.columns)).sum(dim=1)
        loss = (products - problem.values).square().sum()
        loss.backward()
        return loss.detach(), a.grad, b.grad

    return one_pass


def dense_autograd_tf32(problem: Problem) -> Pass:
    """The product formed whole, on tensor cores."""
    exact_pass = rivals.dense_autograd(problem)

    def one_pass() -> tuple[Tensor, Tensor, Tensor]:
        with float32_products("high"):
            return exact_pass()

    return one_pass


GPU_RIVALS = {
    "dmf_fast": rivals.dmf_fast,
    "dmf_fast tiles, TF32": tiles("tf32"),
    "dmf_fast tiles, 3×TF32": tiles("tf32x3"),
    "sampled_addmm + CSR": rivals.sampled_addmm,
    "gather + autograd": rivals.gather_autograd,
    "index_select + autograd": index_select_autograd,
    "gather, torch.compile": rivals.compiled_gather,
    "dense + autograd": rivals.dense_autograd,
    "dense + autograd, TF32": dense_autograd_tf32,
}
