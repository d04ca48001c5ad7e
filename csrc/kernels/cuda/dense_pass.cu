// The dense pass for whichever type.
#include "dense_pass.cuh"

#include "dense_pass.h"

namespace dmf::cuda {

void dense_loss(const DeviceLayout& layout, Dtype dtype, const DenseOperands& operands, void* loss,
                Workspace& workspace, cudaStream_t stream) {
  switch (dtype) {
    case Dtype::float64:
      return dense_loss_of<double>(layout, operands, loss, workspace, stream);
    case Dtype::float32:
      return dense_loss_of<float>(layout, operands, loss, workspace, stream);
    case Dtype::bfloat16:
      return dense_loss_of<bfloat16>(layout, operands, loss, workspace, stream);
    case Dtype::float16:
      return dense_loss_of<float16>(layout, operands, loss, workspace, stream);
  }
}

namespace {

// Calls body with a number of `itemsize` bytes: 2, 4 or 8.
template <class Body>
void with_bits(int itemsize, const Body& body) {
  if (itemsize == 2) return body(uint16_t{});
  if (itemsize == 4) return body(uint32_t{});
  body(uint64_t{});
}

}  // namespace

void gather_observed(const DeviceLayout& layout, const void* dense, void* values, int itemsize,
                     cudaStream_t stream) {
  with_bits(itemsize, [&](auto bits) { gather_of<decltype(bits)>(layout, dense, values, stream); });
}

void scatter_observed(const DeviceLayout& layout, const void* values, void* dense, int itemsize,
                      cudaStream_t stream) {
  with_bits(itemsize, [&](auto bits) { scatter_of<decltype(bits)>(layout, values, dense, stream); });
}

void order_as_given(const uint32_t* position, int64_t nnz, const void* row_order, void* ordered, int itemsize,
                    cudaStream_t stream) {
  with_bits(itemsize, [&](auto bits) { order_of<decltype(bits)>(position, nnz, row_order, ordered, stream); });
}

}  // namespace dmf::cuda
