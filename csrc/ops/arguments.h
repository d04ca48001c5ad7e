// Checks that keep the kernels within bounds, on all devices. Indices are checked when they are read
// (cpu/arguments.h, kernels/observed_layout.h), but not on a GPU. Python raises the errors for users earlier;
// these checks guard direct calls of the raw operators.
#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>
#include <torch/headeronly/util/Exception.h>

#include <optional>
#include <tuple>

#include "../kernels/number_types.h"
#include "../kernels/task.h"

namespace dmf::ops {

using torch::headeronly::ScalarType;
using torch::stable::new_empty;
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

inline void check_memory(const Tensor& tensor, const char* name) {
  STD_TORCH_CHECK(tensor.is_contiguous(), name, " must be contiguous");
  STD_TORCH_CHECK(reinterpret_cast<uintptr_t>(tensor.const_data_ptr()) % tensor.element_size() == 0, name,
                  " must begin at a multiple of its element size");
}

inline void check_vector(const Tensor& tensor, int64_t size, ScalarType dtype, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 1 && tensor.size(0) == size, name, " must be one-dimensional with ", size,
                  " elements");
  STD_TORCH_CHECK(tensor.scalar_type() == dtype, name, " has the wrong dtype");
  check_memory(tensor, name);
}

inline void check_matrix(const Tensor& tensor, int64_t rows, const char* name) {
  STD_TORCH_CHECK(tensor.dim() == 2 && tensor.size(0) == rows, name, " must be two-dimensional with ", rows,
                  " rows");
  check_memory(tensor, name);
}

inline void check_buffer(const Tensor& layout) {
  STD_TORCH_CHECK(layout.dim() == 1 && layout.scalar_type() == ScalarType::Byte && layout.is_contiguous(),
                  "layout must be a contiguous one-dimensional uint8 tensor");
}

// Values and weights, if any, of all entries, in tile order.
template <class AnyOperands>
void set_targets(AnyOperands& operands, int64_t nnz, ScalarType dtype, const Tensor& values,
                 const std::optional<Tensor>& weights) {
  check_vector(values, nnz, dtype, "values");
  operands.values = values.const_data_ptr();
  if (weights.has_value()) {
    check_vector(*weights, nnz, dtype, "weights");
    operands.weights = weights->const_data_ptr();
  }
}

// The two sides of the split: A of shape (rows, h) and Bᵀ of shape (columns, h), of one dtype.
inline Operands operands_of(const Tensor& a, const Tensor& b_transposed, int64_t rows, int64_t columns) {
  dtype_of(a, "a");
  check_matrix(a, rows, "a");
  check_matrix(b_transposed, columns, "b_transposed");
  STD_TORCH_CHECK(a.size(1) >= 1, "a must have at least one column");
  STD_TORCH_CHECK(b_transposed.size(1) == a.size(1), "a and b_transposed must have the same number of columns");
  STD_TORCH_CHECK(b_transposed.scalar_type() == a.scalar_type(), "a and b_transposed must have the same dtype");
  Operands operands;
  operands.a = a.const_data_ptr();
  operands.b_transposed = b_transposed.const_data_ptr();
  operands.h = a.size(1);
  return operands;
}

// Allocates dA and dBᵀ in the accumulator's dtype.
inline std::tuple<Tensor, Tensor> set_gradients(Operands& operands, const Tensor& a,
                                                const Tensor& b_transposed) {
  const ScalarType dtype = accumulator_of(dtype_of(a, "a"));
  Tensor gradient_a = new_empty(a, a.sizes(), dtype);
  Tensor gradient_b = new_empty(b_transposed, b_transposed.sizes(), dtype);
  operands.gradient_a = gradient_a.mutable_data_ptr();
  operands.gradient_b_transposed = gradient_b.mutable_data_ptr();
  return {gradient_a, gradient_b};
}

}  // namespace dmf::ops
