"""The entries of each step of a run: all of them, or random batches in turn."""

from __future__ import annotations

import torch

from dmf_fast.observations import Observations


class Batches:
    """A random partition of the observed entries into batches, and the order in which steps use them.

    Each entry is in one batch, drawn at random over all rows and columns; see `Observations.partition` for
    the sizes. Each batch has a layout of its own; together they take the memory of one for all entries. An
    epoch uses each batch once, in an order that depends only on the seed and the number of the epoch, so that
    a run can resume without any state.

    Args:
        train: all entries.
        count: number of batches, at least 1; with 1 the batch is ``train`` itself.
        seed: of the batches and their order.

    Raises:
        ValueError: there are fewer entries than batches, or the weights of a batch sum to 0.

    Example:
        >>> batches = Batches(Observations([0, 1, 2], [0, 0, 1], [1.0, 2.0, 3.0]), count=2, seed=0)
        >>> sorted(len(batches.at(step)) for step in (0, 1)), batches.at(0) is batches.at(0)
        ([1, 2], True)

    """

    def __init__(self, train: Observations, count: int, seed: int) -> None:
        if count > len(train):
            raise ValueError(f"`batches` must be at most the {len(train)} entries of `train`, got {count}")
        self._parts = [train] if count == 1 else train.partition(count, seed)
        self._seed = seed
        self._epoch, self._order = -1, torch.zeros(1, dtype=torch.long, device="cpu")
        for part in self._parts:
            if part.total_weight == 0:
                raise ValueError(
                    "`train` must hold an entry with a weight above zero in every batch, got none in one"
                )

    def at(self, step: int) -> Observations:
        """Return the entries of a step; steps are counted from 0."""
        epoch, place = divmod(step, len(self._parts))
        if epoch != self._epoch and len(self._parts) > 1:
            generator = torch.Generator().manual_seed(_mixed(self._seed, epoch))
            self._epoch, self._order = (
                epoch,
                torch.randperm(len(self._parts), generator=generator, device="cpu"),
            )
        return self._parts[int(self._order[place])]


def _mixed(seed: int, epoch: int) -> int:
    """Return a seed for the pair, unrelated to the seeds of neighboring pairs."""
    generator = torch.Generator().manual_seed(seed)
    return int(torch.randint(2**62, (), generator=generator, device="cpu").item()) ^ (epoch + 1)
