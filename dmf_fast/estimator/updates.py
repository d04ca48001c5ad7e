"""Updates without training again: new ratings of known rows and columns, and new rows or columns."""

from __future__ import annotations

from dataclasses import replace

import pyarrow as pa
import torch
from torch import Tensor

from dmf_fast.data import IdMap, ObjectIdMap
from dmf_fast.estimator.fitted import FittedModel
from dmf_fast.estimator.regression import (
    gaussian_prior,
    linear_regression,
    posterior_changes,
    with_coefficients,
)
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.serving import SeenColumns


@torch.inference_mode(False)
def partial_fit(fitted: FittedModel, new: Observations) -> FittedModel:
    """Return the model after new ratings of known rows and columns; they replace old ratings of their pairs.

    The affected rows change first, then the affected columns, as `posterior_changes` defines: in proportion
    to the new residuals, and less, the more ratings a row has. Nothing else changes. Many small calls give
    approximately the result of one call, and a repeated rating changes nothing.

    Args:
        fitted: the model before, including ``observed``.
        new: ratings of the same shape, float64.

    """
    assert fitted.observed is not None
    replaced = _find(new, fitted.observed)
    before = _predictions(fitted.model, new)
    residuals = _new_residuals(fitted.observed, new, replaced, before)
    is_kept = replaced.new_ones(len(fitted.observed), dtype=torch.bool)
    is_kept[replaced[replaced >= 0]] = False
    kept = fitted.observed.select(is_kept)
    model = fitted.model
    for axis in (0, 1):
        left = residuals - (_predictions(model, new) - before)
        evidence = _residuals_of_concerned(kept, new.with_values(left, new.weights), axis)
        coefficients, features, _ = linear_regression(model, axis)
        _, root = gaussian_prior(coefficients[fitted.is_rated(axis)])
        changes = posterior_changes(root, features, evidence, fitted.noise_variance)
        model = with_coefficients(model, axis, coefficients + changes)
    observed = _concatenated(kept, new).to(dtype=kept.dtype)
    return replace(_with_model(fitted, model, new), observed=observed)


@torch.inference_mode(False)
def fold_in(fitted: FittedModel, axis: int, new_ids: IdMap, new: Observations) -> FittedModel:
    """Return the model after ratings of new rows (axis 0) or new columns (axis 1).

    A new row starts at the mean of the rated rows and changes as `posterior_changes` defines: by ridge
    regression on the fixed column factors, with the distribution of the trained rows as the prior. Nothing
    else changes.

    Args:
        fitted: the model before.
        axis: 0 or 1.
        new_ids: ids that ``fitted`` does not know.
        new: ratings whose rows, or columns, are indices into ``new_ids``, float64.

    """
    coefficients, features, offsets = linear_regression(fitted.model, axis)
    mean, root = gaussian_prior(coefficients[fitted.is_rated(axis)])
    entries = new if axis == 0 else new.transpose()
    residuals = entries.values - (features @ mean + offsets)[entries.coordinates()[1]]
    changes = posterior_changes(
        root, features, entries.with_values(residuals, entries.weights), fitted.noise_variance
    )
    ids = _united(fitted.ids[axis], new_ids)
    old_places, new_places = (torch.from_numpy(ids.indices(some.ids)) for some in (fitted.ids[axis], new_ids))
    grown = coefficients.new_empty(len(ids), coefficients.shape[1])
    grown[old_places], grown[new_places] = coefficients, mean + changes
    result = _with_model(fitted, with_coefficients(fitted.model, axis, grown), new)
    result = replace(result, row_ids=ids) if axis == 0 else replace(result, column_ids=ids)
    return _with_more_ratings(result, axis, old_places, _reindexed(new, axis, new_places, len(ids)))


def _find(wanted: Observations, observed: Observations) -> Tensor:
    """Return the position in ``observed`` of the pair of each wanted entry, -1 if it is not there."""
    rows, columns = observed.coordinates()
    wanted_rows, wanted_columns = wanted.coordinates()
    keys, wanted_keys = (
        rows * wanted.shape[1] + columns,
        wanted_rows * wanted.shape[1] + wanted_columns,
    )
    places = wanted_keys.new_full((len(wanted_keys),), -1)
    in_order, order = wanted_keys.sort()
    # Few are wanted: the others are looked up among them.
    nearest = torch.searchsorted(in_order, keys).clamp(max=len(in_order) - 1)
    found = (in_order[nearest] == keys).nonzero()[:, 0]
    places[order[nearest[found]]] = found
    return places


