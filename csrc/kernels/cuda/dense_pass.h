// For plans that form W on a GPU: the observed entries of a dense m × n matrix. All functions only enqueue work
// on `stream`.
#pragma once

#include <cuda_runtime_api.h>

#include "../number_types.h"
#include "../task.h"
#include "device_layout.h"
#include "workspace.h"

namespace dmf::cuda {

// Sets `loss`, one number of the accumulator type on the device, to scale · Σ w (dense − value)² over Ω, and
// `gradient` to its gradient, 0 where nothing is observed.
void dense_loss(const DeviceLayout& layout, Dtype dtype, const DenseOperands& operands, void* loss,
                Workspace& workspace, cudaStream_t stream);

// values[entry] = dense[i, j] for all observed entries, in the caller's order. `itemsize` is that of one
// number.
void gather_observed(const DeviceLayout& layout, const void* dense, void* values, int itemsize,
                     cudaStream_t stream);

// dense[i, j] = values[entry] on Ω and 0 elsewhere.
void scatter_observed(const DeviceLayout& layout, const void* values, void* dense, int itemsize,
                      cudaStream_t stream);

// Writes numbers given in row order in the caller's order. `position` is a layout's.
void order_as_given(const uint32_t* position, int64_t nnz, const void* row_order, void* ordered, int itemsize,
                    cudaStream_t stream);

}  // namespace dmf::cuda
