// The dense pass for all types.
#include "dense_pass.cuh"

#include "dense_pass.h"

namespace dmf::cuda {

void dense_loss(const DeviceLayout& layout, Dtype dtype, const DenseOperands& operands, void* loss,
                Workspace& workspace, cudaStream_t stream) {
  with_storage(
      dtype, [&](auto number) { dense_loss_of<decltype(number)>(layout, operands, loss, workspace, stream); });
}

void gather_observed(const DeviceLayout& layout, const void* dense, void* values, int itemsize,
                     cudaStream_t stream) {
  with_bits(itemsize, [&](auto bits) { copy_of<false, decltype(bits)>(layout, dense, values, stream); });
}

void scatter_observed(const DeviceLayout& layout, const void* values, void* dense, int itemsize,
                      cudaStream_t stream) {
  with_bits(itemsize, [&](auto bits) { copy_of<true, decltype(bits)>(layout, values, dense, stream); });
}

void order_as_given(const uint32_t* position, int64_t nnz, const void* row_order, void* ordered, int itemsize,
                    cudaStream_t stream) {
  with_bits(itemsize, [&](auto bits) { order_of<decltype(bits)>(position, nnz, row_order, ordered, stream); });
}

}  // namespace dmf::cuda
