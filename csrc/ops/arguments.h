// Checks that keep the kernels within bounds. The errors that a user should see are raised earlier, in
// Python; these guard direct calls of the raw operators.
#pragma once

#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>

#include "../kernels/number_types.h"
#include "../kernels/observed_layout.h"

namespace dmf::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline Dtype dtype_of(const Tensor& tensor, const char* name) {
  switch (tensor.scalar_type()) {
    case ScalarType::Double:
      return Dtype::float64;
    case ScalarType::Float:
      return Dtype::float32;
    case ScalarType::BFloat16:
      return Dtype::bfloat16;
    case ScalarType::Half:
      return Dtype::float16;
    default:
      STD_TORCH_CHECK(false, name, " must have dtype float64, float32, bfloat16 or float16");
      return Dtype::float32;
  }
}

inline ScalarType accumulator_of(Dtype dtype) {
  return dtype == Dtype::float64 ? ScalarType::Double : ScalarType::Float;
}

inline void check_vector(const Tensor& tensor, int64_t size, ScalarType dtype, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 1 && tensor.size(0) == size, name, " must be one-dimensional with ", size,
                  " elements");
  STD_TORCH_CHECK(tensor.scalar_type() == dtype, name, " has the wrong dtype");
  STD_TORCH_CHECK(tensor.is_contiguous(), name, " must be contiguous");
}

inline void check_matrix(const Tensor& tensor, int64_t rows, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 2 && tensor.size(0) == rows, name, " must be two-dimensional with ", rows,
                  " rows");
  STD_TORCH_CHECK(tensor.is_contiguous(), name, " must be contiguous");
}

inline LayoutView layout_of(const Tensor& layout) {
  STD_TORCH_CHECK(layout.dim() == 1 && layout.scalar_type() == ScalarType::Byte && layout.is_contiguous(),
                  "layout must be a contiguous one-dimensional uint8 tensor");
  const LayoutView view = view_layout(layout.const_data_ptr(), layout.numel());
  STD_TORCH_CHECK(view.header != nullptr,
                  "layout does not hold a layout of observed entries; take it from Observations.layout()");
  return view;
}

// Values and, where there are any, weights of all entries, in tile order.
template <class AnyOperands>
void set_targets(AnyOperands& operands, const LayoutView& layout, ScalarType dtype, const Tensor& values,
                 const std::optional<Tensor>& weights) {
  check_vector(values, layout.header->nnz, dtype, "values");
  operands.values = values.const_data_ptr();
  if (weights.has_value()) {
    check_vector(*weights, layout.header->nnz, dtype, "weights");
    operands.weights = weights->const_data_ptr();
  }
}

inline Tensor loss_tensor(const Tensor& like, double loss) {
  Tensor result = torch::stable::new_empty(like, {}, ScalarType::Double);
  *static_cast<double*>(result.mutable_data_ptr()) = loss;
  return result;
}

// The two sides of the split: A of shape (m, h) and Bᵀ of shape (n, h), of one dtype.
struct Split {
  LayoutView layout;
  Dtype dtype;
  int64_t h;

  Split(const Tensor& a, const Tensor& b_transposed, const Tensor& layout_buffer)
      : layout(layout_of(layout_buffer)), dtype(dtype_of(a, "a")), h(0) {
    check_matrix(a, layout.header->rows, "a");
    check_matrix(b_transposed, layout.header->columns, "b_transposed");
    h = a.size(1);
    STD_TORCH_CHECK(h >= 1, "a must have at least one column");
    STD_TORCH_CHECK(b_transposed.size(1) == h, "a and b_transposed must have equally many columns");
    STD_TORCH_CHECK(b_transposed.scalar_type() == a.scalar_type(), "a and b_transposed must have one dtype");
  }
};

}  // namespace dmf::ops
