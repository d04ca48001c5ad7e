// The sweep for whichever storage type: each is compiled from sweep_storage.cu.
#include "sweep.h"

#include "tuning.h"

namespace dmf::cuda {

template <class Storage>
void sweep(const DeviceLayout& layout, Task task, const Operands& operands, void* loss, Workspace& workspace,
           cudaStream_t stream, int64_t kept_coefficients);

void sweep(const DeviceLayout& layout, Task task, Dtype dtype, const Operands& operands, void* loss,
           Workspace& workspace, cudaStream_t stream) {
  switch (dtype) {
    case Dtype::float64:
      return sweep<double>(layout, task, operands, loss, workspace, stream, kept_coefficients);
    case Dtype::float32:
      return sweep<float>(layout, task, operands, loss, workspace, stream, kept_coefficients);
    case Dtype::bfloat16:
      return sweep<bfloat16>(layout, task, operands, loss, workspace, stream, kept_coefficients);
    case Dtype::float16:
      return sweep<float16>(layout, task, operands, loss, workspace, stream, kept_coefficients);
  }
}

}  // namespace dmf::cuda
