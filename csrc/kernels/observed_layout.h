// The tiled layout of the observed entries Ω: one flat, position-independent buffer.
//
// Ω never changes during training, so it is sorted once. The m × n matrix is cut into tiles of tile_rows ×
// tile_columns (powers of two), small enough that a tile's slices of A, Bᵀ, dA and dBᵀ stay in the L2 cache.
// Tiles are grouped into a stripes × stripes grid of blocks with about equal numbers of entries in every row
// stripe and in every column stripe (stripes is a power of two); threads take whole blocks (cpu/sweep.h).
//
// Inside a tile every entry appears twice, in row order and in column order, in groups of eight, four, three,
// two or one entries of one row (or column), which a kernel processes at a time. The rows of a tile form
// bundles of 32. A bundle lists all groups of eight, then those of four and so on, so that a kernel runs
// through it without a data-dependent branch; neighboring groups of eight belong to different rows, so that
// they do not wait for each other's sums. Rows increase from bundle to bundle, so the processor's prefetchers
// stream A and dA through a tile.
//
// The buffer holds, after LayoutHeader, these arrays, each at a multiple of 64 bytes:
//
//   block_tile_start   int64 [stripes² + 1]  tiles of block row_stripe · stripes + column_stripe
//   row_stripe_start   int64 [stripes + 1]   first row of every row stripe
//   column_stripe_start int64 [stripes + 1]  first column of every column stripe
//   tiles              Tile  [tiles + 1]     in block order; the last is a sentinel
//   row_bundles        Bundle                how many groups of every size
//   column_bundles     Bundle
//   row_of_group       uint16                row order: row of a group inside the tile
//   column_of_group    uint16                column order: column of a group inside the tile
//   entry_column       uint16 [nnz]          row order: column inside the tile
//   entry_row          uint16 [nnz]          column order: row inside the tile
//   entry_place     uint16 [nnz]          column order: the entry's place in the tile's row order
//   position           uint32 or int64 [nnz] row order: the entry's place in the caller's arrays
//
// That is 10 bytes per entry below 2³² entries and about one more for the groups; values and weights are stored
// elsewhere, in row order, in the dtype of the factors.
#pragma once

#include <cstdint>

#include "number_types.h"
#include "parallel.h"

namespace dmf {

// How many entries of one row or column kernels process at once, largest first.
constexpr int group_sizes[] = {8, 4, 3, 2, 1};
constexpr int group_kinds = 5;
// Rows or columns in a bundle: their slices of A and dA stay in the L1 cache.
constexpr int bundle_lines = 32;

struct Tile {
  int64_t entry_start;
  int64_t row_bundle_start;
  int64_t column_bundle_start;
  int64_t row_of_group_start;
  int64_t column_of_group_start;
  int64_t first_row;
  int64_t first_column;
};

// groups[kind] groups of group_sizes[kind] entries.
struct Bundle {
  uint16_t groups[group_kinds];
};

struct LayoutHeader {
  uint64_t magic;
  int64_t bytes;
  int64_t rows;
  int64_t columns;
  int64_t nnz;
  int64_t tile_rows;
  int64_t tile_columns;
  int64_t stripes;
  int64_t tiles;
  int64_t row_bundles;
  int64_t column_bundles;
  int64_t row_groups;
  int64_t column_groups;
  int64_t largest_tile;
  int64_t position_bytes;
};

constexpr uint64_t layout_magic = 0x3230544c464d44ULL;  // "DMFLT02"
constexpr int64_t layout_alignment = 64;
constexpr int64_t max_stripes = 32;
constexpr int64_t max_tile_lines = 32768;
// entry_place is 16 bits wide.
constexpr int64_t max_tile_entries = 65536;

// The byte offset of every array, the one place that knows their order.
struct LayoutOffsets {
  int64_t block_tile_start, row_stripe_start, column_stripe_start, tiles, row_bundles, column_bundles,
      row_of_group, column_of_group, entry_column, entry_row, entry_place, position, end;

