"""Fast deep matrix factorization for matrix completion."""

import importlib.metadata

from dmf_fast.functional import completion_loss, observed_product
from dmf_fast.observations import Observations
from dmf_fast.planner import explain

__version__ = importlib.metadata.version("dmf-fast")

__all__ = ["Observations", "__version__", "completion_loss", "explain", "observed_product"]
