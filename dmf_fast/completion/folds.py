"""Training and validation entries of the search: one held-out part, or several for small data sets."""

from __future__ import annotations

import math

from dmf_fast.completion.options import CompletionOptions
from dmf_fast.evaluation.baselines import Biases, chosen_biases
from dmf_fast.evaluation.held_out import HeldOut
from dmf_fast.observations import Observations

Parts = tuple[Observations, Observations | None]

# Fewer entries tell two models apart only by chance.
_ENOUGH_TO_CHOOSE = 5_000
_MOST_FOLDS = 10


def validation_folds(observed: Observations, options: CompletionOptions) -> list[Parts]:
    """Return pairs of training and validation entries, one for every fold.

    The validation entries are the part `validation_fraction`. If these are fewer than 5,000, there are up to
    10 folds with disjoint validation parts, which together reach that number; without a refit there is one
    fold, as its model is the result. The validation part is None if it would be empty.

    >>> observed = Observations([0, 0, 1], [0, 1, 0], [1.0, 2.0, 3.0])
    >>> [len(part) for part in validation_folds(observed, CompletionOptions(validation_fraction=0.3))[0]]
    [2, 1]
    """
    fraction = options.validation_fraction
    if not fraction:
        return [(observed, None)]
    chosen = max(1, round(fraction * len(observed)))
    count = min(_MOST_FOLDS, math.ceil(_ENOUGH_TO_CHOOSE / chosen)) if options.refit else 1
    folds: list[Parts] = [
        (train, validation)
        for train, validation in observed.folds(fraction, count, options.seed)
        if train.total_weight and validation.total_weight
    ]
    return folds or [(observed, None)]


def bias_tolerance(options: CompletionOptions) -> float:
    """Return the tolerance of `dmf_fast.evaluation.Biases.fit`: a loose one if L-BFGS trains the biases."""
    return 1e-3 if options.begins_fast else 1e-6


def biases_of_folds(folds: list[Parts], options: CompletionOptions) -> list[Biases | None]:
    """Return the biases of every fold, with one shrinkage, chosen by the validation entries of all folds."""
    if not options.bias:
        return [None] * len(folds)
    parts = [(train, HeldOut.of(validation)) for train, validation in folds if validation is not None]
    if len(parts) < len(folds):
        return [Biases.fit(train, tolerance=bias_tolerance(options)) for train, _ in folds]
    return list(chosen_biases(parts, tolerance=bias_tolerance(options)))
