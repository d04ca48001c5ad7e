"""Matrices whose rows are in the hands of several processes."""

from dmf_fast.distributed.row_blocks import RowBlocks
from dmf_fast.distributed.starts import initial_factors

__all__ = ["RowBlocks", "initial_factors"]
