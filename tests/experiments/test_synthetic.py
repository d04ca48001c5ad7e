"""The synthetic problem: its truth is what it says, its entries are drawn once each."""

from __future__ import annotations

import pytest
import torch

from dmf_fast.experiments import low_rank_problem


def test_the_truth_has_the_rank_and_the_norm_of_the_paper() -> None:
    truth = low_rank_problem(60, 40, 5, 300, seed=1, dtype=torch.float64).truth

    assert torch.linalg.matrix_rank(truth).item() == 5
    assert torch.linalg.matrix_norm(truth).item() == pytest.approx((60 * 40) ** 0.5, rel=1e-12)


def test_every_entry_is_in_train_or_in_test_once() -> None:
    problem = low_rank_problem(7, 5, 2, 12, seed=3)

    both = [(part.rows * 5 + part.columns).tolist() for part in (problem.train, problem.test)]
    assert len(problem.train) == 12
    assert sorted(both[0] + both[1]) == list(range(35))
    assert problem.train.shape == problem.test.shape == (7, 5)


def test_without_noise_the_values_are_those_of_the_truth() -> None:
    problem = low_rank_problem(7, 5, 2, 12, seed=3)

    for part in (problem.train, problem.test):
        assert torch.equal(part.values, problem.truth[part.rows, part.columns])


def test_noise_of_the_given_size_is_added_to_the_train_entries_only() -> None:
    problem = low_rank_problem(100, 100, 2, 9_000, seed=3, noise=0.5, dtype=torch.float64)
    noise = problem.train.values - problem.truth[problem.train.rows, problem.train.columns]

    assert noise.std().item() == pytest.approx(0.5, rel=0.05)
    assert torch.equal(problem.test.values, problem.truth[problem.test.rows, problem.test.columns])


def test_a_seed_decides_the_problem() -> None:
    first, same, other = (low_rank_problem(9, 8, 2, 20, seed) for seed in (0, 0, 1))

    assert torch.equal(first.truth, same.truth)
    assert torch.equal(first.train.rows, same.train.rows)
    assert not torch.equal(first.truth, other.truth)


@pytest.mark.parametrize(
    ("rank", "observed", "noise", "word"),
    [
        (0, 5, 0.0, "rank"),
        (6, 5, 0.0, "rank"),
        (2, 0, 0.0, "observed"),
        (2, 36, 0.0, "observed"),
        (2, 5, -1.0, "noise"),
    ],
)
def test_what_cannot_be_drawn_is_refused(rank: int, observed: int, noise: float, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        low_rank_problem(7, 5, rank, observed, seed=0, noise=noise)
