// Random patterns of observed entries for the tests of the kernels.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <set>
#include <utility>
#include <vector>

#include "../kernels/layout_builder.h"
#include "../kernels/thread_pool.h"

namespace dmf::test {

struct Pattern {
  int64_t rows, columns;
  std::vector<int64_t> row_of, column_of;

  int64_t nnz() const { return static_cast<int64_t>(row_of.size()); }
};

// Distinct entries in random order; `skew` > 1 crowds them into the first rows and columns.
inline Pattern random_pattern(int64_t rows, int64_t columns, int64_t nnz, double skew, unsigned seed) {
  std::mt19937_64 generator(seed);
  std::uniform_real_distribution<double> unit;
  std::set<std::pair<int64_t, int64_t>> seen;
  Pattern pattern{rows, columns, {}, {}};
  const auto draw = [&](int64_t count) {
    return std::min(count - 1, static_cast<int64_t>(std::pow(unit(generator), skew) * count));
  };
  while (pattern.nnz() < nnz) {
    const int64_t row = draw(rows), column = draw(columns);
    if (!seen.emplace(row, column).second) continue;
    pattern.row_of.push_back(row);
    pattern.column_of.push_back(column);
  }
  return pattern;
}

inline Pattern full_pattern(int64_t rows, int64_t columns) {
  Pattern pattern{rows, columns, {}, {}};
  for (int64_t row = 0; row < rows; ++row) {
    for (int64_t column = columns; column-- > 0;) {
      pattern.row_of.push_back(row);
      pattern.column_of.push_back(column);
    }
  }
  return pattern;
}

inline std::vector<Pattern> assorted_patterns() {
  return {{5, 7, {}, {}},
          {0, 0, {}, {}},
          {1, 1, {0}, {0}},
          random_pattern(40, 50, 300, 1, 1),
          random_pattern(700, 900, 5000, 3, 2),
          random_pattern(3, 2000, 1500, 2, 3),
          random_pattern(2000, 3, 1500, 2, 4),
          random_pattern(100000, 100000, 50, 1, 5),
          full_pattern(300, 290)};
}

template <class Index = int64_t>
std::vector<char> build_layout(const Pattern& pattern, TileShape shape, int threads, char garbage = 0) {
  const std::vector<Index> rows(pattern.row_of.begin(), pattern.row_of.end());
  const std::vector<Index> columns(pattern.column_of.begin(), pattern.column_of.end());
  ThreadPool parallel(threads);
  LayoutBuilder<Index> builder(rows.data(), columns.data(), pattern.nnz(), pattern.rows, pattern.columns, shape,
                               parallel);
  std::vector<char> buffer(builder.bytes(), garbage);
  builder.write(buffer.data(), parallel);
  return buffer;
}

inline std::vector<char> build_layout(const Pattern& pattern, int threads = 2) {
  return build_layout(pattern, choose_tile_shape(pattern.rows, pattern.columns, pattern.nnz()), threads);
}

}  // namespace dmf::test
