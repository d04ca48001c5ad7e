"""Loads the installed CUDA library and checks that torch finds its kernels; needs no GPU."""

import torch

from dmf_fast import cuda, info

OPERATORS = (
    "block_shared_memory",
    "build_layout",
    "caller_order",
    "completion_loss_forward",
    "completion_loss_gradients",
    "dense_loss_forward",
    "dense_loss_gradient",
    "descend_blocks",
    "gather_observed",
    "observed_product_backward",
    "observed_product_forward",
    "scatter_observed",
    "tile_loss_gradients",
)

assert cuda.missing_reason() is None, cuda.missing_reason()
for operator in OPERATORS:
    has_kernel = torch._C._dispatch_has_kernel_for_dispatch_key(f"dmf_fast::{operator}", "CUDA")
    assert has_kernel, f"dmf_fast::{operator} has no CUDA kernel"
print(info.report())
print(f"{len(OPERATORS)} operators have CUDA kernels")
