// Helpers of the operators on the CPU: the layout in its buffer, and losses.
#pragma once

#include "../../kernels/observed_layout.h"
#include "../arguments.h"

namespace dmf::ops {

inline LayoutView layout_of(const Tensor& layout) {
  check_buffer(layout);
  const LayoutView view = view_layout(layout.const_data_ptr(), layout.numel());
  STD_TORCH_CHECK(view.header != nullptr,
                  "layout does not hold a layout of observed entries; get it from Observations.layout()");
  return view;
}

inline Operands operands_of(const Tensor& a, const Tensor& b_transposed, const LayoutView& layout) {
  return operands_of(a, b_transposed, layout.header->rows, layout.header->columns);
}

// A loss in the accumulator's dtype.
inline Tensor loss_tensor(const Tensor& like, double loss) {
  const ScalarType dtype = accumulator_of(dtype_of(like, "a"));
  Tensor result = new_empty(like, {}, dtype);
  if (dtype == ScalarType::Double) {
    *static_cast<double*>(result.mutable_data_ptr()) = loss;
  } else {
    *static_cast<float*>(result.mutable_data_ptr()) = static_cast<float>(loss);
  }
  return result;
}

}  // namespace dmf::ops
