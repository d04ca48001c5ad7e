#include "tile_shape.h"

#include <unistd.h>

#include <algorithm>

#include "observed_layout.h"

namespace dmf {
namespace {

// The size of a core's L2 cache in bytes; 1 MiB if the system does not report it.
int64_t l2_bytes() {
#if defined(_SC_LEVEL2_CACHE_SIZE)
  const int64_t bytes = sysconf(_SC_LEVEL2_CACHE_SIZE);
  if (bytes > 0) return bytes;
#endif
  return int64_t{1} << 20;
}

}  // namespace

int64_t bands_of(int64_t lines, int64_t tile_lines) {
  return std::max<int64_t>(1, lines / tile_lines + (lines % tile_lines != 0));
}

TileShape choose_tile_shape(int64_t rows, int64_t columns, int64_t nnz) {
  constexpr int64_t usual = 512, smallest = 64, enough_bands = 8, large_l2 = int64_t{2} << 20;
  constexpr double enough_entries_small = 512, enough_entries_large = 4096;
  // In floating point: the product may exceed 64 bits.
  const auto tiles = [&](int64_t size) {
    return static_cast<double>(bands_of(rows, size)) * static_cast<double>(bands_of(columns, size));
  };
  int64_t size = usual;
  while (size < max_tile_lines && tiles(size) > 1 &&
         tiles(size) * enough_entries_large > static_cast<double>(nnz)) {
    size *= 2;
  }
  while (size > smallest && bands_of(std::min(rows, columns), size) < enough_bands &&
         tiles(size / 2) * enough_entries_small <= static_cast<double>(nnz)) {
    size /= 2;
  }
  const bool wide = size > usual && size < max_tile_lines && bands_of(columns, 2 * size) >= enough_bands &&
                    l2_bytes() >= large_l2;
  return wide ? TileShape{size / 2, size * 2} : TileShape{size, size};
}

}  // namespace dmf
