// The sweep for all storage types; each is compiled from sweep_storage.cu.
#include "sweep.h"

#include "tuning.h"

namespace dmf::cuda {

template <class Storage>
void sweep(const DeviceLayout& layout, Task task, const Operands& operands, void* loss, Workspace& workspace,
           cudaStream_t stream, int64_t kept_coefficients);

void sweep(const DeviceLayout& layout, Task task, Dtype dtype, const Operands& operands, void* loss,
           Workspace& workspace, cudaStream_t stream) {
  with_storage(dtype, [&](auto number) {
    sweep<decltype(number)>(layout, task, operands, loss, workspace, stream, kept_coefficients);
  });
}

}  // namespace dmf::cuda
