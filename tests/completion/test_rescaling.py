"""A model of standardized values becomes one of the original values."""

from __future__ import annotations

import pytest
import torch

from dmf_fast import DeepMatrixFactorization
from dmf_fast.completion import rescaled


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
def test_every_prediction_is_scaled_and_shifted(depth: int, bias: bool) -> None:
    model = DeepMatrixFactorization((6, 5), depth, 4 if depth > 1 else None, 1.0, bias=bias, seed=0)
    model.mean.fill_(0.25)
    if bias:
        model.row_bias.data.copy_(torch.linspace(-1, 1, 6))
        model.column_bias.data.copy_(torch.linspace(2, 1, 5))
    rows, columns = torch.arange(30) % 6, torch.arange(30) % 5
    before = model.predict(rows, columns)

    after = rescaled(model, mean=3.5, scale=1.25).predict(rows, columns)

    torch.testing.assert_close(after, 3.5 + 1.25 * before)
    assert torch.equal(model.predict(rows, columns), before)


@pytest.mark.parametrize("scale", [0.0, -1.0, float("nan"), float("inf")])
def test_a_scale_that_is_none_is_refused(scale: float) -> None:
    with pytest.raises(ValueError, match=r"`scale` must be (above 0|finite)"):
        rescaled(DeepMatrixFactorization((2, 2), 1), mean=0.0, scale=scale)
