// Ω for small problems: sorted by rows and by columns, without tiles. A whole line's gradient then stays in
// registers from its first entry to its last. An entry takes 12 bytes.
#pragma once

#include <cstdint>
#include <vector>

namespace dmf {

struct ObservedLines {
  int64_t rows = 0, columns = 0, nnz = 0;
  std::vector<int32_t> row_start;     // rows + 1: where the entries of a row begin in row order
  std::vector<int32_t> column;        // nnz, in row order
  std::vector<int32_t> column_start;  // columns + 1: where the entries of a column begin in column order
  std::vector<int32_t> row;           // nnz, in column order
  std::vector<int32_t> place;         // nnz: place of the k-th entry in column order in row order
  std::vector<int32_t> position;      // nnz: place of the k-th entry in row order in the caller's arrays
};

// Entries of a line keep the caller's order. Indices must lie inside the matrix.
inline ObservedLines sort_into_lines(const int64_t* row_of, const int64_t* column_of, int64_t nnz, int64_t rows,
                                     int64_t columns) {
  ObservedLines lines;
  lines.rows = rows;
  lines.columns = columns;
  lines.nnz = nnz;
  const auto starts = [nnz](const int64_t* line_of, int64_t line_count) {
    std::vector<int32_t> start(line_count + 1, 0);
    for (int64_t k = 0; k < nnz; ++k) ++start[line_of[k] + 1];
    for (int64_t line = 0; line < line_count; ++line) start[line + 1] += start[line];
    return start;
  };
  lines.row_start = starts(row_of, rows);
  lines.column_start = starts(column_of, columns);
  lines.column.resize(nnz);
  lines.position.resize(nnz);
  lines.row.resize(nnz);
  lines.place.resize(nnz);
  std::vector<int32_t> next_row = lines.row_start, next_column = lines.column_start;
  for (int64_t k = 0; k < nnz; ++k) {
    const int32_t in_rows = next_row[row_of[k]]++, in_columns = next_column[column_of[k]]++;
    lines.column[in_rows] = static_cast<int32_t>(column_of[k]);
    lines.position[in_rows] = static_cast<int32_t>(k);
    lines.row[in_columns] = static_cast<int32_t>(row_of[k]);
    lines.place[in_columns] = in_rows;
  }
  return lines;
}

}  // namespace dmf
