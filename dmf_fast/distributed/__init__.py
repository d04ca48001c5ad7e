"""Matrices whose rows are distributed over several processes."""

from dmf_fast.distributed.row_blocks import RowBlocks
from dmf_fast.distributed.starts import initial_factors

__all__ = ["RowBlocks", "initial_factors"]
