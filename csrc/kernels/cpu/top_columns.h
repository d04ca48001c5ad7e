// The best columns of many rows of A·B, exact, without storing the product.
#pragma once

#include <cstdint>

#include "../parallel.h"

namespace dmf {

// Per row. Places may stay empty, so that all rows have equally many, but not billions of them.
constexpr int64_t most_best_columns = int64_t{1} << 24;

template <class T>
struct TopColumnsProblem {
  const T* a;  // (any, h)
  const T* b;  // (h, columns)
  int64_t h, columns;
  const T* column_bias;  // null for none
  const int64_t* rows;   // the requested rows of A, in any order
  int64_t row_count, k;
  const int64_t* seen_offsets;  // null if no column is excluded
  const int32_t* seen_columns;  // of row i at [seen_offsets[i], seen_offsets[i + 1]), ascending
  int64_t* best_columns;        // (row_count, k)
  T* best_scores;               // (row_count, k)
};

// Sets the k best columns of every requested row, best first, and their scores a·b + bias; ties go to the lower
// column. If fewer are left, the rest is -1 and minus infinity. Scores that are NaN or minus infinity are
// skipped. T is float or double.
template <class T>
void top_columns(const TopColumnsProblem<T>& problem, Parallel& parallel);

}  // namespace dmf
