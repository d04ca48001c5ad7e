"""Validation entries: one part of large data sets, disjoint parts of small ones."""

from __future__ import annotations

import torch

from dmf_fast import Observations
from dmf_fast.completion import FAST, CompletionOptions, validation_folds
from dmf_fast.completion.folds import biases_of_folds
from dmf_fast.evaluation import HeldOut, Shrinkage, chosen_biases

OPTIONS = CompletionOptions()


def entries(count: int, rows: int = 200) -> Observations:
    order = torch.randperm(rows * 600, generator=torch.Generator().manual_seed(0))[:count]
    return Observations(order // 600, order % 600, order.float(), (rows, 600))


def test_small_sets_have_folds_until_enough_entries_choose() -> None:
    assert [len(validation_folds(entries(count), OPTIONS)) for count in (110_000, 80_000, 20_000, 2_000)] == [
        1, 2, 5, 10,
    ]  # fmt: skip


def test_the_parts_of_folds_are_disjoint_and_leave_all_other_entries_to_train_on() -> None:
    observed = entries(3_000)
    folds = validation_folds(observed, OPTIONS)
    values = [validation.values for _, validation in folds if validation is not None]
    assert len(values) == 10
    assert len(torch.cat(values).unique()) == 10 * 150
    for train, validation in folds:
        assert validation is not None
        assert torch.equal(torch.cat([train.values, validation.values]).sort()[0], observed.values.sort()[0])
        assert torch.equal(train.coordinates()[0].unique(), observed.coordinates()[0].unique())


def test_the_first_fold_is_the_one_of_split() -> None:
    observed = entries(3_000)
    train, validation = observed.split(0.05, seed=0)
    first = validation_folds(observed, OPTIONS)[0]
    assert first[1] is not None
    assert torch.equal(first[0].values, train.values)
    assert torch.equal(first[1].values, validation.values)


def test_without_a_refit_one_fold_chooses() -> None:
    assert len(validation_folds(entries(2_000), CompletionOptions(refit=False))) == 1


def test_nothing_validates_where_there_would_be_nothing() -> None:
    observed = Observations([0, 1], [0, 0], [1.0, 2.0])
    assert validation_folds(observed, OPTIONS) == [(observed, None)]
    none = CompletionOptions(validation_fraction=0.0)
    assert validation_folds(observed, none) == [(observed, None)]


def test_the_biases_of_all_folds_have_the_shrinkage_that_validation_entries_choose() -> None:
    observed = entries(2_000)
    folds = [observed.split(0.1, seed=seed) for seed in (0, 1)]
    held_out = [(train, HeldOut.of(validation)) for train, validation in folds]
    for options, tolerance in ((OPTIONS, 1e-6), (FAST, 1e-3)):
        found = biases_of_folds(folds, options)
        expected = chosen_biases(held_out, tolerance=tolerance)
        for own, other in zip(found, expected, strict=True):
            assert own is not None
            assert own.shrinkage == other.shrinkage != Shrinkage()
            assert own.row_biases.tolist() == other.row_biases.tolist()
    unvalidated = [(observed, None)]
    (own,) = biases_of_folds(unvalidated, OPTIONS)
    assert own is not None
    assert own.shrinkage == Shrinkage()
    assert biases_of_folds(folds, CompletionOptions(bias=False)) == [None, None]
