// The tiled layout of the observed entries Ω: one flat, position-independent buffer.
//
// Ω never changes during training, so it is sorted once. The m × n matrix is cut into tiles of
// tile_size × tile_size (a power of two), small enough that a tile's slices of A, Bᵀ, dA and dBᵀ stay in
// the L2 cache. Tiles are gathered into a groups × groups grid of blocks with about equal numbers of
// entries in every row group and in every column group (groups is a power of two); the blocks are what
// threads take (cpu/sweep.h).
//
// The buffer holds, after LayoutHeader, these arrays, each at a multiple of 64 bytes:
//
//   block_tile_start   int64 [groups² + 1]   tiles of block row_group · groups + column_group
//   row_group_start    int64 [groups + 1]    first row of every row group
//   column_group_start int64 [groups + 1]    first column of every column group
//   tiles              Tile  [tiles + 1]     in block order; the last is a sentinel
//   row_segments       Segment               a row of a tile and its number of entries
//   column_segments    Segment               a column of a tile and its number of entries
//   entry_column       uint16 [nnz]          row order: column inside the tile
//   entry_row          uint16 [nnz]          column order: row inside the tile
//   entry_residual     uint16 [nnz]          column order: the entry's place in the tile's row order
//   position           uint32 or int64 [nnz] row order: the entry's place in the caller's arrays
//
// That is 10 bytes an entry below 2³² entries and about one more for the segments; values and weights
// lie outside, in row order, in the dtype of the factors. Segments of a tile are in rising order of their
// index: the processor's prefetchers then stream A and dA through a tile (sorting the segments by length
// spares branch misses, but costs up to 1.7 times the time once the factors outgrow the caches).
#pragma once

#include <cstdint>

#include "parallel.h"

namespace dmf {

struct Tile {
  int64_t entry_start;
  int64_t row_segment_start;
  int64_t column_segment_start;
  int64_t first_row;
  int64_t first_column;
};

struct Segment {
  uint16_t index;
  uint16_t count;
};

struct LayoutHeader {
  uint64_t magic;
  int64_t bytes;
  int64_t rows;
  int64_t columns;
  int64_t nnz;
  int64_t tile_size;
  int64_t groups;
  int64_t tiles;
  int64_t row_segments;
  int64_t column_segments;
  int64_t largest_tile;
  int64_t position_bytes;
};

constexpr uint64_t layout_magic = 0x3130544c464d44ULL;  // "DMFLT01"
constexpr int64_t layout_alignment = 64;
constexpr int64_t max_layout_groups = 32;
constexpr int64_t max_tile_size = 32768;
// entry_residual is 16 bits wide.
constexpr int64_t max_tile_entries = 65536;

// The byte offset of every array, the one place that knows their order.
struct LayoutOffsets {
  int64_t block_tile_start, row_group_start, column_group_start, tiles, row_segments, column_segments,
      entry_column, entry_row, entry_residual, position, end;

  explicit LayoutOffsets(const LayoutHeader& header);
};

// Pointers into a layout's buffer, which must outlive the view.
struct LayoutView {
  const LayoutHeader* header;
  const int64_t* block_tile_start;
  const int64_t* row_group_start;
  const int64_t* column_group_start;
  const Tile* tiles;
  const Segment* row_segments;
  const Segment* column_segments;
  const uint16_t* entry_column;
  const uint16_t* entry_row;
  const uint16_t* entry_residual;
  const void* position;

  // Inlined always: a copy compiled for a wider instruction set must not be shared.
  __attribute__((always_inline)) int64_t position_of(int64_t entry) const {
    return header->position_bytes == 4 ? static_cast<const uint32_t*>(position)[entry]
                                       : static_cast<const int64_t*>(position)[entry];
  }
};

// A view of `buffer`; all pointers are null when it does not hold a layout of `bytes` bytes. Checks the header
// and the tiles, but not every entry.
LayoutView view_layout(const void* buffer, int64_t bytes);

// The byte offset of the position array inside a layout's buffer.
int64_t position_offset(const LayoutView& layout);

// Writes the rows and columns back in the caller's order.
void decode_layout(const LayoutView& layout, int64_t* row_of, int64_t* column_of, Parallel& parallel);

}  // namespace dmf
