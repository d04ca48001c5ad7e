// Loss and gradients by the tensor cores, for layouts with masks and h up to 128: what csrc/ops calls. It only
// enqueues work on `stream`.
#pragma once

#include <cuda_runtime_api.h>

#include "../number_types.h"
#include "../task.h"
#include "device_layout.h"
#include "tile_limits.h"
#include "workspace.h"

namespace dmf::cuda {

// Task::loss_gradients for float32 and 16-bit types. Gradients are set, not accumulated. `loss`, one float on
// the device, is set to loss_scale · Σ.
void tile_sweep(const DeviceLayout& layout, Dtype dtype, TilePrecision precision, const Operands& operands,
                void* loss, Workspace& workspace, cudaStream_t stream);

}  // namespace dmf::cuda
