// The raw operators on the CPU for a formed product, and the order of the entries.
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <optional>
#include <tuple>

#include "../../kernels/cpu/dense.h"
#include "../../kernels/cpu/sweep.h"
#include "arguments.h"
#include "torch_threads.h"

namespace dmf::ops {
namespace {

Tensor loss_over(const LayoutView& layout, const Tensor& dense, const Tensor& values,
                 const std::optional<Tensor>& weights, double scale, void* gradient) {
  DenseOperands operands;
  operands.dense = dense.const_data_ptr();
  set_targets(operands, layout.header->nnz, dense.scalar_type(), values, weights);
  operands.gradient = gradient;
  operands.scale = scale;
  TorchThreads threads;
  return loss_tensor(dense, dense_loss(layout, dtype_of(dense, "dense"), operands, threads));
}

LayoutView layout_of_dense(const Tensor& dense, const Tensor& layout) {
  const LayoutView view = layout_of(layout);
  dtype_of(dense, "dense");
  check_matrix(dense, view.header->rows, "dense");
  STD_TORCH_CHECK(dense.size(1) == view.header->columns, "dense must have the columns of the layout");
  return view;
}

Tensor dense_loss_forward(const Tensor& dense, const Tensor& layout, const Tensor& values,
                          std::optional<Tensor> weights, double scale) {
  return loss_over(layout_of_dense(dense, layout), dense, values, weights, scale, nullptr);
}

std::tuple<Tensor, Tensor> dense_loss_gradient(const Tensor& dense, const Tensor& layout, const Tensor& values,
                                               std::optional<Tensor> weights, double scale) {
  const LayoutView view = layout_of_dense(dense, layout);
  Tensor gradient = new_empty(dense, dense.sizes(), accumulator_of(dtype_of(dense, "dense")));
  Tensor loss = loss_over(view, dense, values, weights, scale, gradient.mutable_data_ptr());
  return {loss, gradient};
}

Tensor caller_order(const Tensor& values, const Tensor& layout) {
  const LayoutView view = layout_of(layout);
  dtype_of(values, "values");
  check_vector(values, view.header->nnz, values.scalar_type(), "values");
  Tensor ordered = new_empty(values, {view.header->nnz});
  TorchThreads threads;
  order_as_given(view, values.const_data_ptr(), ordered.mutable_data_ptr(),
                 static_cast<int>(values.element_size()), threads);
  return ordered;
}

Tensor gather(const Tensor& dense, const Tensor& layout, int64_t nnz) {
  const LayoutView view = layout_of_dense(dense, layout);
  STD_TORCH_CHECK(nnz == view.header->nnz, "nnz must be that of the layout");
  Tensor values = new_empty(dense, {nnz});
  TorchThreads threads;
  gather_observed(view, dense.const_data_ptr(), values.mutable_data_ptr(),
                  static_cast<int>(dense.element_size()), threads);
  return values;
}

Tensor scatter(const Tensor& values, const Tensor& layout, int64_t rows, int64_t columns) {
  const LayoutView view = layout_of(layout);
  dtype_of(values, "values");
  check_vector(values, view.header->nnz, values.scalar_type(), "values");
  STD_TORCH_CHECK(rows == view.header->rows && columns == view.header->columns,
                  "rows and columns must be those of the layout");
  Tensor dense = new_empty(values, {rows, columns});
  TorchThreads threads;
  scatter_observed(view, values.const_data_ptr(), dense.mutable_data_ptr(),
                   static_cast<int>(values.element_size()), threads);
  return dense;
}

}  // namespace
}  // namespace dmf::ops

STABLE_TORCH_LIBRARY_IMPL(dmf_fast, CPU, library) {
  library.impl("dense_loss_forward", TORCH_BOX(&dmf::ops::dense_loss_forward));
  library.impl("dense_loss_gradient", TORCH_BOX(&dmf::ops::dense_loss_gradient));
  library.impl("caller_order", TORCH_BOX(&dmf::ops::caller_order));
  library.impl("gather_observed", TORCH_BOX(&dmf::ops::gather));
  library.impl("scatter_observed", TORCH_BOX(&dmf::ops::scatter));
}
