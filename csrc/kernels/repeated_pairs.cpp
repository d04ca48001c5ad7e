#include "repeated_pairs.h"

#include <algorithm>
#include <atomic>
#include <vector>

namespace dmf {
namespace {

constexpr int64_t marks_per_entry = 16;

// The rows of a range, with the columns of their entries row by row.
bool repeats_in(const int32_t* row_of, const int32_t* column_of, int64_t nnz, int64_t first, int64_t last,
                int64_t columns) {
  const auto rows = static_cast<uint64_t>(last - first);
  std::vector<int64_t> next(rows + 1, 0);
  for (int64_t entry = 0; entry < nnz; ++entry) {
    const auto row = static_cast<uint64_t>(row_of[entry] - first);
    if (row < rows) ++next[row + 1];
  }
  for (uint64_t row = 0; row < rows; ++row) next[row + 1] += next[row];
  std::vector<int32_t> column(next[rows]);
  for (int64_t entry = 0; entry < nnz; ++entry) {
    const auto row = static_cast<uint64_t>(row_of[entry] - first);
    if (row < rows) column[next[row]++] = static_cast<int32_t>(column_of[entry]);
  }
  std::vector<int32_t> met_in(columns, -1);
  int64_t entry = 0;
  for (uint64_t row = 0; row < rows; ++row) {
    for (; entry < next[row]; ++entry) {
      int32_t& met = met_in[column[entry]];
      if (met == static_cast<int32_t>(row)) return true;
      met = static_cast<int32_t>(row);
    }
  }
  return false;
}

}  // namespace

bool has_repeated_pairs(const int32_t* row_of, const int32_t* column_of, int64_t nnz, int64_t rows,
                        int64_t columns, Parallel& parallel) {
  // Every worker marks all columns, so there are few workers if there are many columns and few entries.
  const int64_t useful = 1 + marks_per_entry * nnz / std::max<int64_t>(columns, 1);
  const int workers =
      static_cast<int>(std::min<int64_t>({parallel.threads(), std::max<int64_t>(rows, 1), useful}));
  std::atomic<bool> found{false};
  parallel.run(workers, [&](int worker) {
    const int64_t first = rows * worker / workers, last = rows * (worker + 1) / workers;
    if (!found && repeats_in(row_of, column_of, nnz, first, last, columns)) found = true;
  });
  return found;
}

}  // namespace dmf
