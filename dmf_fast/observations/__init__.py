"""The observed entries of a matrix: from what a user gives to the tiled layout that the kernels read."""

from dmf_fast.observations.file import load_observations, save_observations
from dmf_fast.observations.observations import Observations

__all__ = ["Observations", "load_observations", "save_observations"]
