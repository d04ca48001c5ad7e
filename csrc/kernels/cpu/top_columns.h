// The best columns of many rows of A·B, exact, without storing the product.
#pragma once

#include <cstdint>

#include "../parallel.h"

namespace dmf {

// Of a row: places that no column takes are wanted where all rows have as many, but not by the billion.
constexpr int64_t most_best_columns = int64_t{1} << 24;

template <class T>
struct TopColumnsProblem {
  const T* a;  // (any, h)
  const T* b;  // (h, columns)
  int64_t h, columns;
  const T* column_bias;  // null: none
  const int64_t* rows;   // which rows of A are asked for, in any order
  int64_t row_count, k;
  const int64_t* seen_offsets;  // null: nothing is left out
  const int32_t* seen_columns;  // of row i at [seen_offsets[i], seen_offsets[i + 1]), rising
  int64_t* best_columns;        // (row_count, k)
  T* best_scores;               // (row_count, k)
};

// Sets the k best columns of every row that is asked for, best first, and their scores a·b + bias; ties go to
// the lower column. -1 and minus infinity stand where fewer are left. Scores that are NaN or infinitely low are
// left out. For T float or double.
template <class T>
void top_columns(const TopColumnsProblem<T>& problem, Parallel& parallel);

}  // namespace dmf
