"""Until `descend` goes: its options are those of `fit`."""

from __future__ import annotations

from typing import Literal

from dmf_fast.training.options import FitOptions

DescentOptions = FitOptions
DescentStoppedBecause = Literal[
    "steps",
    "train_loss_threshold",
    "gradient_norm_threshold",
    "patience",
    "callback",
    "max_seconds",
    "interrupted",
    "diverged",
]
