#include "torch_services.h"

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/util/Exception.h>

#include <array>

#include "torch_threads.h"

namespace dmf::ops {
namespace {

using torch::stable::Tensor;

Tensor tensor_over(Dtype dtype, const BlasOperand& operand) {
  const auto scalar_type =
      dtype == Dtype::float64 ? torch::headeronly::ScalarType::Double : torch::headeronly::ScalarType::Float;
  std::array<int64_t, 2> sizes{operand.rows, operand.columns}, strides{operand.stride, 1};
  if (operand.transposed) {
    std::swap(sizes[0], sizes[1]);
    std::swap(strides[0], strides[1]);
  }
  const torch::stable::Device cpu(torch::headeronly::DeviceType::CPU);
  return torch::stable::from_blob(operand.data, {sizes.data(), sizes.size()}, {strides.data(), strides.size()},
                                  cpu, scalar_type);
}

class TorchBlas final : public Blas {
 public:
  void multiply(Dtype dtype, const BlasOperand& left, const BlasOperand& right,
                const BlasOperand& result) override {
    std::array<StableIValue, 3> stack{torch::stable::detail::from(tensor_over(dtype, left)),
                                      torch::stable::detail::from(tensor_over(dtype, right)),
                                      torch::stable::detail::from(tensor_over(dtype, result))};
    const auto code = torch_call_dispatcher("aten::mm", "out", stack.data(), TORCH_ABI_VERSION);
    STD_TORCH_CHECK(code == AOTI_TORCH_SUCCESS, "torch.mm failed");
    torch::stable::detail::to<Tensor>(stack[0]);  // owns what the dispatcher returns
  }
};

}  // namespace

std::unique_ptr<Blas> torch_blas() {
  return std::make_unique<TorchBlas>();
}
std::unique_ptr<Parallel> torch_threads() {
  return std::make_unique<TorchThreads>();
}

}  // namespace dmf::ops
