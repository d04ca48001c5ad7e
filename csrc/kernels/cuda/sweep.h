// One pass over Ω on a GPU: the interface for csrc/ops. It only enqueues work on `stream`.
#pragma once

#include <cuda_runtime_api.h>

#include "../number_types.h"
#include "../task.h"
#include "device_layout.h"
#include "workspace.h"

namespace dmf::cuda {

constexpr int64_t widest_row = 1 << 28;  // numbers: the bytes of a row are counted in 32 bits

// Runs `task` (task.h). Gradients are set, not accumulated. `loss`, one number of the accumulator type on the
// device, is set to loss_scale · Σ; null for tasks without a loss. Rows of A and Bᵀ that are not aligned to 16
// bytes are copied first.
void sweep(const DeviceLayout& layout, Task task, Dtype dtype, const Operands& operands, void* loss,
           Workspace& workspace, cudaStream_t stream);

}  // namespace dmf::cuda
