"""Completion of a matrix: from options to a trained model, with validation and refit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmf_fast.lazy import import_lazily

if TYPE_CHECKING:
    from dmf_fast.completion.complete import complete_matrix
    from dmf_fast.completion.completed import CompletedMatrix, WidthTrial
    from dmf_fast.completion.decay import DecayUnit
    from dmf_fast.completion.folds import validation_folds
    from dmf_fast.completion.optimizers import OPTIMIZERS, optimizer_spec
    from dmf_fast.completion.options import FAST, PAPER, CompletionOptions
    from dmf_fast.completion.rescaling import rescaled
    from dmf_fast.completion.scaled_model import ScaledFactorization
    from dmf_fast.completion.scales import degree_scales
    from dmf_fast.completion.schedules import SCHEDULES, make_scheduler
    from dmf_fast.completion.search import Candidate, PhaseRun
    from dmf_fast.completion.units import value_unit

__all__ = [
    "FAST",
    "OPTIMIZERS",
    "PAPER",
    "SCHEDULES",
    "Candidate",
    "CompletedMatrix",
    "CompletionOptions",
    "DecayUnit",
    "PhaseRun",
    "ScaledFactorization",
    "WidthTrial",
    "complete_matrix",
    "degree_scales",
    "make_scheduler",
    "optimizer_spec",
    "rescaled",
    "validation_folds",
    "value_unit",
]

import_lazily(__name__)
