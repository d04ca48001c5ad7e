"""A complete job: find the model that best predicts validation entries, then train it on all entries."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from dmf_fast.completion.completed import CompletedMatrix
from dmf_fast.completion.folds import Parts, validation_folds
from dmf_fast.completion.job import Job
from dmf_fast.completion.options import CompletionOptions
from dmf_fast.completion.search import Search
from dmf_fast.completion.widths import WidthWatch, find_width
from dmf_fast.observations import Observations
from dmf_fast.training import Callback


@torch.inference_mode(False)
def complete_matrix(
    observed: Observations,
    options: CompletionOptions,
    *,
    folds: Sequence[Parts] | None = None,
    validation: Observations | None = None,
    test: Observations | None = None,
    truth: Tensor | None = None,
    callbacks: Sequence[Callback] = (),
    checkpoint: Path | None = None,
    resume: bool = False,
) -> CompletedMatrix:
    """Train on ``observed`` as specified by `CompletionOptions`.

    Args:
        observed: all training entries.
        options: model, training, validation and refit.
        folds: training and validation parts of ``observed``, instead of those of `validation_folds`.
        validation: validation entries that are not part of ``observed``; there is then no refit.
        test: entries that are measured but never influence the model.
        truth: the whole matrix, ``(m, n)``, to measure against.
        callbacks: as for `dmf_fast.training.fit`; all runs call them. Steps are counted across all phases of
            the search, and from 0 in the refit.
        checkpoint: folder for the checkpoints of all runs.
        resume: whether to resume from them.

    Raises:
        ValueError, TypeError, OSError: as `dmf_fast.training.fit` raises.

    Example:
        >>> from dmf_fast.experiments import low_rank_problem
        >>> observed = low_rank_problem(9, 8, 1, 40, seed=0).train
        >>> options = CompletionOptions().changed({"steps": 4, "evaluate_every": 2})
        >>> completed = complete_matrix(observed, options)
        >>> [candidate.name for candidate in completed.candidates][:2], completed.interrupted
        (['biases', 'depth 2'], False)

    """
    _check(observed, options)
    if validation is not None and folds is not None:
        raise ValueError("`folds` must be None if `validation` is given, got both; give one of them")
    if validation is not None:
        folds = [(observed, validation)]
    elif folds is None:
        folds = validation_folds(observed, options)

    def train(job: CompletionOptions, watch: WidthWatch, name: str) -> CompletedMatrix:
        place = None if checkpoint is None else checkpoint / name
        return _trained(observed, job, folds, test, truth, (watch,), place, resume, watch)

    if options.hidden == "auto" and options.depth != 1:
        return find_width(observed.shape, options, callbacks, train, observed.sharding)
    if options.hidden == "auto":  # a single factor has no width
        options = replace(options, hidden=None, initialization="spectral")
    return _trained(observed, options, folds, test, truth, tuple(callbacks), checkpoint, resume)


def _trained(
    observed: Observations,
    options: CompletionOptions,
    folds: Sequence[Parts],
    test: Observations | None,
    truth: Tensor | None,
    callbacks: tuple[Callback, ...],
    checkpoint: Path | None,
    resume: bool,
    watch: WidthWatch | None = None,
) -> CompletedMatrix:
    """Search for a model and train it on all entries, unless the watch abandons its width."""
    job = Job.of(observed, options, test, truth, callbacks, checkpoint, resume)
    parts = job.prepared(folds)
    fit = job.fit_options
    job.begin()
    if parts[0].validation is None:
        fit = replace(fit, patience=None)
    search = Search(parts, options, fit, job.run)
    search.search()
    ended = search.runs[-1].result.stopped_because == "interrupted" or search.has_diverged
    ended |= watch is not None and watch.gives_up
    if not options.refit or folds[0][0] is observed or ended:
        return job.completed(search, parts[0], ())
    return job.refitted(search, folds)


def _check(observed: Observations, options: CompletionOptions) -> None:
    options.check_depth()
    if options.finds_steps and options.fit.batches > 1:
        raise ValueError(
            f"`batches` must be 1 with {options.optimizer}, which uses all entries in every step, got "
            f"{options.fit.batches}; choose another optimizer, such as group-rmsprop"
        )
    if options.optimizer == "lbfgs" and options.fit.gradient_clip is not None:
        raise ValueError(
            f"`gradient_clip` must be None with lbfgs, which needs the gradients as they are, got "
            f"{options.fit.gradient_clip}; choose another optimizer, such as adaptive-gd"
        )
    if observed.total_weight == 0:
        raise ValueError("`train` must hold an entry with a weight above zero, got none")
