// The raw operators on the CPU: check, allocate, call the kernel.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>
#include <tuple>

#include "../../kernels/cpu/sweep.h"
#include "../arguments.h"
#include "torch_threads.h"

namespace dmf::ops {
namespace {

using torch::stable::new_empty;

Operands operands_of(const Split& split, const Tensor& a, const Tensor& b_transposed) {
  Operands operands;
  operands.a = a.const_data_ptr();
  operands.b_transposed = b_transposed.const_data_ptr();
  operands.h = split.h;
  return operands;
}

// Allocates dA and dBᵀ in the accumulator's dtype.
std::tuple<Tensor, Tensor> set_gradients(Operands& operands, const Split& split, const Tensor& a,
                                         const Tensor& b_transposed) {
  Tensor gradient_a = new_empty(a, a.sizes(), accumulator_of(split.dtype));
  Tensor gradient_b = new_empty(b_transposed, b_transposed.sizes(), accumulator_of(split.dtype));
  operands.gradient_a = gradient_a.mutable_data_ptr();
  operands.gradient_b_transposed = gradient_b.mutable_data_ptr();
  return {gradient_a, gradient_b};
}

Tensor observed_product_forward(const Tensor& a, const Tensor& b_transposed, const Tensor& layout,
                                int64_t nnz) {
  const Split split(a, b_transposed, layout);
  STD_TORCH_CHECK(nnz == split.layout.header->nnz, "nnz must be that of the layout");
  Operands operands = operands_of(split, a, b_transposed);
  Tensor products = new_empty(a, {nnz}, accumulator_of(split.dtype));
  operands.products = products.mutable_data_ptr();
  TorchThreads threads;
  sweep(split.layout, Task::product, split.dtype, operands, threads);
  return products;
}

std::tuple<Tensor, Tensor> observed_product_backward(const Tensor& coefficients, const Tensor& a,
                                                     const Tensor& b_transposed, const Tensor& layout) {
  const Split split(a, b_transposed, layout);
  check_vector(coefficients, split.layout.header->nnz, accumulator_of(split.dtype), "coefficients");
  Operands operands = operands_of(split, a, b_transposed);
  operands.coefficients = coefficients.const_data_ptr();
  const std::tuple<Tensor, Tensor> gradients = set_gradients(operands, split, a, b_transposed);
  TorchThreads threads;
  sweep(split.layout, Task::gradients, split.dtype, operands, threads);
  return gradients;
}

Tensor completion_loss_forward(const Tensor& a, const Tensor& b_transposed, const Tensor& layout,
                               const Tensor& values, std::optional<Tensor> weights) {
  const Split split(a, b_transposed, layout);
  Operands operands = operands_of(split, a, b_transposed);
  set_targets(operands, split.layout, a.scalar_type(), values, weights);
  TorchThreads threads;
  return loss_tensor(a, sweep(split.layout, Task::loss, split.dtype, operands, threads));
}

std::tuple<Tensor, Tensor, Tensor> completion_loss_gradients(const Tensor& a, const Tensor& b_transposed,
                                                             const Tensor& layout, const Tensor& values,
                                                             std::optional<Tensor> weights, double scale) {
  const Split split(a, b_transposed, layout);
  Operands operands = operands_of(split, a, b_transposed);
  set_targets(operands, split.layout, a.scalar_type(), values, weights);
  operands.gradient_scale = scale;
  const auto [gradient_a, gradient_b] = set_gradients(operands, split, a, b_transposed);
  TorchThreads threads;
  const double loss = sweep(split.layout, Task::loss_gradients, split.dtype, operands, threads);
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
