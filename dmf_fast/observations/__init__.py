"""The observed entries of a matrix, from user input to the tiled layout that the kernels read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dmf_fast.lazy import import_lazily

if TYPE_CHECKING:
    from dmf_fast.observations.file import load_observations, save_observations
    from dmf_fast.observations.observations import Observations

__all__ = ["Observations", "load_observations", "save_observations"]

import_lazily(__name__)
