// Runs of gradient descent for both types.
#include "descent.h"

#include "descent.cuh"

namespace dmf::cuda {

void descend(Dtype dtype, std::vector<BlockTask>& tasks, int64_t shared_bytes, Workspace& workspace,
             cudaStream_t stream) {
  const auto count = static_cast<int64_t>(tasks.size()),
             bytes = count * static_cast<int64_t>(sizeof(BlockTask));
  auto* on_device = workspace.take_array<BlockTask>(count);
  check(cudaMemcpyAsync(on_device, tasks.data(), bytes, cudaMemcpyHostToDevice, stream), "copying to the GPU");
  const auto kernel = dtype == Dtype::float64 ? descend_block<double> : descend_block<float>;
  launch(kernel, count, descent_threads, shared_bytes, stream, on_device);
  check(cudaMemcpyAsync(tasks.data(), on_device, bytes, cudaMemcpyDeviceToHost, stream),
        "copying from the GPU");
  check(cudaStreamSynchronize(stream), "making steps");
}

int64_t block_shared_memory() {
  return shared_memory_limit();
}

}  // namespace dmf::cuda
