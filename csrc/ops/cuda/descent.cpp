// The raw operator of whole runs of gradient descent: check, enqueue one launch. The arrays are those of
// BlockRuns32 and BlockRuns64 of the Python module, copied to the GPU.
#include <torch/csrc/stable/library.h>

#include "../../kernels/cuda/descent.h"
#include "arguments.h"

namespace dmf::ops {
namespace {

void check_bytes(const Tensor& tensor, int64_t bytes, const char* name) {
  check_vector(tensor, bytes, ScalarType::Byte, name);
  STD_TORCH_CHECK(reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % 16 == 0, name,
                  " must begin at a multiple of 16 bytes");
}

void descend_blocks(const Tensor& runs, Tensor states, Tensor memory, int64_t until, int64_t updates,
                    int64_t shared_bytes) {
  check_devices(runs, "runs", states, memory);
  const OnDevice device(runs);
  const int64_t count = runs.numel() / static_cast<int64_t>(sizeof(cuda::BlockRun));
  check_bytes(runs, count * static_cast<int64_t>(sizeof(cuda::BlockRun)), "runs");
  check_bytes(states, count * static_cast<int64_t>(sizeof(cuda::RunState)), "states");
  const ScalarType dtype = memory.scalar_type();
  STD_TORCH_CHECK(dtype == ScalarType::Double || dtype == ScalarType::Float,
                  "memory must have dtype float64 or float32");
  check_vector(memory, memory.numel(), dtype, "memory");
  STD_TORCH_CHECK(updates >= 0, "updates must be 0 or more");
  STD_TORCH_CHECK(shared_bytes >= cuda::shared_front && shared_bytes <= cuda::shared_memory_limit(),
                  "a block has ", cuda::shared_memory_limit(),
                  " bytes of shared memory here; prepare the runs with "
                  "what block_shared_memory returns");
  cuda::BlockRuns launch;
  launch.runs = static_cast<const cuda::BlockRun*>(runs.const_data_ptr());
  launch.states = static_cast<cuda::RunState*>(states.mutable_data_ptr());
  launch.memory = static_cast<unsigned char*>(memory.mutable_data_ptr());
  launch.count = count;
  launch.until = until;
  launch.updates = updates;
  launch.shared_bytes = shared_bytes;
  cuda::descend(dtype_of(memory, "memory"), launch, device.stream());
}

int64_t block_shared_memory(const Tensor& like) {
  STD_TORCH_CHECK(like.is_cuda(), "like must be on a GPU");
  const OnDevice device(like);
  return cuda::shared_memory_limit();
}

}  // namespace
}  // namespace dmf::ops

STABLE_TORCH_LIBRARY_IMPL(dmf_fast, CUDA, library) {
  library.impl("descend_blocks", TORCH_BOX(&dmf::ops::descend_blocks));
  library.impl("block_shared_memory", TORCH_BOX(&dmf::ops::block_shared_memory));
}
