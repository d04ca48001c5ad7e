// The raw operators on the CPU: check, allocate, call the kernel.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>
#include <tuple>

#include "../../kernels/cpu/sweep.h"
#include "arguments.h"
#include "torch_threads.h"

namespace dmf::ops {
namespace {

Tensor observed_product_forward(const Tensor& a, const Tensor& b_transposed, const Tensor& layout_buffer,
                                int64_t nnz) {
  const LayoutView layout = layout_of(layout_buffer);
  Operands operands = operands_of(a, b_transposed, layout);
  STD_TORCH_CHECK(nnz == layout.header->nnz, "nnz must be that of the layout");
  const Dtype dtype = dtype_of(a, "a");
  Tensor products = new_empty(a, {nnz}, accumulator_of(dtype));
  operands.products = products.mutable_data_ptr();
  TorchThreads threads;
  sweep(layout, Task::product, dtype, operands, threads);
  return products;
}

std::tuple<Tensor, Tensor> observed_product_backward(const Tensor& coefficients, const Tensor& a,
                                                     const Tensor& b_transposed, const Tensor& layout_buffer) {
  const LayoutView layout = layout_of(layout_buffer);
  Operands operands = operands_of(a, b_transposed, layout);
  const Dtype dtype = dtype_of(a, "a");
  check_vector(coefficients, layout.header->nnz, accumulator_of(dtype), "coefficients");
  operands.coefficients = coefficients.const_data_ptr();
  const std::tuple<Tensor, Tensor> gradients = set_gradients(operands, a, b_transposed);
  TorchThreads threads;
  sweep(layout, Task::gradients, dtype, operands, threads);
  return gradients;
}

Tensor completion_loss_forward(const Tensor& a, const Tensor& b_transposed, const Tensor& layout_buffer,
                               const Tensor& values, std::optional<Tensor> weights, double scale) {
  const LayoutView layout = layout_of(layout_buffer);
  Operands operands = operands_of(a, b_transposed, layout);
  set_targets(operands, layout.header->nnz, a.scalar_type(), values, weights);
  operands.loss_scale = scale;
  TorchThreads threads;
  return loss_tensor(a, sweep(layout, Task::loss, dtype_of(a, "a"), operands, threads));
}

std::tuple<Tensor, Tensor, Tensor> completion_loss_gradients(const Tensor& a, const Tensor& b_transposed,
                                                             const Tensor& layout_buffer, const Tensor& values,
                                                             std::optional<Tensor> weights, double scale) {
  const LayoutView layout = layout_of(layout_buffer);
  Operands operands = operands_of(a, b_transposed, layout);
  set_targets(operands, layout.header->nnz, a.scalar_type(), values, weights);
  operands.scale = operands.loss_scale = scale;
  const auto [gradient_a, gradient_b] = set_gradients(operands, a, b_transposed);
  TorchThreads threads;
  const double loss = sweep(layout, Task::loss_gradients, dtype_of(a, "a"), operands, threads);
  return {loss_tensor(a, loss), gradient_a, gradient_b};
}

}  // namespace
}  // namespace dmf::ops

STABLE_TORCH_LIBRARY_IMPL(dmf_fast, CPU, library) {
  library.impl("observed_product_forward", TORCH_BOX(&dmf::ops::observed_product_forward));
  library.impl("observed_product_backward", TORCH_BOX(&dmf::ops::observed_product_backward));
  library.impl("completion_loss_forward", TORCH_BOX(&dmf::ops::completion_loss_forward));
  library.impl("completion_loss_gradients", TORCH_BOX(&dmf::ops::completion_loss_gradients));
}
