"""New ratings without another training: of known rows and columns, and of new ones."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import torch
from torch import Tensor

from dmf_fast.data import IdMap, ObjectIdMap
from dmf_fast.estimator.fitted import FittedMatrix
from dmf_fast.estimator.gaussian import Evidence, Prior, line_changes
from dmf_fast.estimator.lines import Lines, with_vectors
from dmf_fast.estimator.ratings import IndexedRatings
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.serving import SeenColumns


def with_new_ratings(fitted: FittedMatrix, new: Observations) -> FittedMatrix:
    """Return what is known after ratings of known rows and columns; a pair that has one gets another.

    First the rows that they belong to change, then the columns, each as `line_changes` says: in proportion to
    what is new, and the less the more ratings a line has already. Nothing else moves. Ratings that come in
    many small calls give about what they give in one, and a rating that stands already changes nothing.

    Args:
        fitted: what is known before, ``observed`` included.
        new: ratings of its shape.

    """
    assert fitted.observed is not None
    old, entries = IndexedRatings.of(fitted.observed), IndexedRatings.of(new)
    places = old.places_of(entries, new.shape[1])
    before = _predictions(fitted.model, entries)
    wanted = _innovations(entries, old, places, before)
    kept = old.without(places[places >= 0])
    merged = kept.followed_by(entries)
    model = fitted.model
    for axis in (0, 1):
        left = wanted - (_predictions(model, entries) - before)
        lines = Lines.of(model, axis)
        touched, evidence = _touched_lines(axis, kept, entries, left)
        prior = Prior.of(lines.vectors[fitted.rated(axis)])
        changes = line_changes(prior.root, lines.features, evidence, fitted.noise_variance)
        model = with_vectors(model, axis, lines.vectors.index_add(0, touched, changes))
    observed = merged.observations(new.shape, fitted.observed.dtype)
    return replace(_with_model(fitted, model, entries), observed=observed)


def with_new_lines(fitted: FittedMatrix, axis: int, new_ids: IdMap, new: Observations) -> FittedMatrix:
    """Return what is known after ratings of new rows (axis 0) or new columns (axis 1).

    A new line begins at the mean of those that have ratings and changes as `line_changes` says: ridge
    regression on the fixed factors of the other side, which takes the distribution of the trained lines for
    its prior. All others stay what they are.

    Args:
        fitted: what is known before.
        axis: 0 or 1.
        new_ids: ids that ``fitted`` does not know.
        new: ratings whose rows, or columns, are indices into ``new_ids``.

    """
    lines, entries = Lines.of(fitted.model, axis), IndexedRatings.of(new)
    prior = Prior.of(lines.vectors[fitted.rated(axis)])
    own, others = entries.along(axis)
    expected = lines.features[others] @ prior.mean + lines.offsets[others]
    evidence = Evidence(own, others, entries.weights, entries.values - expected, len(new_ids))
    changes = line_changes(prior.root, lines.features, evidence, fitted.noise_variance)

    ids = _united(fitted.ids[axis], new_ids)
    places_of_old, places_of_new = (
        torch.from_numpy(ids.indices(some.ids)) for some in (fitted.ids[axis], new_ids)
    )
    vectors = lines.vectors.new_empty(len(ids), lines.vectors.shape[1])
    vectors[places_of_old], vectors[places_of_new] = lines.vectors, prior.mean + changes
    result = _with_model(fitted, with_vectors(fitted.model, axis, vectors), entries)
    result = replace(result, row_ids=ids) if axis == 0 else replace(result, column_ids=ids)
    return _with_more_ratings(result, axis, places_of_old, entries.moved(axis, places_of_new))


def _predictions(model: DeepMatrixFactorization, entries: IndexedRatings) -> Tensor:
    return model.predict(entries.rows, entries.columns).double()


def _innovations(entries: IndexedRatings, old: IndexedRatings, places: Tensor, predictions: Tensor) -> Tensor:
    """Return what entries want their predictions to change by; what a replaced one wanted is taken back."""
    wanted = entries.values - predictions
    again = places >= 0
    before = old.select(places[again])
    share = before.weights / entries.weights[again]
    wanted[again] -= share * (before.values - predictions[again])
    return wanted


def _touched_lines(
    axis: int, kept: IndexedRatings, entries: IndexedRatings, innovations: Tensor
) -> tuple[Tensor, Evidence]:
    """Return the lines of ``entries``, and all their ratings: those that they were trained with, too."""
    touched, own = torch.unique(entries.along(axis)[0], return_inverse=True)
    trained = kept.select(torch.isin(kept.along(axis)[0], touched))
    lines = torch.cat([torch.searchsorted(touched, trained.along(axis)[0]), own])
    both = trained.followed_by(entries)
    quiet = innovations.new_zeros(len(trained.values))
    return touched, Evidence(
        lines, both.along(axis)[1], both.weights, torch.cat([quiet, innovations]), len(touched)
    )


def _with_model(
    fitted: FittedMatrix, model: DeepMatrixFactorization, entries: IndexedRatings
) -> FittedMatrix:
    """Return another model, whose predictions may be as low and as high as these entries, too."""
    before = fitted.predictor
    lowest = min(before.lowest, entries.values.min().item())
    highest = max(before.highest, entries.values.max().item())
    return replace(fitted, predictor=replace(before, model=model, lowest=lowest, highest=highest))


def _united(ids: IdMap, new_ids: IdMap) -> IdMap:
    of_one_type = all(isinstance(some.ids, pa.Array) for some in (ids, new_ids))
    if of_one_type and ids.ids.type == new_ids.ids.type:
        return IdMap(pa.concat_arrays([ids.ids, new_ids.ids]))
    return ObjectIdMap([*ids.ids.tolist(), *new_ids.ids.tolist()])


def _with_more_ratings(
    fitted: FittedMatrix, axis: int, places_of_old: Tensor, entries: IndexedRatings
) -> FittedMatrix:
    """Return what is kept of the ratings, with more of them; the lines of the old ones have other places."""
    shape = fitted.model.shape
    if fitted.observed is not None:
        old = IndexedRatings.of(fitted.observed).moved(axis, places_of_old)
        return replace(fitted, observed=old.followed_by(entries).observations(shape, fitted.observed.dtype))
    if fitted.seen_places is None:
        return fitted
    seen = IndexedRatings.of_places(fitted.seen_places).moved(axis, places_of_old).followed_by(entries)
    return replace(fitted, seen_places=SeenColumns.of_pairs(seen.rows, seen.columns, shape))
