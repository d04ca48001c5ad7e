// The raw operator of whole runs of gradient descent: check, launch once. The arrays are those of BlockRun32
// and BlockRun64 of the Python module: a run's memory on the GPU, the states of all runs on the host.
#include <torch/csrc/stable/library.h>

#include <cstring>
#include <vector>

#include "../../kernels/cuda/descent.h"
#include "arguments.h"

namespace dmf::ops {
namespace {

void check_run(const Tensor& run, const Tensor& first) {
  check_devices(first, "the first of the runs", run);
  check_vector(run, run.numel(), first.scalar_type(), "runs");
  STD_TORCH_CHECK(run.numel() * run.element_size() >= static_cast<int64_t>(sizeof(cuda::BlockRun)) &&
                      reinterpret_cast<uintptr_t>(run.const_data_ptr()) % 16 == 0,
                  "runs must each begin at a multiple of 16 bytes, with what BlockRun's memory() returns");
}

void descend_blocks(std::vector<Tensor> runs, Tensor states, int64_t shared_bytes) {
  STD_TORCH_CHECK(!runs.empty(), "runs must hold at least one run");
  const Tensor& first = runs.front();
  const ScalarType dtype = first.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Double || dtype == ScalarType::Float,
                  "runs must have dtype float64 or float32");
  for (const Tensor& run : runs) check_run(run, first);
  constexpr size_t state_bytes = sizeof(cuda::RunState);
  STD_TORCH_CHECK(!states.is_cuda(), "states must be on the CPU");
  check_vector(states, static_cast<int64_t>(runs.size() * state_bytes), ScalarType::Byte, "states");
  const OnDevice device(first);
  STD_TORCH_CHECK(shared_bytes >= cuda::shared_front && shared_bytes <= cuda::block_shared_memory(),
                  "a block has ", cuda::block_shared_memory(),
                  " bytes of shared memory here; prepare the runs with what block_shared_memory returns");

  auto* state_of = static_cast<unsigned char*>(states.mutable_data_ptr());
  std::vector<cuda::BlockTask> tasks(runs.size());
  for (size_t run = 0; run < runs.size(); ++run) {
    tasks[run].memory = static_cast<unsigned char*>(runs[run].mutable_data_ptr());
    std::memcpy(&tasks[run].state, state_of + run * state_bytes, state_bytes);
  }
  TorchWorkspace workspace(first);
  cuda::descend(dtype_of(first, "runs"), tasks, shared_bytes, workspace, device.stream());
  for (size_t run = 0; run < runs.size(); ++run) {
    std::memcpy(state_of + run * state_bytes, &tasks[run].state, state_bytes);
  }
}

int64_t block_shared_memory(const Tensor& like) {
  STD_TORCH_CHECK(like.is_cuda(), "like must be on a GPU");
  const OnDevice device(like);
  return cuda::block_shared_memory();
}

}  // namespace
}  // namespace dmf::ops

STABLE_TORCH_LIBRARY_IMPL(dmf_fast, CUDA, library) {
  library.impl("descend_blocks", TORCH_BOX(&dmf::ops::descend_blocks));
  library.impl("block_shared_memory", TORCH_BOX(&dmf::ops::block_shared_memory));
}
