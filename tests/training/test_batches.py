"""Batches: parts that hold every entry once, and an order that needs no state."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dmf_fast import DeepMatrixFactorization, Observations
from dmf_fast.training import FitOptions, Recording, fit
from dmf_fast.training.batches import Batches


def observations(nnz: int = 23, weighted: bool = False) -> Observations:
    places = torch.randperm(60, generator=torch.Generator().manual_seed(1))[:nnz]
    values = torch.arange(nnz, dtype=torch.float64)
    weights = values + 1 if weighted else None
    return Observations(places // 6, places % 6, values, (10, 6), weights=weights)


def entries_of(part: Observations) -> list[tuple[int, int, float]]:
    rows, columns = (side.tolist() for side in part.coordinates())
    return list(zip(rows, columns, part.values.tolist(), strict=True))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("count", [1, 2, 5, 23])
def test_an_epoch_sees_every_entry_once_with_its_weight(count: int, weighted: bool) -> None:
    train = observations(weighted=weighted)
    batches = Batches(train, count, seed=3)
    for epoch in range(3):
        parts = [batches.at(epoch * count + step) for step in range(count)]
        sizes = [len(part) for part in parts]
        assert max(sizes) - min(sizes) <= 1
        seen = torch.cat(
            [torch.stack([*(side.double() for side in p.coordinates()), p.values]) for p in parts], dim=1
        )
        expected = torch.stack([*(side.double() for side in train.coordinates()), train.values])
        assert sorted(seen.T.tolist()) == sorted(expected.T.tolist())
        if weighted:
            for part in parts:
                assert torch.equal(part.weights, part.values + 1)


def test_the_order_depends_on_the_seed_and_the_step_alone() -> None:
    def order(seed: int, steps: Any) -> list[float]:
        batches = Batches(observations(), 5, seed)
        return [batches.at(step).values.sum().item() for step in steps]

    forwards = order(4, range(20))
    assert order(4, reversed(range(20))) == forwards[::-1]
    assert forwards[:5] != forwards[5:10]
    assert order(5, range(20)) != forwards


def test_more_batches_than_entries_are_refused() -> None:
    with pytest.raises(ValueError, match="`batches` must be at most the 23 entries of `train`, got 24"):
        Batches(observations(), 24, seed=0)


def test_a_batch_without_weight_is_refused() -> None:
    train = Observations([0, 1], [0, 0], [1.0, 2.0], weights=[1.0, 0.0])
    with pytest.raises(ValueError, match="a weight above zero in every batch"):
        Batches(train, 2, seed=0)


def test_a_step_of_fit_takes_the_gradient_of_its_batch() -> None:
    train, options = observations(), FitOptions(steps=4, batches=3, seed=7)
    batches = Batches(train, 3, seed=7)
    model, twin = (DeepMatrixFactorization((10, 6), 2, 3, 0.5, seed=0, dtype=torch.float64) for _ in range(2))
    losses = []
    for step in range(4):
        loss = twin.loss(batches.at(step))
        losses.append(loss.item())
        gradients = torch.autograd.grad(loss, list(twin.factors))
        with torch.no_grad():
            for factor, gradient in zip(twin.factors, gradients, strict=True):
                factor -= 1e-3 * gradient
    result = fit(
        model, train, torch.optim.SGD(model.parameters(), 1e-3), options, recording=Recording(every=1)
    )
    assert result.history["train_loss"][:4] == pytest.approx(losses)
    for own, expected in zip(model.factors, twin.factors, strict=True):
        assert torch.equal(own, expected)


def test_batches_and_a_schedule_resume_bit_identically(tmp_path: Any) -> None:
    from dmf_fast.completion import make_scheduler

    def run(steps: int, folder: Any, resume: bool) -> DeepMatrixFactorization:
        model = DeepMatrixFactorization((10, 6), 2, 3, 0.5, seed=0, dtype=torch.float64)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
        scheduler = make_scheduler("cosine", optimizer, steps=20, warmup=3)
        options = FitOptions(steps=steps, batches=4, seed=2)
        fit(
            model,
            observations(),
            optimizer,
            options,
            scheduler=scheduler,
            checkpoint=folder,
            resume=resume,
        )
        return model

    whole = run(20, tmp_path / "whole", resume=False)
    run(9, tmp_path / "parts", resume=False)
    resumed = run(20, tmp_path / "parts", resume=True)
    for own, expected in zip(resumed.parameters(), whole.parameters(), strict=True):
        assert torch.equal(own, expected)
