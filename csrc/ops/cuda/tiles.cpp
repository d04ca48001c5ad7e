// The raw operator of the tensor cores: check, allocate, enqueue the kernels.
#include <torch/csrc/stable/library.h>

#include <string>

#include "../../kernels/cuda/tile_sweep.h"
#include "arguments.h"

namespace dmf::ops {
namespace {

cuda::TilePrecision precision_of(const std::string& name) {
  if (name == "tf32") return cuda::TilePrecision::tf32;
  STD_TORCH_CHECK(name == "tf32x3", "precision must be tf32 or tf32x3");
  return cuda::TilePrecision::tf32x3;
}

std::tuple<Tensor, Tensor, Tensor> tile_loss_gradients(const Tensor& a, const Tensor& b_transposed,
                                                       const Tensor& layout, const Tensor& values,
                                                       std::optional<Tensor> weights, double scale,
                                                       std::string precision) {
  SplitCall call(a, b_transposed, layout, values.numel());
  call.set_targets_of(a, values, weights);
  STD_TORCH_CHECK(call.dtype != Dtype::float64,
                  "a must have dtype float32, bfloat16 or float16 for the tensor cores");
  STD_TORCH_CHECK(call.layout.shape.has_masks, "too few entries are observed for the tensor cores");
  STD_TORCH_CHECK(call.operands.h <= cuda::widest_tile, "a must have at most ", cuda::widest_tile,
                  " columns for the tensor cores");
  call.operands.scale = call.operands.loss_scale = scale;
  const auto [gradient_a, gradient_b] = set_gradients(call.operands, a, b_transposed);
  Tensor loss = loss_tensor(a, call.dtype);
  cuda::tile_sweep(call.layout, call.dtype, precision_of(precision), call.operands, loss.mutable_data_ptr(),
                   call.workspace, call.device.stream());
  return {loss, gradient_a, gradient_b};
}

}  // namespace
}  // namespace dmf::ops

STABLE_TORCH_LIBRARY_IMPL(dmf_fast, CUDA, library) {
  library.impl("tile_loss_gradients", TORCH_BOX(&dmf::ops::tile_loss_gradients));
}
