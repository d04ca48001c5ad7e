// The raw operators on a GPU for a formed product, the layout, and the order of its entries.
#include <torch/csrc/stable/library.h>

#include "../../kernels/cuda/dense_pass.h"
#include "../../kernels/cuda/layout_build.h"
#include "arguments.h"

namespace dmf::ops {
namespace {

Tensor loss_over(const Tensor& dense, const Tensor& layout_buffer, const Tensor& values,
                 const std::optional<Tensor>& weights, double scale, void* gradient) {
  check_devices(dense, "dense", layout_buffer, values);
  check_device_of(dense, "dense", weights);
  const OnDevice device(dense);
  check_matrix(dense, dense.size(0), "dense");
  DenseOperands operands;
  operands.dense = dense.const_data_ptr();
  set_targets(operands, values.numel(), dense.scalar_type(), values, weights);
  operands.gradient = gradient;
  operands.scale = scale;
  const cuda::DeviceLayout layout = layout_of(layout_buffer, dense.size(0), dense.size(1), values.numel());
  const Dtype dtype = dtype_of(dense, "dense");
  Tensor loss = loss_tensor(dense, dtype);
  TorchWorkspace workspace(dense);
  cuda::dense_loss(layout, dtype, operands, loss.mutable_data_ptr(), workspace, device.stream());
  return loss;
}

Tensor dense_loss_forward(const Tensor& dense, const Tensor& layout, const Tensor& values,
                          std::optional<Tensor> weights, double scale) {
  return loss_over(dense, layout, values, weights, scale, nullptr);
}

std::tuple<Tensor, Tensor> dense_loss_gradient(const Tensor& dense, const Tensor& layout, const Tensor& values,
                                               std::optional<Tensor> weights, double scale) {
  Tensor gradient = new_empty(dense, dense.sizes(), accumulator_of(dtype_of(dense, "dense")));
  Tensor loss = loss_over(dense, layout, values, weights, scale, gradient.mutable_data_ptr());
  return {loss, gradient};
}

Tensor gather(const Tensor& dense, const Tensor& layout_buffer, int64_t nnz) {
  check_devices(dense, "dense", layout_buffer);
  const OnDevice device(dense);
  dtype_of(dense, "dense");
  check_matrix(dense, dense.size(0), "dense");
  const cuda::DeviceLayout layout = layout_of(layout_buffer, dense.size(0), dense.size(1), nnz);
  Tensor values = new_empty(dense, {nnz});
  cuda::gather_observed(layout, dense.const_data_ptr(), values.mutable_data_ptr(),
                        static_cast<int>(dense.element_size()), device.stream());
  return values;
}

Tensor scatter(const Tensor& values, const Tensor& layout_buffer, int64_t rows, int64_t columns) {
  check_devices(values, "values", layout_buffer);
  const OnDevice device(values);
  dtype_of(values, "values");
  check_vector(values, values.numel(), values.scalar_type(), "values");
  const cuda::DeviceLayout layout = layout_of(layout_buffer, rows, columns, values.numel());
  Tensor dense = new_empty(values, {rows, columns});
  cuda::scatter_observed(layout, values.const_data_ptr(), dense.mutable_data_ptr(),
                         static_cast<int>(values.element_size()), device.stream());
  return dense;
}

// The positions are at the beginning of a layout, whatever its sizes.
Tensor caller_order(const Tensor& values, const Tensor& layout_buffer) {
  check_devices(values, "values", layout_buffer);
  const OnDevice device(values);
  dtype_of(values, "values");
  check_vector(values, values.numel(), values.scalar_type(), "values");
  check_buffer(layout_buffer);
  STD_TORCH_CHECK(layout_buffer.numel() >= 4 * values.numel(), "layout must be that of the values");
  Tensor ordered = new_empty(values, {values.numel()});
  cuda::order_as_given(static_cast<const uint32_t*>(layout_buffer.const_data_ptr()), values.numel(),
                       values.const_data_ptr(), ordered.mutable_data_ptr(),
                       static_cast<int>(values.element_size()), device.stream());
  return ordered;
}

// Pairs are distinct and in range: the caller has checked them.
Tensor build_layout(const Tensor& rows, const Tensor& columns, int64_t row_count, int64_t column_count) {
  check_devices(rows, "rows", columns);
  const OnDevice device(rows);
  const bool wide = rows.scalar_type() == ScalarType::Long;
  STD_TORCH_CHECK(wide || rows.scalar_type() == ScalarType::Int, "rows must have dtype int32 or int64");
  check_vector(rows, rows.numel(), rows.scalar_type(), "rows");
  check_vector(columns, rows.numel(), rows.scalar_type(), "columns");
  check_sizes(row_count, column_count, rows.numel());
  const cuda::DeviceLayoutShape shape(row_count, column_count, rows.numel());
  Tensor buffer = new_empty(rows, {shape.bytes}, ScalarType::Byte);
  TorchWorkspace workspace(rows);
  const auto build = [&](const auto* row_of, const auto* column_of) {
    cuda::build_layout(shape, row_of, column_of, buffer.mutable_data_ptr(), workspace, device.stream());
  };
  if (wide) {
    build(static_cast<const int64_t*>(rows.const_data_ptr()),
          static_cast<const int64_t*>(columns.const_data_ptr()));
  } else {
    build(static_cast<const int32_t*>(rows.const_data_ptr()),
          static_cast<const int32_t*>(columns.const_data_ptr()));
  }
  return buffer;
}

}  // namespace
}  // namespace dmf::ops

STABLE_TORCH_LIBRARY_IMPL(dmf_fast, CUDA, library) {
  library.impl("dense_loss_forward", TORCH_BOX(&dmf::ops::dense_loss_forward));
  library.impl("dense_loss_gradient", TORCH_BOX(&dmf::ops::dense_loss_gradient));
  library.impl("caller_order", TORCH_BOX(&dmf::ops::caller_order));
  library.impl("gather_observed", TORCH_BOX(&dmf::ops::gather));
  library.impl("scatter_observed", TORCH_BOX(&dmf::ops::scatter));
  library.impl("build_layout", TORCH_BOX(&dmf::ops::build_layout));
}
