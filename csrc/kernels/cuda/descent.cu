// Runs of gradient descent for either type.
#include "descent.h"

#include "descent.cuh"

namespace dmf::cuda {

void descend(Dtype dtype, const BlockRuns& runs, cudaStream_t stream) {
  if (dtype == Dtype::float64) return descend_of<double>(runs, descent_threads, stream);
  descend_of<float>(runs, descent_threads, stream);
}

int64_t shared_memory_limit() {
  int device = 0, bytes = 0;
  check(cudaGetDevice(&device), "asking for the device");
  check(cudaDeviceGetAttribute(&bytes, cudaDevAttrMaxSharedMemoryPerBlockOptin, device),
        "asking for the shared memory of a block");
  return bytes;
}

}  // namespace dmf::cuda
