// The raw operators on a GPU: check, allocate, enqueue the kernels.
#include <torch/csrc/stable/library.h>

#include "arguments.h"

namespace dmf::ops {
namespace {

void run(SplitCall& call, Task task, void* loss) {
  cuda::sweep(call.layout, task, call.dtype, call.operands, loss, call.workspace, call.device.stream());
}

Tensor observed_product_forward(const Tensor& a, const Tensor& b_transposed, const Tensor& layout,
                                int64_t nnz) {
  SplitCall call(a, b_transposed, layout, nnz);
  Tensor products = new_empty(a, {nnz}, accumulator_of(call.dtype));
  call.operands.products = products.mutable_data_ptr();
  run(call, Task::product, nullptr);
  return products;
}

std::tuple<Tensor, Tensor> observed_product_backward(const Tensor& coefficients, const Tensor& a,
                                                     const Tensor& b_transposed, const Tensor& layout) {
  SplitCall call(a, b_transposed, layout, coefficients.numel());
  check_devices(a, "a", coefficients);
  check_vector(coefficients, coefficients.numel(), accumulator_of(call.dtype), "coefficients");
  call.operands.coefficients = coefficients.const_data_ptr();
  const std::tuple<Tensor, Tensor> gradients = set_gradients(call.operands, a, b_transposed);
  run(call, Task::gradients, nullptr);
  return gradients;
}

Tensor completion_loss_forward(const Tensor& a, const Tensor& b_transposed, const Tensor& layout,
                               const Tensor& values, std::optional<Tensor> weights, double scale) {
  SplitCall call(a, b_transposed, layout, values.numel());
  call.set_targets_of(a, values, weights);
  call.operands.loss_scale = scale;
  Tensor loss = loss_tensor(a, call.dtype);
  run(call, Task::loss, loss.mutable_data_ptr());
  return loss;
}

std::tuple<Tensor, Tensor, Tensor> completion_loss_gradients(const Tensor& a, const Tensor& b_transposed,
                                                             const Tensor& layout, const Tensor& values,
                                                             std::optional<Tensor> weights, double scale) {
  SplitCall call(a, b_transposed, layout, values.numel());
  call.set_targets_of(a, values, weights);
  call.operands.scale = call.operands.loss_scale = scale;
  const auto [gradient_a, gradient_b] = set_gradients(call.operands, a, b_transposed);
  Tensor loss = loss_tensor(a, call.dtype);
  run(call, Task::loss_gradients, loss.mutable_data_ptr());
  return {loss, gradient_a, gradient_b};
}

}  // namespace
}  // namespace dmf::ops

STABLE_TORCH_LIBRARY_IMPL(dmf_fast, CUDA, library) {
  library.impl("observed_product_forward", TORCH_BOX(&dmf::ops::observed_product_forward));
  library.impl("observed_product_backward", TORCH_BOX(&dmf::ops::observed_product_backward));
  library.impl("completion_loss_forward", TORCH_BOX(&dmf::ops::completion_loss_forward));
  library.impl("completion_loss_gradients", TORCH_BOX(&dmf::ops::completion_loss_gradients));
}
