"""Fast deep matrix factorization for matrix completion."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmf_fast.lazy import import_lazily

if TYPE_CHECKING:
    from dmf_fast import nn, optim
    from dmf_fast.estimator import MatrixCompleter
    from dmf_fast.nn import DeepMatrixFactorization
    from dmf_fast.observations import Observations
    from dmf_fast.observations.file import load_observations, save_observations
    from dmf_fast.ops.functional import completion_loss, observed_product
    from dmf_fast.training import FitOptions, Recording, explain, fit, fit_many, gradient_flow
    from dmf_fast.version import __version__

__all__ = [
    "DeepMatrixFactorization",
    "FitOptions",
    "MatrixCompleter",
    "Observations",
    "Recording",
    "__version__",
    "completion_loss",
    "explain",
    "fit",
    "fit_many",
    "gradient_flow",
    "load_observations",
    "nn",
    "observed_product",
    "optim",
    "save_observations",
]

import_lazily(__name__, MatrixCompleter="sklearn")
