// Gradient descent, whole runs a thread block each: what csrc/ops calls. It only enqueues work on `stream`.
#pragma once

#include <cuda_runtime_api.h>

#include "../number_types.h"
#include "descent_run.h"

namespace dmf::cuda {

// Runs that have come to an end, other than by reaching an earlier `until`, stay as they are.
void descend(Dtype dtype, const BlockRuns& runs, cudaStream_t stream);

// What a block may have on the present device, in bytes.
int64_t shared_memory_limit();

}  // namespace dmf::cuda
