// Sorts the entries of one tile by row and by column.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <utility>
#include <vector>

#include "observed_layout.h"

namespace dmf {

// An entry by its place inside a tile, and its place in the caller's arrays.
struct PackedEntry32 {
  uint16_t row, column;
  uint32_t position;
};
struct PackedEntry64 {
  uint16_t row, column;
  int64_t position;
};

// Sorts the entries of one tile by row and by column with two stable counting sorts.
template <class Packed>
class TileSorter {
 public:
  explicit TileSorter(int64_t tile_size) : row_count_(tile_size), column_count_(tile_size) {}

  // Number of rows and of columns that occur.
  std::pair<int64_t, int64_t> count_segments(const Packed* entries, int64_t count) {
    count_entries(entries, count);
    int64_t rows = 0, columns = 0;
    for (int64_t k = 0; k < count; ++k) {
      rows += take(row_count_[entries[k].row]);
      columns += take(column_count_[entries[k].column]);
    }
    return {rows, columns};
  }

  void sort(const Packed* entries, int64_t count, Segment* row_segments, Segment* column_segments,
            uint16_t* entry_column, uint16_t* entry_row, uint16_t* entry_residual, void* position,
            bool wide_position) {
    count_entries(entries, count);
    by_column_.resize(count);
    by_row_.resize(count);
    // Ordering by column first makes every row's entries rise in column: neighbouring rows of Bᵀ.
    set_starts(column_count_);
    for (int64_t k = 0; k < count; ++k) by_column_[start_[entries[k].column]++] = k;
    emit_segments(row_count_, row_segments);
    for (int64_t k = 0; k < count; ++k) by_row_[start_[entries[by_column_[k]].row]++] = by_column_[k];
    place_.resize(count);
    for (int64_t k = 0; k < count; ++k) {
      const Packed& entry = entries[by_row_[k]];
      entry_column[k] = entry.column;
      place_[by_row_[k]] = static_cast<uint16_t>(k);
      if (wide_position) {
        static_cast<int64_t*>(position)[k] = entry.position;
      } else {
        static_cast<uint32_t*>(position)[k] = static_cast<uint32_t>(entry.position);
      }
    }
    emit_segments(column_count_, column_segments);
    // Walking the row order keeps the places inside a column rising: the residuals are read forwards.
    for (int64_t k = 0; k < count; ++k) {
      const Packed& entry = entries[by_row_[k]];
      const int64_t target = start_[entry.column]++;
      entry_row[target] = entry.row;
      entry_residual[target] = place_[by_row_[k]];
    }
    std::fill(row_count_.begin(), row_count_.end(), 0);
    std::fill(column_count_.begin(), column_count_.end(), 0);
  }

 private:
  static int64_t take(int64_t& count) {
    const int64_t occurs = count != 0;
    count = 0;
    return occurs;
  }

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

  // Writes the segments of the lines that occur and sets start_ to their first places.
  void emit_segments(const std::vector<int64_t>& counts, Segment* segments) {
    set_starts(counts);
    for (size_t index = 0; index < counts.size(); ++index) {
      if (counts[index] > 0) {
        *segments++ = {static_cast<uint16_t>(index), static_cast<uint16_t>(counts[index])};
      }
    }
  }

  std::vector<int64_t> row_count_, column_count_, start_, by_column_, by_row_;
  std::vector<uint16_t> place_;
};

}  // namespace dmf
