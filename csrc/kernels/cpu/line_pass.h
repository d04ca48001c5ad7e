// The pass over Ω for small problems: line by line in the calling thread, without allocations or locks.
#pragma once

#include <algorithm>
#include <tuple>
#include <vector>

#include "../aligned_numbers.h"
#include "../descent/observed_lines.h"
#include "observed_pass.h"
#include "step_kernels.h"

namespace dmf {

template <class T>
class LinePass final : public ObservedPass<T> {
 public:
  // Whether both sides and their gradients stay in L2, and one thread is enough.
  static bool suits(int64_t nnz, const Sides<T>& sides) {
    const int64_t numbers = 2 * (sides.a.numbers() + sides.b_transposed.numbers());
    return numbers * static_cast<int64_t>(sizeof(T)) <= most_bytes && nnz <= most_flops / (6 * sides.a.stride);
  }

  LinePass(const ObservedEntries<T>& entries, double scale, const Sides<T>& sides)
      : kernels_(active_step_kernels<T>()),
        twice_scale_(static_cast<T>(2 * scale)),
        coefficients_(entries.nnz()),
        sides_(sides) {
    sort(entries);
    if (sides.learns_biases()) column_ = lines_.column;
    // From here on as offsets of rows.
    for (int32_t& column : lines_.column) column *= static_cast<int32_t>(sides.b_transposed.stride);
    for (int32_t& row : lines_.row) row *= static_cast<int32_t>(sides.a.stride);
  }

  double run() override {
    const LineSide rows{lines_.row_start.data(), lines_.column.data(), nullptr, lines_.rows};
    const LineSide columns{lines_.column_start.data(), lines_.row.data(), lines_.place.data(), lines_.columns};
    T* coefficients = coefficients_.data();
    kernels_.dots(rows, sides_.a, sides_.b_transposed, coefficients);
    if (sides_.learns_biases()) {
      kernels_.add_biases(rows, column_.data(), sides_.row_bias, sides_.column_bias, coefficients);
    }
    const double loss = kernels_.residuals(targets_.data(), weights_.empty() ? nullptr : weights_.data(),
                                           lines_.nnz, twice_scale_, coefficients);
    kernels_.gather(rows, coefficients, sides_.b_transposed, sides_.gradient_a);
    kernels_.gather(columns, coefficients, sides_.a, sides_.gradient_b_transposed);
    if (sides_.learns_biases()) {
      kernels_.sum_lines(rows, coefficients, sides_.gradient_row_bias);
      kernels_.sum_lines(columns, coefficients, sides_.gradient_column_bias);
    }
    return loss;
  }

 private:
  static constexpr int64_t most_bytes = 1 << 20, most_flops = 1 << 23;

  // Sorted by rows and columns, so that sums do not depend on the caller's order of the entries.
  void sort(const ObservedEntries<T>& entries) {
    struct Entry {
      int64_t row, column, place;
    };
    std::vector<Entry> sorted;
    sorted.reserve(entries.nnz());
    for (int64_t tile = 0; tile < entries.layout.header->tiles; ++tile) {
      for_tile_entries(entries.layout, tile, [&](int64_t place, int64_t row, int64_t column) {
        sorted.push_back({row, column, place});
      });
    }
    std::sort(sorted.begin(), sorted.end(), [](const Entry& one, const Entry& other) {
      return std::tie(one.row, one.column) < std::tie(other.row, other.column);
    });
    std::vector<int64_t> rows, columns;
    for (const auto& [row, column, place] : sorted) {
      rows.push_back(row);
      columns.push_back(column);
      targets_.push_back(static_cast<T>(static_cast<double>(entries.values[place]) - sides_.mean));
      if (entries.weights != nullptr) weights_.push_back(entries.weights[place]);
    }
    lines_ =
        sort_into_lines(rows.data(), columns.data(), entries.nnz(), sides_.a.rows, sides_.b_transposed.rows);
  }

  const StepKernels<T>& kernels_;
  ObservedLines lines_;
  std::vector<int32_t> column_;       // in row order, where biases are learned
  std::vector<T> targets_, weights_;  // in row order: value − mean; no weights for ones
  const T twice_scale_;
  const AlignedNumbers<T> coefficients_;
  const Sides<T> sides_;
};

}  // namespace dmf
