// The best columns of rows of a product, on the CPU: check, allocate, call the kernel.
#include "../../kernels/cpu/top_columns.h"

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>

#include <limits>
#include <optional>
#include <tuple>

#include "arguments.h"
#include "torch_threads.h"

namespace dmf::ops {
namespace {

void check_rows(const int64_t* rows, int64_t row_count, int64_t lines) {
  for (int64_t asked = 0; asked < row_count; ++asked) {
    STD_TORCH_CHECK(rows[asked] >= 0 && rows[asked] < lines, "rows must be from 0 to ", lines - 1, ", got ",
                    rows[asked]);
  }
}

// Only for the requested rows: checking the lists of all rows would take longer than scoring a few.
template <class T>
void check_seen(const TopColumnsProblem<T>& problem, int64_t listed) {
  for (int64_t asked = 0; asked < problem.row_count; ++asked) {
    const int64_t *offset = problem.seen_offsets + problem.rows[asked], first = offset[0], last = offset[1];
    STD_TORCH_CHECK(first >= 0 && first <= last && last <= listed,
                    "seen_offsets must not decrease and must lie from 0 to the length of seen_columns");
    int64_t before = -1;
    bool rises = true;
    for (int64_t place = first; place < last; ++place) {
      rises &= problem.seen_columns[place] > before;
      before = problem.seen_columns[place];
    }
    STD_TORCH_CHECK(rises && before < problem.columns, "seen_columns of a row must increase and lie from 0 to ",
                    problem.columns - 1);
  }
}

// Sets the columns to exclude; both tensors must be given, or neither.
template <class T>
void set_seen(TopColumnsProblem<T>& problem, int64_t rows, const std::optional<Tensor>& offsets,
              const std::optional<Tensor>& columns) {
  STD_TORCH_CHECK(offsets.has_value() == columns.has_value(),
                  "seen_offsets and seen_columns must be given together");
  if (!offsets.has_value()) return;
  check_vector(*offsets, rows + 1, ScalarType::Long, "seen_offsets");
  check_vector(*columns, columns->numel(), ScalarType::Int, "seen_columns");
  problem.seen_offsets = static_cast<const int64_t*>(offsets->const_data_ptr());
  problem.seen_columns = static_cast<const int32_t*>(columns->const_data_ptr());
  check_seen(problem, columns->numel());
}

template <class T>
std::tuple<Tensor, Tensor> best_of(const Tensor& a, const Tensor& b, const std::optional<Tensor>& column_bias,
                                   const Tensor& rows, const std::optional<Tensor>& seen_offsets,
                                   const std::optional<Tensor>& seen_columns, int64_t k) {
  TopColumnsProblem<T> problem{};
  problem.a = static_cast<const T*>(a.const_data_ptr());
  problem.b = static_cast<const T*>(b.const_data_ptr());
  problem.h = a.size(1);
  problem.columns = b.size(1);
  if (column_bias.has_value()) problem.column_bias = static_cast<const T*>(column_bias->const_data_ptr());
  problem.rows = static_cast<const int64_t*>(rows.const_data_ptr());
  problem.row_count = rows.size(0);
  problem.k = k;
  check_rows(problem.rows, problem.row_count, a.size(0));
  set_seen(problem, a.size(0), seen_offsets, seen_columns);
  Tensor columns = new_empty(a, {problem.row_count, k}, ScalarType::Long);
  Tensor scores = new_empty(a, {problem.row_count, k});
  problem.best_columns = static_cast<int64_t*>(columns.mutable_data_ptr());
  problem.best_scores = static_cast<T*>(scores.mutable_data_ptr());
  TorchThreads threads;
  top_columns(problem, threads);
  return {columns, scores};
}

std::tuple<Tensor, Tensor> top_columns_of(const Tensor& a, const Tensor& b, std::optional<Tensor> column_bias,
                                          const Tensor& rows, std::optional<Tensor> seen_offsets,
                                          std::optional<Tensor> seen_columns, int64_t k) {
  const Dtype dtype = dtype_of(a, "a");
  STD_TORCH_CHECK(dtype == Dtype::float32 || dtype == Dtype::float64, "a must have dtype float32 or float64");
  STD_TORCH_CHECK(a.dim() == 2, "a must be two-dimensional");
  check_matrix(a, a.size(0), "a");
  STD_TORCH_CHECK(a.size(1) >= 1, "a must have at least one column");
  check_matrix(b, a.size(1), "b");
  STD_TORCH_CHECK(b.scalar_type() == a.scalar_type(), "a and b must have one dtype");
  STD_TORCH_CHECK(b.size(1) <= std::numeric_limits<int32_t>::max(), "b must have fewer than 2**31 columns");
  if (column_bias.has_value()) check_vector(*column_bias, b.size(1), a.scalar_type(), "column_bias");
  check_vector(rows, rows.numel(), ScalarType::Long, "rows");
  STD_TORCH_CHECK(k >= 1 && k <= most_best_columns, "k must be from 1 to ", most_best_columns, ", got ", k);
  const auto best = dtype == Dtype::float64 ? &best_of<double> : &best_of<float>;
  return best(a, b, column_bias, rows, seen_offsets, seen_columns, k);
}

}  // namespace
}  // namespace dmf::ops

STABLE_TORCH_LIBRARY_IMPL(dmf_fast, CPU, library) {
  library.impl("top_columns", TORCH_BOX(&dmf::ops::top_columns_of));
}
