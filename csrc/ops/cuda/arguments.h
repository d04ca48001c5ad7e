// Helpers of the operators on a GPU: the stream, memory for the duration of a call, the layout in its buffer.
#pragma once

#include <cuda_runtime_api.h>
#include <torch/csrc/inductor/aoti_torch/c/shim.h>
#include <torch/csrc/stable/accelerator.h>

#include <vector>

#include "../../kernels/cuda/device_layout.h"
#include "../../kernels/cuda/sweep.h"
#include "../../kernels/cuda/workspace.h"
#include "../arguments.h"

namespace dmf::ops {

// Makes the device of `tensor` current during its own lifetime, and holds torch's current stream there.
class OnDevice {
 public:
  explicit OnDevice(const Tensor& tensor) : guard_(tensor.get_device_index()) {
    void* stream = nullptr;
    STD_TORCH_CHECK(aoti_torch_get_current_cuda_stream(tensor.get_device_index(), &stream) == 0,
                    "torch has no current stream on this device");
    stream_ = static_cast<cudaStream_t>(stream);
  }

  cudaStream_t stream() const { return stream_; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  cudaStream_t stream_ = nullptr;
};

// Memory of torch's caching allocator, which after the first call needs no driver call and knows the stream. It
// is freed in stream order when the call ends.
class TorchWorkspace final : public cuda::Workspace {
 public:
  explicit TorchWorkspace(const Tensor& like) : like_(like) {}

 protected:
  void* take_some(int64_t bytes) override {
    tensors_.push_back(new_empty(like_, {bytes}, ScalarType::Byte));
    return tensors_.back().mutable_data_ptr();
  }

 private:
  const Tensor& like_;
  std::vector<Tensor> tensors_;
};

// All tensors lie on the device of the first.
template <class... Others>
void check_devices(const Tensor& first, const char* name, const Others&... others) {
  const auto same = [&](const Tensor& other) {
    return other.is_cuda() && other.get_device_index() == first.get_device_index();
  };
  STD_TORCH_CHECK(first.is_cuda() && (same(others) && ...), "all tensors must be on the device of ", name);
}

inline void check_device_of(const Tensor& first, const char* name, const std::optional<Tensor>& other) {
  if (other.has_value()) check_devices(first, name, *other);
}

inline void check_sizes(int64_t rows, int64_t columns, int64_t nnz) {
  STD_TORCH_CHECK(rows >= 0 && columns >= 0 && nnz >= 0, "sizes must be at least 0");
  STD_TORCH_CHECK(rows <= cuda::max_lines && columns <= cuda::max_lines && nnz <= cuda::max_nnz,
                  "matrices on a GPU have at most 2**31 - 1 rows and columns and 2**32 - 1 observed entries");
}

// The host cannot read the buffer without synchronizing, but its length must match the sizes.
inline cuda::DeviceLayout layout_of(const Tensor& layout, int64_t rows, int64_t columns, int64_t nnz) {
  check_buffer(layout);
  check_sizes(rows, columns, nnz);
  const cuda::DeviceLayoutShape shape(rows, columns, nnz);
  STD_TORCH_CHECK(layout.numel() == shape.bytes,
                  "layout does not hold a layout of observed entries for these sizes on a GPU; take it from "
                  "Observations.layout()");
  return cuda::DeviceLayout(shape, layout.const_data_ptr());
}

// The checks that every operator on the two sides of the split begins with.
struct SplitCall {
  const Dtype dtype;
  const OnDevice device;
  Operands operands;
  const cuda::DeviceLayout layout;
  TorchWorkspace workspace;

  SplitCall(const Tensor& a, const Tensor& b_transposed, const Tensor& layout_buffer, int64_t nnz)
      : dtype(checked(a, b_transposed, layout_buffer)),
        device(a),
        operands(operands_of(a, b_transposed, a.size(0), b_transposed.size(0))),
        layout(layout_of(layout_buffer, a.size(0), b_transposed.size(0), nnz)),
        workspace(a) {
    STD_TORCH_CHECK(operands.h <= cuda::widest_row, "a must have at most 2**28 columns on a GPU");
  }

  void set_targets_of(const Tensor& a, const Tensor& values, const std::optional<Tensor>& weights) {
    check_devices(a, "a", values);
    check_device_of(a, "a", weights);
    set_targets(operands, values.numel(), a.scalar_type(), values, weights);
  }

 private:
  static Dtype checked(const Tensor& a, const Tensor& b_transposed, const Tensor& layout_buffer) {
    check_devices(a, "a", b_transposed, layout_buffer);
    return dtype_of(a, "a");
  }
};

// For a loss in the accumulator's dtype.
inline Tensor loss_tensor(const Tensor& like, Dtype dtype) {
  return new_empty(like, {}, accumulator_of(dtype));
}

}  // namespace dmf::ops
