// The names and signatures of the raw operators. Their documentation and the fake kernels that give
// torch.compile their output shapes are in dmf_fast/ops/operators.py.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY(dmf_fast, library) {
  library.def("observed_product_forward(Tensor a, Tensor b_transposed, Tensor layout, SymInt nnz) -> Tensor");
  library.def(
      "observed_product_backward(Tensor coefficients, Tensor a, Tensor b_transposed, Tensor layout)"
      " -> (Tensor, Tensor)");
  library.def(
      "completion_loss_forward(Tensor a, Tensor b_transposed, Tensor layout, Tensor values,"
      " Tensor? weights, float scale) -> Tensor");
  library.def(
      "completion_loss_gradients(Tensor a, Tensor b_transposed, Tensor layout, Tensor values,"
      " Tensor? weights, float scale) -> (Tensor, Tensor, Tensor)");
  library.def(
      "tile_loss_gradients(Tensor a, Tensor b_transposed, Tensor layout, Tensor values,"
      " Tensor? weights, float scale, str precision) -> (Tensor, Tensor, Tensor)");
  library.def(
      "dense_loss_forward(Tensor dense, Tensor layout, Tensor values, Tensor? weights, float scale) -> Tensor");
  library.def(
      "dense_loss_gradient(Tensor dense, Tensor layout, Tensor values, Tensor? weights, float scale)"
      " -> (Tensor, Tensor)");
  library.def("caller_order(Tensor values, Tensor layout) -> Tensor");
  library.def("gather_observed(Tensor dense, Tensor layout, SymInt nnz) -> Tensor");
  library.def("build_layout(Tensor rows, Tensor columns, SymInt row_count, SymInt column_count) -> Tensor");
  library.def("descend_blocks(Tensor(a!)[] runs, Tensor(b!) states, int shared_bytes) -> ()");
  library.def("block_shared_memory(Tensor like) -> int");
  library.def("scatter_observed(Tensor values, Tensor layout, SymInt rows, SymInt columns) -> Tensor");
  library.def(
      "top_columns(Tensor a, Tensor b, Tensor? column_bias, Tensor rows, Tensor? seen_offsets,"
      " Tensor? seen_columns, SymInt k) -> (Tensor, Tensor)");
}
