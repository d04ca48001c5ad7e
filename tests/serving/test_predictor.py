"""Predictions at pairs: those of the model, and for unknown ids a flagged fallback."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dmf_fast import DeepMatrixFactorization
from dmf_fast.data import DataError
from dmf_fast.serving import Predictor, predictor

SHAPE = (6, 5)
ROWS, COLUMNS = np.array([0, 5, 2, 2]), np.array([4, 0, 1, 3])


def drawn(mean: float = 3.0, bias: bool = True, clip: bool = False, training_mean: float = 3.0) -> Predictor:
    model = DeepMatrixFactorization(SHAPE, 2, 4, 20.0, bias=bias, seed=0)
    model.mean.fill_(mean)
    if bias:
        model.row_bias.data.copy_(torch.arange(6.0))
        model.column_bias.data.copy_(torch.arange(5.0) / 10)
    return Predictor(model, training_mean, 1.0, 5.0, clip)


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
def test_blocks_of_any_size_give_what_the_model_gives(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(predictor, "_BLOCK", block)
    found = drawn().predict(ROWS, COLUMNS)
    np.testing.assert_allclose(found.values, drawn().model.predict(ROWS, COLUMNS).numpy(), rtol=1e-6)
    assert found.values.dtype == np.float64
    assert found.known.all()


@pytest.mark.parametrize("indices", [np.int32, list, torch.tensor])
def test_indices_of_any_kind_are_taken(indices: object) -> None:
    assert len(drawn().predict(indices(ROWS), indices(COLUMNS)).values) == 4


def test_unknown_ids_fall_back_to_mean_and_known_biases_and_are_flagged() -> None:
    found = drawn().predict([-1, 4, -1, 4], [2, -1, -1, 2])
    np.testing.assert_allclose(found.values[:3], [3.2, 7.0, 3.0])
    assert found.known.tolist() == [False, False, False, True]


def test_without_centring_biases_do_not_count_twice() -> None:
    assert drawn(mean=0.0).predict([4], [-1]).values.tolist() == [3.0]
    assert drawn(mean=0.0, bias=False).predict([4], [-1]).values.tolist() == [3.0]


def test_values_around_a_negative_mean_are_not_taken_for_centered_ones() -> None:
    assert Predictor(drawn(mean=0.0).model, -2.0, -5.0, 5.0, False).predict([4], [-1]).values.tolist() == [
        -2.0
    ]


def test_values_whose_mean_is_zero_are_centered_as_they_are() -> None:
    assert drawn(mean=0.0, training_mean=0.0).predict([4], [-1]).values.tolist() == [4.0]


def test_predictions_are_clipped_where_that_is_asked_for() -> None:
    clipping = drawn(clip=True)
    assert clipping.predict([4], [-1]).values.tolist() == [5.0]
    assert clipping.predict([4], [-1], clip=False).values.tolist() == [7.0]


def test_no_pairs_give_no_predictions() -> None:
    assert drawn().predict([], []).values.shape == (0,)


def test_indices_outside_the_matrix_are_refused() -> None:
    with pytest.raises(IndexError, match=r"`rows\[0\]` must be from 0 to 5, or -1 for an unknown id"):
        drawn().predict([6], [-1])
    with pytest.raises(IndexError, match=r"columns\[1\]"):
        drawn().predict([0, 0], [0, -2])
    with pytest.raises(ValueError, match="the same length, got 1 and 2"):
        drawn().predict([0], [0, 1])


@pytest.mark.parametrize("bias", [True, False])
def test_what_is_saved_predicts_the_same(bias: bool, tmp_path: Path) -> None:
    saved = drawn(bias=bias, clip=True)
    saved.save(tmp_path / "model")
    loaded = Predictor.load(tmp_path / "model")
    pairs = (np.append(ROWS, -1), np.append(COLUMNS, 2))
    np.testing.assert_array_equal(loaded.predict(*pairs).values, saved.predict(*pairs).values)


def test_files_of_another_kind_are_named(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(b"no model")
    with pytest.raises(DataError, match="model is not a model of dmf-fast"):
        Predictor.load(tmp_path / "model")


@pytest.mark.parametrize("name", ["factors.1", "row_bias", "mean"])
def test_a_model_of_numbers_that_are_not_finite_is_refused(name: str, tmp_path: Path) -> None:
    saved = drawn()
    saved.model.state_dict()[name].view(-1)[0] = torch.nan
    saved.save(tmp_path / "model")

    with pytest.raises(DataError, match=f"its tensor '{name}' holds numbers that are not finite"):
        Predictor.load(tmp_path / "model")


def test_loading_leaves_torchs_random_numbers_as_they_are(tmp_path: Path) -> None:
    drawn().save(tmp_path / "model")
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    Predictor.load(tmp_path / "model")
    assert torch.equal(torch.rand(4), expected)
