"""Optimisers beside those of torch."""

from dmf_fast.optim.group_rmsprop import GroupRMSprop

__all__ = ["GroupRMSprop"]