  explicit LayoutOffsets(const LayoutHeader& header);
};

// Pointers into a layout's buffer, which must outlive the view.
struct LayoutView {
  const LayoutHeader* header;
  const int64_t* block_tile_start;
  const int64_t* row_stripe_start;
  const int64_t* column_stripe_start;
  const Tile* tiles;
  const Bundle* row_bundles;
  const Bundle* column_bundles;
  const uint16_t* row_of_group;
  const uint16_t* column_of_group;
  const uint16_t* entry_column;
  const uint16_t* entry_row;
  const uint16_t* entry_place;
  const void* position;

  DMF_INLINE int64_t position_of(int64_t entry) const {
    return header->position_bytes == 4 ? static_cast<const uint32_t*>(position)[entry]
                                       : static_cast<const int64_t*>(position)[entry];
  }
};

// Calls body(size, line) for the groups of `bundles`, in their order; `line` points to the rows or columns of
// the groups.
template <class Body>
DMF_INLINE void for_groups(const Bundle* bundles, int64_t count, const uint16_t* line, const Body& body) {
  for (const Bundle* bundle = bundles; bundle != bundles + count; ++bundle) {
    for (int kind = 0; kind < group_kinds; ++kind) {
      for (int group = 0; group < bundle->groups[kind]; ++group) body(group_sizes[kind], *line++);
    }
  }
}

// Calls body(entry, row, column) for the entries of a tile in row order.
template <class Body>
DMF_INLINE void for_tile_entries(const LayoutView& layout, int64_t tile_number, const Body& body) {
  const Tile &tile = layout.tiles[tile_number], &next = layout.tiles[tile_number + 1];
  int64_t entry = tile.entry_start;
  for_groups(layout.row_bundles + tile.row_bundle_start, next.row_bundle_start - tile.row_bundle_start,
             layout.row_of_group + tile.row_of_group_start, [&](int size, uint16_t row) {
               for (int k = 0; k < size; ++k, ++entry) {
                 body(entry, tile.first_row + row, tile.first_column + layout.entry_column[entry]);
               }
             });
}

// A view of `buffer`; all pointers are null if it is not aligned to 8 bytes or does not hold a layout of
// `bytes` bytes. Checks the header and the tiles, but not every entry.
LayoutView view_layout(const void* buffer, int64_t bytes);

// The rows and columns that a tile must stay inside: those of its block, or of the matrix.
struct Region {
  int64_t first_row, last_row, first_column, last_column;  // the last ones are exclusive
};

Region matrix_region(const LayoutView& layout);
Region block_region(const LayoutView& layout, int64_t row_stripe, int64_t column_stripe);

// Whether a tile stays in `region`, and its entries in the tile, which bounds all that a pass accesses for it.
// Vectorized comparisons cost only a few percent of a pass, so passes check each tile before they touch it.
bool tile_is_inside(const LayoutView& layout, int64_t tile, const Region& region);

// Whether the places of a tile's entries lie in the caller's arrays.
bool positions_are_inside(const LayoutView& layout, int64_t tile);

// Throws the std::invalid_argument of a pass that found a tile or a place outside; it has written nothing
// there.
[[noreturn]] void refuse_layout();

// Whether every tile is in its block, every entry in its tile, and every place in the caller's arrays occurs
// once: the check for buffers from files. Takes one byte of memory per entry.
bool entries_are_sound(const LayoutView& layout, Parallel& parallel);

// The same except for the places in the caller's arrays: enough for passes that never read them. Takes no
// memory.
bool entries_are_inside(const LayoutView& layout, Parallel& parallel);

// The byte offset of the position array inside a layout's buffer.
int64_t position_offset(const LayoutView& layout);

// Writes the rows and columns back in the caller's order; entries must be valid.
void decode_layout(const LayoutView& layout, int64_t* row_of, int64_t* column_of, Parallel& parallel);

}  // namespace dmf
