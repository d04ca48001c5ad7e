// Whole runs of gradient descent, one per thread block: the interface for csrc/ops.
#pragma once

#include <cuda_runtime_api.h>

#include <vector>

#include "../number_types.h"
#include "descent_run.h"
#include "workspace.h"

namespace dmf::cuda {

// Advances each run to its `until` or to an earlier end, and waits for it; `shared_bytes` is the most that any
// of them needs. Runs that have ended, other than by reaching an earlier `until`, are unchanged. Blocks start
// in the order of `tasks`: if there are more of them than multiprocessors, the longest should come first.
void descend(Dtype dtype, std::vector<BlockTask>& tasks, int64_t shared_bytes, Workspace& workspace,
             cudaStream_t stream);

// Shared memory that a block can have on the current device, in bytes.
int64_t block_shared_memory();

}  // namespace dmf::cuda
