"""`python -m bench.gpu_small`: operators on small problems of every dtype, compared with the CPU's.

For compute-sanitizer, under which all is many times slower: few entries, but every kind of pattern that the
kernels treat differently. Inputs are made on the CPU and copied, which its initcheck follows.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from dmf_fast import FitOptions, Observations, fit
from dmf_fast.initialization import initialize
from dmf_fast.ops.operators import accumulator_dtype

Result = Tensor | tuple[Tensor, ...]

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
TILE_TOLERANCES = {"tf32": 1e-2, "tf32x3": 1e-4, "bfloat16": 5e-2}
TILE_WIDTH, TILE_DENSITY = 128, 0.02  # the widest h and the lowest density of the dense tiles


@dataclass(frozen=True)
class Pattern:
    """Sizes of a small problem. `full_row` observes all of row 0."""

    rows: int
    columns: int
    nnz: int
    h: int
    full_row: bool = False


PATTERNS = (
    Pattern(30, 20, 0, 8),
    Pattern(1, 1, 1, 1),
    Pattern(150, 130, 6000, 17),
    Pattern(150, 130, 6000, 64),
    Pattern(40, 3000, 4000, 100, full_row=True),
    Pattern(200, 260, 3000, 128),
    Pattern(90, 70, 900, 300),
    Pattern(70_000, 40, 20_000, 16),  # so many rows are gathered in blocks
)


class Inputs:
    """Arguments of all operators for one pattern and dtype."""

    def __init__(self, pattern: Pattern, dtype: torch.dtype) -> None:
        generator = torch.Generator().manual_seed(0)

        def draw(*shape: int) -> Tensor:
            return torch.randn(*shape, generator=generator).to(dtype)

        cells = torch.randperm(pattern.rows * pattern.columns, generator=generator)[: pattern.nnz]
        if pattern.full_row:
            cells = torch.cat([torch.arange(pattern.columns), cells]).unique()
        nnz = cells.numel()
        self.observations = Observations(
            cells // pattern.columns,
            cells % pattern.columns,
            draw(nnz),
            (pattern.rows, pattern.columns),
            weights=draw(nnz).abs(),
        )
        self.a, self.b_transposed = draw(pattern.rows, pattern.h), draw(pattern.columns, pattern.h)
        self.dense = draw(pattern.rows, pattern.columns)
        self.coefficients = draw(nnz).to(accumulator_dtype(dtype))

    def suit_tiles(self) -> bool:
        """Whether the dense-tile path takes them."""
        observations = self.observations
        return (
            observations.dtype != torch.float64
            and observations.density >= TILE_DENSITY
            and self.a.shape[1] <= TILE_WIDTH
        )


def calls(inputs: Inputs, device: torch.device | str) -> dict[str, Callable[[], Result]]:
    """Return a call of every operator; those of the dense tiles where they take the inputs."""
    operators = torch.ops.dmf_fast
    observations = inputs.observations.to(device)
    layout, (rows, columns), nnz = observations.layout(), observations.shape, observations.nnz
    a, b, dense = (tensor.to(device) for tensor in (inputs.a, inputs.b_transposed, inputs.dense))
    coefficients = inputs.coefficients.to(device)
    weighted = (layout.buffer, layout.values, layout.weights)
    unweighted = (layout.buffer, layout.values, None)
    named = {
        "observed_product_forward": lambda: operators.observed_product_forward(a, b, layout.buffer, nnz),
        "observed_product_backward": lambda: operators.observed_product_backward(
            coefficients, a, b, layout.buffer
        ),
        "completion_loss_forward": lambda: operators.completion_loss_forward(a, b, *weighted, 0.5),
        "completion_loss_gradients": lambda: operators.completion_loss_gradients(a, b, *weighted, 0.5),
        "completion_loss_gradients, unweighted": lambda: operators.completion_loss_gradients(
            a, b, *unweighted, 0.5
        ),
        "dense_loss_forward": lambda: operators.dense_loss_forward(dense, *weighted, 0.5),
        "dense_loss_gradient": lambda: operators.dense_loss_gradient(dense, *unweighted, 0.5),
        "caller_order": lambda: operators.caller_order(layout.values, layout.buffer),
        "gather_observed": lambda: operators.gather_observed(dense, layout.buffer, nnz),
        "scatter_observed": lambda: operators.scatter_observed(layout.values, layout.buffer, rows, columns),
    }
    if torch.device(device).type == "cuda" and inputs.suit_tiles():
        for precision in TILE_TOLERANCES:
            named[f"tile_loss_gradients, {precision}"] = partial(
                operators.tile_loss_gradients, a, b, *weighted, 0.5, precision
            )
    return named


def check(pattern: Pattern, dtype: torch.dtype, device: torch.device | str) -> int:
    """Compare all operators on `device` with the CPU's; return how many there were."""
    inputs = Inputs(pattern, dtype)
    expected = {name: call() for name, call in calls(inputs, "cpu").items()}
    named = calls(inputs, device)
    for name, call in named.items():
        operator, _, precision = name.partition(", ")
        twin = "completion_loss_gradients" if operator == "tile_loss_gradients" else name
        tolerance = TILE_TOLERANCES.get(precision, 1e-10 if dtype == torch.float64 else 1e-4)
        compare(f"{name} of {pattern} in {dtype}", call(), expected[twin], tolerance)
    return len(named)


def compare(name: str, actual: Result, expected: Result, tolerance: float) -> None:
    """Compare results in units of the largest expected number."""
    pairs = [(actual, expected)] if isinstance(expected, Tensor) else zip(actual, expected, strict=True)
    for ours, theirs in pairs:
        largest = float(theirs.abs().max()) if theirs.numel() > 0 else 0.0
        difference = (ours.cpu().double() - theirs.double()).abs()
        if not bool((difference <= tolerance * largest).all()):
            raise AssertionError(f"{name} differs by up to {float(difference.max()):g} of {largest:g}")


def check_run(device: torch.device | str) -> None:
    """Compare a run in a block of the GPU with native code on the CPU."""
    inputs = Inputs(PATTERNS[2], torch.float32)
    train, optimizer, options = inputs.observations, partial(torch.optim.Adam, lr=1e-2), FitOptions(steps=5)
    starts = [initialize("gaussian", (130, 17, 17, 150), 1.0, seed=0) for _ in range(2)]
    on_device = [factor.to(device) for factor in starts[0]]
    fit(on_device, train.to(device), optimizer, options)
    fit(starts[1], train, optimizer, options)
    for place, (ours, theirs) in enumerate(zip(on_device, starts[1], strict=True)):
        compare(f"factor {place} of a run", ours, theirs, 1e-3)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cuda")
    device = parser.parse_args().device
    count = sum(check(pattern, dtype, device) for pattern in PATTERNS for dtype in DTYPES)
    check_run(device)
    print(f"A run and {count} calls of operators on {device} give what the CPU gives")


if __name__ == "__main__":
    main()
