// The pass over Ω if W is formed: each entry reads a number of W and writes a number of its gradient.
#pragma once

#include <numeric>
#include <vector>

#include "observed_pass.h"

namespace dmf {

// body(entry, row, column, residual) → the entry's part of a sum. Each tile is summed separately and tiles are
// added in order, so that the sum does not depend on the number of threads.
template <class T, class Body>
double sum_at_formed(const ObservedEntries<T>& entries, const Sides<T>& sides, Parallel& parallel,
                     const Body& body) {
  std::vector<double> sums(entries.layout.header->tiles, 0.0);
  const T mean = static_cast<T>(sides.mean);
  for_slices(parallel, static_cast<int64_t>(sums.size()), [&](int, int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      double sum = 0;
      for_tile_entries(entries.layout, tile, [&](int64_t entry, int64_t row, int64_t column) {
        T prediction = sides.a.row(row)[column] + mean;
        if (sides.has_biases()) prediction += sides.row_bias[row] + sides.column_bias[column];
        sum += body(entry, row, column, prediction - entries.values[entry]);
      });
      sums[tile] = sum;
    }
  });
  return std::accumulate(sums.begin(), sums.end(), 0.0);
}

template <class T>
double squared_error_at_formed(const ObservedEntries<T>& entries, const Sides<T>& sides, Parallel& parallel) {
  return sum_at_formed(entries, sides, parallel, [&](int64_t entry, int64_t, int64_t, T residual) {
    const T weighted = entries.weights == nullptr ? residual : entries.weights[entry] * residual;
    return static_cast<double>(weighted) * static_cast<double>(residual);
  });
}

template <class T>
class FormedPass final : public ObservedPass<T> {
 public:
  FormedPass(const ObservedEntries<T>& entries, double scale, const Sides<T>& sides, Parallel& parallel)
      : entries_(entries), sides_(sides), twice_scale_(static_cast<T>(2 * scale)), parallel_(parallel) {}

  double run() override {
    const double loss =
        sum_at_formed(entries_, sides_, parallel_, [&](int64_t entry, int64_t row, int64_t column, T residual) {
          const T weighted = entries_.weights == nullptr ? residual : entries_.weights[entry] * residual;
          sides_.gradient_a.row(row)[column] = twice_scale_ * weighted;
          return static_cast<double>(weighted) * static_cast<double>(residual);
        });
    if (sides_.learns_biases()) sum_gradient();
    return loss;
  }

 private:
  // The gradients of the biases are sums of that of W, by rows and by columns.
  void sum_gradient() const {
    const DenseMatrix<T>& gradient = sides_.gradient_a;
    for_slices(parallel_, gradient.rows, [&](int, int64_t begin, int64_t end) {
      for (int64_t row = begin; row < end; ++row) {
        sides_.gradient_row_bias[row] =
            std::accumulate(gradient.row(row), gradient.row(row) + gradient.columns, T{0});
      }
    });
    for_slices(parallel_, gradient.columns, [&](int, int64_t begin, int64_t end) {
      T* sums = sides_.gradient_column_bias;
      std::fill(sums + begin, sums + end, T{0});
      for (int64_t row = 0; row < gradient.rows; ++row) {
        for (int64_t column = begin; column < end; ++column) sums[column] += gradient.row(row)[column];
      }
    });
  }

  const ObservedEntries<T> entries_;
  const Sides<T> sides_;
  const T twice_scale_;
  Parallel& parallel_;
};

}  // namespace dmf
