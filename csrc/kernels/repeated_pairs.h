// Whether a list of entries contains a position of the matrix twice.
//
// Every worker takes a range of rows: it gathers their columns row by row, 4 bytes per entry, and marks for
// each column the last row in which it occurred. No sort: an entry costs two reads of its row, one of its
// column, and a write and a mark at random places.
#pragma once

#include <cstdint>

#include "parallel.h"

namespace dmf {

// Indices must lie inside the matrix, which has fewer than 2³¹ rows and columns. Memory: 4 bytes per entry, per
// row, and per column and worker.
bool has_repeated_pairs(const int32_t* row_of, const int32_t* column_of, int64_t nnz, int64_t rows,
                        int64_t columns, Parallel& parallel);

}  // namespace dmf
