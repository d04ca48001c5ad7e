"""Fast deep matrix factorization for matrix completion."""

from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dmf_fast import nn, optim
from dmf_fast.nn import DeepMatrixFactorization
from dmf_fast.observations import Observations
from dmf_fast.observations.file import load_observations, save_observations
from dmf_fast.ops.functional import completion_loss, observed_product
from dmf_fast.ops.planner import explain
from dmf_fast.training import DescentOptions, FitOptions, Recording, descend, descend_many, fit, gradient_flow

if TYPE_CHECKING:
    from dmf_fast.estimator import MatrixCompleter

__version__ = version("dmf-fast")

__all__ = [
    "DeepMatrixFactorization",
    "DescentOptions",
    "FitOptions",
    "MatrixCompleter",
    "Observations",
    "Recording",
    "__version__",
    "completion_loss",
    "descend",
    "descend_many",
    "explain",
    "fit",
    "gradient_flow",
    "load_observations",
    "nn",
    "observed_product",
    "optim",
    "save_observations",
]


def __getattr__(name: str) -> Any:
    """Import what needs scikit-learn when it is asked for: that takes longer than all the rest."""
    if name == "MatrixCompleter":
        from dmf_fast.estimator import MatrixCompleter

        return MatrixCompleter
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
