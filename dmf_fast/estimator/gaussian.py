"""What new ratings say about a few rows, all columns being known; and the same for columns."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

_BLOCK_NUMBERS = 1 << 22
_NEGLIGIBLE = 1e-12  # of the largest variance: below it, rounding speaks


@dataclass(frozen=True, eq=False)
class Prior:
    """How vectors are distributed before any rating: with a mean ``(p,)`` and a covariance ``root rootᵀ``.

    ``root`` is ``(p, r)``, float64, of full rank.

    >>> Prior.of(torch.tensor([[1.0, 0.0], [3.0, 0.0]], dtype=torch.float64)).mean.tolist()
    [2.0, 0.0]
    """

    mean: Tensor
    root: Tensor

    @classmethod
    def of(cls, vectors: Tensor) -> Prior:
        """Return the mean and the covariance of vectors, ``(count, p)``."""
        mean = vectors.mean(0)
        centred = vectors - mean
        variances, directions = torch.linalg.eigh(centred.T @ centred / len(vectors))
        kept = variances > _NEGLIGIBLE * variances.max().clamp(min=torch.finfo(torch.float64).tiny)
        return cls(mean, directions[:, kept] * variances[kept].sqrt())


@dataclass(frozen=True, eq=False)
class Evidence:
    """Ratings of lines: rows whose columns are fixed, or columns whose rows are.

    Attributes:
        lines: which line an entry belongs to, ``(nnz,)``, from 0 to ``count - 1``.
        others: which vector of features it is a rating of, ``(nnz,)``.
        weights: ``(nnz,)``, above 0.
        innovations: ``(nnz,)``, what the entry wants its prediction to change by; 0 where the line has been
            trained with it already.
        count: how many lines there are.

    """

    lines: Tensor
    others: Tensor
    weights: Tensor
    innovations: Tensor
    count: int


def line_changes(root: Tensor, features: Tensor, evidence: Evidence, noise_variance: float) -> Tensor:
    """Return by how much the vector of every line changes, ``(count, p)``, float64.

    With ``F`` the features of a line's entries, ``e`` their innovations, ``R`` the ``root`` of the covariance
    before any rating and ``σ²`` the variance of a single rating's noise, the change is

        ``R (Rᵀ Fᵀ F R + σ² I)⁻¹ Rᵀ Fᵀ e``,

    the mean of a Gaussian posterior; Bishop, "Pattern Recognition and Machine Learning" (2006), section 3.3.
    It is linear in ``e``: ratings that come one after the other give what they give together. Features
    without any variance in ``root`` never change.

    Args:
        root: ``(p, r)``, float64; see `Prior`.
        features: ``(others, p)``, float64.
        evidence: the entries.
        noise_variance: above 0.

    Example:
        >>> one = torch.ones(1, dtype=torch.float64)
        >>> evidence = Evidence(torch.tensor([0]), torch.tensor([0]), one, one, 1)
        >>> line_changes(one[:, None], one[:, None], evidence, noise_variance=1.0)
        tensor([[0.5000]], dtype=torch.float64)

    """
    distinct, others = torch.unique(evidence.others, return_inverse=True)
    directions = features[distinct] @ root
    order = torch.argsort(evidence.lines, stable=True)
    strengths = evidence.weights[order].sqrt()
    changes = torch.zeros(evidence.count, root.shape[1], dtype=torch.float64)
    for lines, places, given in _blocks(evidence, root.shape[1]):
        strength = torch.where(given, strengths[places], 0.0)
        design = directions[others[order[places]]] * strength[:, :, None]
        target = evidence.innovations[order[places]] * strength
        normal = design.mT @ design
        normal.diagonal(dim1=1, dim2=2).add_(noise_variance)
        pull = design.mT @ target[:, :, None]
        changes[lines] = torch.cholesky_solve(pull, torch.linalg.cholesky(normal))[:, :, 0]
    return changes @ root.T


def _blocks(evidence: Evidence, rank: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Yield lines of like numbers of entries together.

    They come with the places of their entries in the order of the lines, ``(lines, width)``, and with which
    of these are theirs.
    """
    counts = torch.bincount(evidence.lines, minlength=evidence.count)
    starts = counts.cumsum(0) - counts
    longest_first = torch.argsort(counts, descending=True, stable=True)
    begin = 0
    while begin < len(longest_first):
        width = int(counts[longest_first[begin]])
        if width == 0:
            return
        size = max(1, _BLOCK_NUMBERS // (max(width, rank) * max(1, rank)))
        lines = longest_first[begin : begin + size]
        steps = torch.arange(width)
        given = steps < counts[lines, None]
        yield lines, torch.where(given, starts[lines, None] + steps, 0), given
        begin += size