def _predictions(model: DeepMatrixFactorization, entries: Observations) -> Tensor:
    return model.predict(*entries.coordinates()).double()


def _new_residuals(observed: Observations, new: Observations, replaced: Tensor, before: Tensor) -> Tensor:
    """Return the residuals of new ratings, minus those of the ratings that they replace."""
    residuals = new.values - before
    again = replaced >= 0
    places = replaced[again]
    share = _weights(observed)[places] / _weights(new)[again]
    residuals[again] -= share * (observed.values.double()[places] - before[again])
    return residuals


def _residuals_of_concerned(kept: Observations, residuals: Observations, axis: int) -> Observations:
    """Return the residuals together with those of all other ratings of their rows, which are 0.

    Those ratings have been trained on. For axis 1 the same for columns, transposed.
    """
    concerned = torch.isin(kept.coordinates()[axis], residuals.coordinates()[axis])
    trained = kept.select(concerned)
    trained = trained.with_values(trained.values.zero_(), trained.weights)
    both = _concatenated(trained, residuals)
    return both if axis == 0 else both.transpose()


def _concatenated(first: Observations, second: Observations) -> Observations:
    """Return the entries of both, float64."""
    rows, columns = (torch.cat(pair) for pair in zip(first.coordinates(), second.coordinates(), strict=True))
    values = torch.cat([first.values.double(), second.values.double()])
    weights = None
    if first.weights is not None or second.weights is not None:
        weights = torch.cat([_weights(first), _weights(second)])
    return Observations(rows, columns, values, first.shape, weights=weights)


def _weights(observed: Observations) -> Tensor:
    weights = observed.weights
    return torch.ones_like(observed.values, dtype=torch.float64) if weights is None else weights.double()


def _with_model(fitted: FittedModel, model: DeepMatrixFactorization, new: Observations) -> FittedModel:
    """Return ``fitted`` with another model, and a range of predictions that includes the new ratings."""
    before, values = fitted.predictor, new.values
    lowest, highest = min(before.lowest, values.min().item()), max(before.highest, values.max().item())
    return replace(fitted, predictor=replace(before, model=model, lowest=lowest, highest=highest))


def _united(ids: IdMap, new_ids: IdMap) -> IdMap:
    of_one_type = all(isinstance(some.ids, pa.Array) for some in (ids, new_ids))
    if of_one_type and ids.ids.type == new_ids.ids.type:
        return IdMap(pa.concat_arrays([ids.ids, new_ids.ids]))
    return ObjectIdMap([*ids.ids.tolist(), *new_ids.ids.tolist()])


def _reindexed(observed: Observations, axis: int, places: Tensor, size: int) -> Observations:
    """Return the same entries of a matrix of ``size`` rows, with row k moved to ``places[k]``."""
    coordinates, shape = list(observed.coordinates()), list(observed.shape)
    coordinates[axis], shape[axis] = places[coordinates[axis]], size
    rows, columns = coordinates
    return Observations(rows, columns, observed.values, (shape[0], shape[1]), weights=observed.weights)


def _with_more_ratings(fitted: FittedModel, axis: int, old_places: Tensor, new: Observations) -> FittedModel:
    """Return ``fitted`` with the new ratings, and the old ones moved to ``old_places``."""
    if fitted.observed is not None:
        old = _reindexed(fitted.observed, axis, old_places, new.shape[axis])
        return replace(fitted, observed=_concatenated(old, new).to(dtype=old.dtype))
    if fitted.seen_columns is None:
        return fitted
    seen, (rows, columns) = fitted.seen_columns, new.coordinates()
    seen_rows = torch.repeat_interleave(seen.offsets.diff())
    seen_pair = [seen_rows, seen.columns.long()]
    seen_pair[axis] = old_places[seen_pair[axis]]
    pairs = torch.cat([seen_pair[0], rows]), torch.cat([seen_pair[1], columns])
    return replace(fitted, seen_columns=SeenColumns.of_pairs(*pairs, new.shape))
