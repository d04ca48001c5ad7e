// The pass at Ω of small problems: lines of Ω, in the calling thread, without an allocation or a lock.
#pragma once

#include <algorithm>
#include <vector>

#include "../aligned_numbers.h"
#include "observed_pass.h"
#include "step_kernels.h"

namespace dmf {

template <class T>
class LinePass final : public ObservedPass<T> {
 public:
  // Whether both sides and their gradients stay in L2, and entries can be counted in 32 bits.
  static bool suits(int64_t nnz, const Sides<T>& sides) {
    const int64_t numbers = 2 * (sides.a.numbers() + sides.b_transposed.numbers());
    return numbers * static_cast<int64_t>(sizeof(T)) <= most_bytes && nnz <= INT32_MAX;
  }

  LinePass(const ObservedEntries<T>& entries, double scale, const Sides<T>& sides)
      : kernels_(active_step_kernels<T>()),
        lines_(
            sort_into_lines(entries.rows, entries.columns, entries.nnz, sides.a.rows, sides.b_transposed.rows)),
        values_(in_row_order(entries.values)),
        weights_(in_row_order(entries.weights)),
        twice_scale_(static_cast<T>(2 * scale)),
        coefficients_(entries.nnz),
        sides_(sides) {
    // From now on by where their rows begin.
    for (int32_t& column : lines_.column) column *= static_cast<int32_t>(sides.b_transposed.stride);
    for (int32_t& row : lines_.row) row *= static_cast<int32_t>(sides.a.stride);
  }

  double run() override {
    const LineSide rows{lines_.row_start.data(), lines_.column.data(), nullptr, lines_.rows};
    const LineSide columns{lines_.column_start.data(), lines_.row.data(), lines_.place.data(), lines_.columns};
    T* coefficients = coefficients_.data();
    kernels_.dots(rows, sides_.a, sides_.b_transposed, coefficients);
    const double loss = kernels_.residuals(values_.data(), weights_.empty() ? nullptr : weights_.data(),
                                           lines_.nnz, twice_scale_, coefficients);
    kernels_.gather(rows, coefficients, sides_.b_transposed, sides_.gradient_a);
    kernels_.gather(columns, coefficients, sides_.a, sides_.gradient_b_transposed);
    return loss;
  }

 private:
  static constexpr int64_t most_bytes = 1 << 20;

  std::vector<T> in_row_order(const T* given) const {
    std::vector<T> ordered;
    if (given == nullptr) return ordered;
    ordered.reserve(lines_.position.size());
    for (const int32_t place : lines_.position) ordered.push_back(given[place]);
    return ordered;
  }

  const StepKernels<T>& kernels_;
  ObservedLines lines_;
  const std::vector<T> values_, weights_;  // in row order; no weights for ones
  const T twice_scale_;
  const AlignedNumbers<T> coefficients_;
  const Sides<T> sides_;
};

}  // namespace dmf
