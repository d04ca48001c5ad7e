"""Wrong arguments of completion_loss and observed_product: the errors name them."""

from __future__ import annotations

import pytest
import torch

import dmf_fast
from dmf_fast import Observations


class TestErrors:
    """Each error names the argument, what it must be and what it got."""

    observations = Observations([0, 1], [1, 2], [1.0, 2.0], (2, 3))
    good = (torch.ones(4, 3), torch.ones(2, 4))

    def test_a_single_tensor_is_not_a_chain(self) -> None:
        with pytest.raises(TypeError, match="`factors` must be a sequence"):
            dmf_fast.completion_loss(torch.ones(2, 3), self.observations)

    def test_no_factors(self) -> None:
        with pytest.raises(ValueError, match="`factors` must hold at least one matrix"):
            dmf_fast.completion_loss([], self.observations)

    def test_a_factor_that_is_no_tensor(self) -> None:
        with pytest.raises(TypeError, match=r"`factors\[1\]` must be a torch.Tensor, got list"):
            dmf_fast.completion_loss([self.good[0], [[1.0]]], self.observations)

    def test_a_factor_that_is_no_matrix(self) -> None:
        with pytest.raises(ValueError, match=r"`factors\[0\]` must be a matrix, got shape \(3,\)"):
            dmf_fast.completion_loss([torch.ones(3)], self.observations)

    def test_factors_in_the_wrong_order(self) -> None:
        with pytest.raises(ValueError, match=r"W_N leftmost"):
            dmf_fast.completion_loss(self.good[::-1], Observations([0], [0], [1.0], (3, 3)))

    def test_factors_of_another_shape_than_the_observations(self) -> None:
        with pytest.raises(
            ValueError,
            match=r"product of `factors` must have the shape of `observations`, \(2, 3\), got \(5, 3\)",
        ):
            dmf_fast.completion_loss([torch.ones(4, 3), torch.ones(5, 4)], self.observations)

    def test_a_hidden_width_of_zero(self) -> None:
        with pytest.raises(ValueError, match="at least one row"):
            dmf_fast.completion_loss([torch.ones(0, 3), torch.ones(2, 0)], self.observations)

    def test_factors_of_another_dtype(self) -> None:
        with pytest.raises(
            TypeError,
            match=r"`factors\[0\]` must have the dtype .*, got torch.float64; use observations.to\(dtype",
        ):
            dmf_fast.completion_loss([factor.double() for factor in self.good], self.observations)

    def test_factors_on_another_device(self) -> None:
        with pytest.raises(
            ValueError, match=r"`factors\[0\]` must be on the device of `observations`, cpu, got meta"
        ):
            dmf_fast.completion_loss([factor.to("meta") for factor in self.good], self.observations)

    def test_a_device_without_kernels(self) -> None:
        elsewhere = [factor.to("meta") for factor in self.good]
        with pytest.raises(
            ValueError,
            match=r"`observations` must be .*, got meta: only cpu and cuda have kernels",
        ):
            dmf_fast.completion_loss(elsewhere, self.observations.to("meta"))

    def test_a_bias_of_the_wrong_length(self) -> None:
        with pytest.raises(ValueError, match=r"`row_bias` must have shape \(2,\), got \(3,\)"):
            dmf_fast.completion_loss(self.good, self.observations, row_bias=torch.ones(3))
        with pytest.raises(ValueError, match=r"`column_bias` must have shape \(3,\), got \(2,\)"):
            dmf_fast.observed_product(self.good, self.observations, column_bias=torch.ones(2))

    def test_an_unknown_reduction(self) -> None:
        with pytest.raises(ValueError, match=r"`reduction` must be .*, got 'none'"):
            dmf_fast.completion_loss(self.good, self.observations, "none")

    def test_something_else_than_observations(self) -> None:
        with pytest.raises(TypeError, match=r"`observations` must be dmf_fast.Observations, got Tensor"):
            dmf_fast.completion_loss(self.good, torch.ones(2, 3))

    def test_the_mean_of_nothing(self) -> None:
        empty = Observations([], [], [], (2, 3), dtype=torch.float32)
        assert float(dmf_fast.completion_loss(self.good, empty, "sum")) == 0.0
        with pytest.raises(
            ValueError, match="`reduction` must be 'sum' if observations are empty, got 'mean'"
        ):
            dmf_fast.completion_loss(self.good, empty)

    def test_the_mean_with_weights_of_zero(self) -> None:
        weightless = Observations([0], [0], [1.0], (2, 3), weights=[0.0])
        with pytest.raises(ValueError, match="all weights are zero"):
            dmf_fast.completion_loss(self.good, weightless)
