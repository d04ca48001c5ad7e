// The tile shape of a layout.
#pragma once

#include <cstdint>

namespace dmf {

struct TileShape {
  int64_t rows, columns;
};

// The tile shape that suits a pattern: 512 × 512, smaller where a small matrix would otherwise leave threads
// without work, larger where the pattern is so sparse that tiles would be empty. Larger tiles are wide if the
// L2 cache is large: the slices of Bᵀ and dBᵀ stay there while A and dA stream through, so wide tiles read A
// and dA less often, as long as enough columns of tiles remain for the threads.
TileShape choose_tile_shape(int64_t rows, int64_t columns, int64_t nnz);

// The number of tiles that cover this many rows or columns, at least one.
int64_t bands_of(int64_t lines, int64_t tile_lines);

}  // namespace dmf
