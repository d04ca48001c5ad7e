"""Every operator on every kind of pattern, against plain torch in float64 on the same rounded numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial

import torch
from torch import Tensor

from dmf_fast import Observations
from dmf_fast.ops.operators import accumulator_dtype

# Largest error in units of the largest number that is expected.
TOLERANCES = {torch.float64: 1e-12, torch.float32: 2e-5}
# Operands that are rounded to TF32 give 8e-4 at most here, truncated ones 1.3e-3 and more.
TILE_TOLERANCES = {"tf32": 1.2e-3, "tf32x3": 2e-5}
TILE_WIDTH, TILE_DENSITY = 128, 0.02  # the widest h and the lowest density of the dense tiles
SCALE = 0.5

Result = Tensor | tuple[Tensor, ...]
Check = Callable[[], tuple[float, str | None]]  # the error, and what is wrong


@dataclass(frozen=True)
class Pattern:
    """Sizes of a small problem. `full_row` observes all of row 0."""

    rows: int
    columns: int
    nnz: int
    h: int
    full_row: bool = False

    def __str__(self) -> str:
        """Return the sizes in a few characters."""
        return f"{self.rows}×{self.columns}, {self.nnz} entries, h {self.h}"


PATTERNS = (
    Pattern(150, 130, 6000, 64),
    Pattern(30, 20, 0, 8),
    Pattern(1, 1, 1, 1),
    Pattern(150, 130, 6000, 17),
    Pattern(40, 3000, 4000, 90, full_row=True),
    Pattern(200, 260, 3000, 128),
    Pattern(110, 80, 1000, 200),
    Pattern(90, 70, 900, 300),
    Pattern(30, 25, 90, 530),
    Pattern(70_000, 40, 20_000, 16),  # so many rows are gathered in blocks
)


class Inputs:
    """Arguments of all operators for one pattern and dtype, on the CPU."""

    def __init__(self, pattern: Pattern, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(dtype)

        cells = torch.randperm(pattern.rows * pattern.columns, generator=generator)[: pattern.nnz]
        if pattern.full_row:
            cells = torch.cat([torch.arange(pattern.columns), cells]).unique()
        nnz = cells.numel()
        self.rows, self.columns = cells // pattern.columns, cells % pattern.columns
        self.shape = (pattern.rows, pattern.columns)
        self.values, self.weights = draw(nnz), draw(nnz).abs()
        self.a, self.b_transposed = draw(pattern.rows, pattern.h), draw(pattern.columns, pattern.h)
        self.dense = draw(pattern.rows, pattern.columns)
        self.coefficients = draw(nnz).to(accumulator_dtype(dtype))

    @property
    def tile_precisions(self) -> tuple[str, ...]:
        """With which precisions the dense-tile path takes them."""
        dense = self.values.numel() >= TILE_DENSITY * self.shape[0] * self.shape[1]
        takes = self.values.dtype != torch.float64 and dense and self.a.shape[1] <= TILE_WIDTH
        return tuple(TILE_TOLERANCES) if takes else ()


def calls(inputs: Inputs, device: torch.device | str) -> dict[str, Callable[[], Result]]:
    """Return a call of every operator; those that a GPU alone has where `device` is one."""
    given = (inputs.rows, inputs.columns, inputs.values, inputs.shape)
    layout = Observations(*given, weights=inputs.weights, device=device).layout()
    a, b, dense = (tensor.to(device) for tensor in (inputs.a, inputs.b_transposed, inputs.dense))
    values, coefficients = inputs.values.to(device), inputs.coefficients.to(device)
    buffer, nnz = layout.buffer, values.numel()
    weighted = (buffer, layout.values, layout.weights, SCALE)
    arguments: dict[str, tuple[object, ...]] = {
        "observed_product_forward": (a, b, buffer, nnz),
        "observed_product_backward": (coefficients, a, b, buffer),
        "completion_loss_forward": (a, b, *weighted),
        "completion_loss_gradients": (a, b, *weighted),
        "completion_loss_gradients, unweighted": (a, b, buffer, layout.values, None, SCALE),
        "dense_loss_forward": (dense, *weighted),
        "dense_loss_gradient": (dense, *weighted),
        "caller_order": (layout.values, buffer),
        "gather_observed": (dense, buffer, nnz),
        "scatter_observed": (values, buffer, *inputs.shape),
    }
    if torch.device(device).type == "cuda":
        rows, columns = (indices.int().to(device) for indices in (inputs.rows, inputs.columns))
        arguments["build_layout"] = (rows, columns, *inputs.shape)
        for precision in inputs.tile_precisions:
            arguments[f"tile_loss_gradients, {precision}"] = (a, b, *weighted, precision)
    return {
        name: partial(getattr(torch.ops.dmf_fast, name.partition(",")[0]), *of_call)
        for name, of_call in arguments.items()
    }


def exact(inputs: Inputs) -> dict[str, Result]:
    """Return what every operator must give, from plain indexing in float64."""
    rows, columns = inputs.rows, inputs.columns
    a, b, dense, values, weights, coefficients = (
        tensor.double() for tensor in (inputs.a, inputs.b_transposed, inputs.dense, inputs.values,
                                       inputs.weights, inputs.coefficients)
    )  # fmt: skip

    def gradients(of_entries: Tensor) -> tuple[Tensor, Tensor]:
        return (
            torch.zeros_like(a).index_add_(0, rows, of_entries[:, None] * b[columns]),
            torch.zeros_like(b).index_add_(0, columns, of_entries[:, None] * a[rows]),
        )

    def scattered(of_entries: Tensor) -> Tensor:
        return torch.zeros_like(dense).index_put((rows, columns), of_entries)

    products = (a[rows] * b[columns]).sum(1)
    residuals, residuals_of_dense = products - values, dense[rows, columns] - values
    loss, loss_of_dense = (SCALE * (weights * one * one).sum() for one in (residuals, residuals_of_dense))
    weighted = (loss, *gradients(2 * SCALE * weights * residuals))
    return {
        "observed_product_forward": products,
        "observed_product_backward": gradients(coefficients),
        "completion_loss_forward": loss,
        "completion_loss_gradients": weighted,
        "completion_loss_gradients, unweighted": (
            SCALE * residuals.square().sum(), *gradients(2 * SCALE * residuals)
        ),
        "dense_loss_forward": loss_of_dense,
        "dense_loss_gradient": (loss_of_dense, scattered(2 * SCALE * weights * residuals_of_dense)),
        "caller_order": values,
        "gather_observed": dense[rows, columns],
        "scatter_observed": scattered(values),
        **{f"tile_loss_gradients, {precision}": weighted for precision in TILE_TOLERANCES},
    }  # fmt: skip


def tolerance_of(name: str, dtype: torch.dtype) -> float:
    """Return the largest error that `name` may have; moving numbers has none."""
    if name in ("caller_order", "gather_observed", "scatter_observed"):
        return 0.0
    return TILE_TOLERANCES.get(name.partition(", ")[2], TOLERANCES[accumulator_dtype(dtype)])


def tensors(result: Result) -> tuple[Tensor, ...]:
    """Return all that an operator has returned."""
    return (result,) if isinstance(result, Tensor) else tuple(result)


def error_of(actual: Result, expected: Result) -> float:
    """Return the largest error in units of the largest expected number; NaN and wrong shapes are infinite."""
    errors = [0.0]
    for ours, theirs in zip(tensors(actual), tensors(expected), strict=True):
        if ours.shape != theirs.shape:
            return float("inf")
        if theirs.numel() > 0:
            difference = (ours.cpu().double() - theirs).abs().max() / (theirs.abs().max() or 1.0)
            errors.append(float(difference.nan_to_num(nan=float("inf"))))
    return max(errors)


def same(one: Result, other: Result) -> bool:
    """Whether two results are equal bit for bit, NaN included."""
    pairs = zip(tensors(one), tensors(other), strict=True)
    return all(torch.equal(*(side.view(-1).view(torch.uint8) for side in pair)) for pair in pairs)


def checks(
    dtype: torch.dtype, device: str, patterns: tuple[Pattern, ...] = PATTERNS
) -> Iterator[tuple[str, Check]]:
    """Yield the name of every case and what checks it."""
    for pattern in patterns:
        inputs = Inputs(pattern, dtype)
        prepared = cache(partial(calls, inputs, device))
        expected = exact(inputs)
        names = [name for name in expected if not name.startswith("tile")]
        if device == "cuda":
            names += ["build_layout", *(f"tile_loss_gradients, {one}" for one in inputs.tile_precisions)]
        for name in names:
            yield f"{name} of {pattern}", partial(check, prepared, name, expected.get(name), dtype)


def check(
    prepared: Callable[[], dict[str, Callable[[], Result]]],
    name: str,
    expected: Result | None,
    dtype: torch.dtype,
) -> tuple[float, str | None]:
    """Call an operator twice; return its error, and what is wrong."""
    call = prepared()[name]
    first, again = call(), call()
    error = 0.0 if expected is None else error_of(first, expected)
    tolerance = tolerance_of(name, dtype)
    if not error <= tolerance:
        return error, f"off by {error:.1e}, {tolerance:.0e} is allowed"
    return error, None if same(first, again) else "differs from call to call"
