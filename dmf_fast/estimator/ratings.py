"""Ratings by index that are merged with others."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dmf_fast.observations import Observations
from dmf_fast.serving import SeenColumns


@dataclass(frozen=True, eq=False)
class IndexedRatings:
    """Entries of a matrix, ``(nnz,)``: int64 ``rows`` and ``columns``, float64 ``values`` and ``weights``.

    >>> old = IndexedRatings.of(Observations([0, 1], [0, 1], [3.0, 4.0]))
    >>> new = IndexedRatings.of(Observations([1], [1], [5.0]))
    >>> old.places_of(new, columns=2).tolist()
    [1]
    """

    rows: Tensor
    columns: Tensor
    values: Tensor
    weights: Tensor

    @classmethod
    def of(cls, observed: Observations) -> IndexedRatings:
        """Return the entries of observations."""
        values, weights = observed.values.double(), observed.weights
        weights = torch.ones_like(values) if weights is None else weights.double()
        return cls(*observed.coordinates(), values, weights)

    @classmethod
    def of_places(cls, seen: SeenColumns) -> IndexedRatings:
        """Return the places of entries whose values are not known: NaN stands for them."""
        rows = torch.repeat_interleave(torch.arange(seen.shape[0]), seen.offsets.diff())
        values = torch.full((len(rows),), torch.nan, dtype=torch.float64)
        return cls(rows, seen.columns.long(), values, torch.ones_like(values))

    def observations(self, shape: tuple[int, int], dtype: torch.dtype) -> Observations:
        """Return the entries as observations, which have weights where any differs from 1."""
        weights = None if bool((self.weights == 1).all()) else self.weights
        return Observations(self.rows, self.columns, self.values, shape, weights=weights, dtype=dtype)

    def places_of(self, others: IndexedRatings, columns: int) -> Tensor:
        """Return where the pair of each of ``others`` stands among these, -1 where it does not."""
        own, wanted = (entries.rows * columns + entries.columns for entries in (self, others))
        places = torch.full((len(wanted),), -1)
        if not len(wanted):
            return places
        in_order, order = wanted.sort()
        # The others are few: these are looked up among them.
        nearest = torch.searchsorted(in_order, own).clamp(max=len(in_order) - 1)
        found = (in_order[nearest] == own).nonzero()[:, 0]
        places[order[nearest[found]]] = found
        return places

    def along(self, axis: int) -> tuple[Tensor, Tensor]:
        """Return the lines of an axis and those of the other: rows and columns, or columns and rows."""
        return (self.rows, self.columns) if axis == 0 else (self.columns, self.rows)

    def moved(self, axis: int, places: Tensor) -> IndexedRatings:
        """Return the same entries after line k of an axis has gone to ``places[k]``."""
        if axis == 0:
            return replace(self, rows=places[self.rows])
        return replace(self, columns=places[self.columns])

    def without(self, places: Tensor) -> IndexedRatings:
        """Return all entries but those at ``places``."""
        kept = torch.ones(len(self.rows), dtype=torch.bool)
        kept[places] = False
        return self.select(kept)

    def select(self, kept: Tensor) -> IndexedRatings:
        """Return the entries of a mask or of indices."""
        return IndexedRatings(self.rows[kept], self.columns[kept], self.values[kept], self.weights[kept])

    def followed_by(self, others: IndexedRatings) -> IndexedRatings:
        """Return these entries and then the others."""
        return IndexedRatings(
            *(
                torch.cat([own, other])
                for own, other in zip(vars(self).values(), vars(others).values(), strict=True)
            )
        )
