"""Training: `fit`, its options, its history and its checkpoints."""

from dmf_fast.training.fit import FitResult, fit
from dmf_fast.training.history import history_table
from dmf_fast.training.options import FitOptions
from dmf_fast.training.run import Callback, Progress, StoppedBecause

__all__ = ["Callback", "FitOptions", "FitResult", "Progress", "StoppedBecause", "fit", "history_table"]
