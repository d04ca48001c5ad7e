"""Checks the installed dmf_fast, not the source tree: `python -P tests/check_wheel.py`.

The README's first example runs, the operators agree with their oracle and native code trains, with the core
dependencies alone. The hosted builds run it with the oldest and the newest torch.
"""

from __future__ import annotations

import re
from pathlib import Path

import torch

import dmf_fast
from dmf_fast import info, reference

ROOT = Path(__file__).resolve().parent.parent
SHAPE, INNER, NNZ = (60, 50), 7, 800


def run_first_example() -> None:
    found = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text("utf-8"), re.DOTALL)
    assert found is not None
    exec(found.group(1), {})


def check_operators() -> None:
    """Loss and gradients of two factors, on every instruction set."""
    generator = torch.Generator().manual_seed(0)
    entries = torch.randperm(SHAPE[0] * SHAPE[1], generator=generator)[:NNZ]
    rows, columns = entries // SHAPE[1], entries % SHAPE[1]
    values = torch.randn(NNZ, dtype=torch.float64, generator=generator)
    shapes = (INNER, SHAPE[1]), (SHAPE[0], INNER)
    factors = [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]
    observations = dmf_fast.Observations(rows, columns, values, SHAPE)
    expected = with_gradients(
        factors, lambda leaves: reference.completion_loss(leaves, rows, columns, values)
    )
    for name in info.available_instruction_sets():
        info.set_instruction_set(name)
        computed = with_gradients(factors, lambda own: dmf_fast.completion_loss(own, observations))
        torch.testing.assert_close(computed, expected)


def with_gradients(factors, loss):  # type: ignore[no-untyped-def]
    leaves = [factor.clone().requires_grad_() for factor in factors]
    value = loss(leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def check_training() -> None:
    rank_one = torch.outer(torch.arange(1.0, 9.0), torch.arange(1.0, 7.0)) / 10
    observations = dmf_fast.Observations.from_dense(rank_one)
    model = dmf_fast.DeepMatrixFactorization(observations.shape, depth=3, seed=0)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    result = dmf_fast.fit(model, observations, optimizer, dmf_fast.FitOptions(steps=2_000))
    assert result.engine == "native", result.engine
    with torch.no_grad():
        assert dmf_fast.completion_loss(list(model.factors), observations) < 1e-4


def main() -> None:
    assert not Path(dmf_fast.__file__).is_relative_to(ROOT), f"{dmf_fast.__file__} is the source tree's"
    run_first_example()
    check_operators()
    check_training()
    print(info.report())


if __name__ == "__main__":
    main()
