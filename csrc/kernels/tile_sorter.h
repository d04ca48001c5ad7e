// Puts the entries of one tile in row order and in column order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <vector>

#include "bundles.h"
#include "observed_layout.h"

namespace dmf {

// The place of an entry inside a tile, and its place in the caller's arrays.
struct PackedEntry32 {
  uint16_t row, column;
  uint32_t position;
};
struct PackedEntry64 {
  uint16_t row, column;
  int64_t position;
};

struct TileCounts {
  LineCounts rows, columns;
};

// Where the arrays of a tile begin; `position` holds numbers of the width of Packed::position.
struct TileArrays {
  Bundle* row_bundles;
  uint16_t* row_of_group;
  Bundle* column_bundles;
  uint16_t* column_of_group;
  uint16_t* entry_column;
  uint16_t* entry_row;
  uint16_t* entry_place;
  void* position;
};

template <class Packed>
class TileSorter {
 public:
  TileSorter(int64_t tile_rows, int64_t tile_columns) : row_count_(tile_rows), column_count_(tile_columns) {}

  TileCounts count(const Packed* entries, int64_t count) {
    count_entries(entries, count);
    TileCounts counts;
    // Clears the counts on the way: a huge tile with few entries is not walked line by line.
    for (int64_t k = 0; k < count; ++k) {
      counts.rows.take(row_count_[entries[k].row]);
      counts.columns.take(column_count_[entries[k].column]);
    }
    return counts;
  }

  void sort(const Packed* entries, int64_t count, const TileArrays& arrays) {
    using Position = decltype(Packed::position);
    count_entries(entries, count);
    by_column_.resize(count);
    by_line_.resize(count);
    // Sorting by column first puts the entries of every row in ascending columns: neighboring rows of Bᵀ.
    set_starts(column_count_);
    for (int64_t k = 0; k < count; ++k) by_column_[start_[entries[k].column]++] = k;
    set_starts(row_count_);
    for (const int64_t k : by_column_) by_line_[start_[entries[k].row]++] = k;
    // The order by column is no longer needed: its memory is reused for the row order.
    std::vector<int64_t>& row_order = by_column_;
    int64_t place = 0;
    write_bundles(row_count_, arrays.row_bundles, arrays.row_of_group, [&](int64_t sorted) {
      const int64_t k = by_line_[sorted];
      arrays.entry_column[place] = entries[k].column;
      static_cast<Position*>(arrays.position)[place] = entries[k].position;
      row_order[place++] = k;
    });
    // Walking in row order keeps the places inside a column ascending: the residuals are read forward.
    set_starts(column_count_);
    for (int64_t k = 0; k < count; ++k) by_line_[start_[entries[row_order[k]].column]++] = k;
    place = 0;
    write_bundles(column_count_, arrays.column_bundles, arrays.column_of_group, [&](int64_t sorted) {
      const int64_t row_place = by_line_[sorted];
      arrays.entry_row[place] = entries[row_order[row_place]].row;
      arrays.entry_place[place++] = static_cast<uint16_t>(row_place);
    });
    std::fill(row_count_.begin(), row_count_.end(), 0);
    std::fill(column_count_.begin(), column_count_.end(), 0);
  }

 private:
  void count_entries(const Packed* entries, int64_t count) {
    for (int64_t k = 0; k < count; ++k) {
      ++row_count_[entries[k].row];
      ++column_count_[entries[k].column];
    }
  }

  void set_starts(const std::vector<int64_t>& counts) {
    start_.resize(counts.size());
    std::exclusive_scan(counts.begin(), counts.end(), start_.begin(), int64_t{0});
  }

  std::vector<int64_t> row_count_, column_count_, start_, by_column_, by_line_;
};

}  // namespace dmf
