// The blocks of a launch on the CPU, as a library with which tests/training/blocks.py executes Python runs.
#include "simt_shim.h"

#include "../kernels/cuda/descent.cuh"

using namespace dmf::cuda;

extern "C" void descend_blocks(BlockTask* tasks, int64_t count, int64_t number_bytes, int64_t shared_bytes) {
  constexpr int threads = 64;
  const auto kernel = number_bytes == 8 ? descend_block<double> : descend_block<float>;
  launch(kernel, count, threads, shared_bytes, nullptr, tasks);
}
