#include "observed_layout.h"

#include <algorithm>
#include <atomic>
#include <stdexcept>
#include <vector>

namespace dmf {
namespace {

int64_t aligned(int64_t bytes) {
  return (bytes + layout_alignment - 1) / layout_alignment * layout_alignment;
}

bool is_power_of_two(int64_t number) {
  return number > 0 && (number & (number - 1)) == 0;
}

// Whether the numbers never decrease from start[0] = 0 to start[count] = end.
bool rises_to(const int64_t* start, int64_t count, int64_t end) {
  return start[0] == 0 && start[count] == end && std::is_sorted(start, start + count + 1);
}

// Whether counts are so small that their bytes cannot overflow, and within the limits that kernels rely on.
bool header_is_sound(const LayoutHeader& h, int64_t bytes) {
  for (const int64_t count :
       {h.rows, h.columns, h.nnz, h.tiles, h.row_bundles, h.column_bundles, h.row_groups, h.column_groups}) {
    if (count < 0) return false;
  }
  for (const int64_t count : {h.nnz, h.tiles, h.row_bundles, h.column_bundles, h.row_groups, h.column_groups}) {
    if (count > bytes) return false;
  }
  return is_power_of_two(h.tile_rows) && h.tile_rows <= max_tile_lines && is_power_of_two(h.tile_columns) &&
         h.tile_columns <= max_tile_lines && is_power_of_two(h.stripes) && h.stripes <= max_stripes &&
         (h.position_bytes == 4 || h.position_bytes == 8) && h.largest_tile >= 0 &&
         h.largest_tile <= std::min(h.nnz, max_tile_entries) && LayoutOffsets(h).end == bytes;
}

// Whether tiles lie inside the matrix and the arrays. The arrays of single entries are not read.
bool tiles_are_sound(const LayoutView& view) {
  const LayoutHeader& h = *view.header;
  if (!rises_to(view.block_tile_start, h.stripes * h.stripes, h.tiles) ||
      !rises_to(view.row_stripe_start, h.stripes, h.rows) ||
      !rises_to(view.column_stripe_start, h.stripes, h.columns)) {
    return false;
  }
  const Tile &first = view.tiles[0], &last = view.tiles[h.tiles];
  if (first.entry_start != 0 || first.row_bundle_start != 0 || first.column_bundle_start != 0 ||
      first.row_of_group_start != 0 || first.column_of_group_start != 0 || last.entry_start != h.nnz ||
      last.row_bundle_start != h.row_bundles || last.column_bundle_start != h.column_bundles ||
      last.row_of_group_start != h.row_groups || last.column_of_group_start != h.column_groups) {
    return false;
  }
  return std::all_of(view.tiles, view.tiles + h.tiles, [&](const Tile& tile) {
    const Tile& next = *(&tile + 1);
    return tile.first_row >= 0 && tile.first_row < h.rows && tile.first_column >= 0 &&
           tile.first_column < h.columns && next.entry_start >= tile.entry_start &&
           next.entry_start - tile.entry_start <= h.largest_tile &&
           next.row_bundle_start >= tile.row_bundle_start &&
           next.column_bundle_start >= tile.column_bundle_start &&
           next.row_of_group_start >= tile.row_of_group_start &&
           next.column_of_group_start >= tile.column_of_group_start;
  });
}

// Branch-free, so that it is vectorized.
bool all_below(const uint16_t* indices, int64_t count, int64_t bound) {
  uint16_t largest = 0;
  for (int64_t k = 0; k < count; ++k) largest = std::max(largest, indices[k]);
  return count == 0 || largest < bound;
}

template <class Position>
bool all_below(const void* positions, int64_t first, int64_t last, int64_t bound) {
  const Position* position = static_cast<const Position*>(positions);
  Position largest = 0;
  for (int64_t k = first; k < last; ++k) largest = std::max(largest, position[k]);
  return first == last || largest < static_cast<uint64_t>(bound);
}

// Whether `bundles` have `groups` groups with `entries` entries in total, all in lines below `lines`.
bool groups_are_inside(const Bundle* bundles, int64_t count, const uint16_t* line_of_group, int64_t groups,
                       int64_t entries, int64_t lines) {
  int64_t of_kind[group_kinds] = {};
  for (int64_t bundle = 0; bundle < count; ++bundle) {
    for (int kind = 0; kind < group_kinds; ++kind) of_kind[kind] += bundles[bundle].groups[kind];
  }
  int64_t found = 0, held = 0;
  for (int kind = 0; kind < group_kinds; ++kind) {
    found += of_kind[kind];
    held += of_kind[kind] * group_sizes[kind];
  }
  return found == groups && held == entries && all_below(line_of_group, groups, lines);
}

// Whether every position of a tile occurs for the first time; `seen` has a byte for each.
bool positions_are_new(const LayoutView& layout, int64_t tile, std::vector<uint8_t>& seen) {
  for (int64_t entry = layout.tiles[tile].entry_start; entry < layout.tiles[tile + 1].entry_start; ++entry) {
    std::atomic_ref<uint8_t> position(seen[layout.position_of(entry)]);
    if (position.exchange(1, std::memory_order_relaxed) != 0) return false;
  }
  return true;
}

// `seen` is null if positions do not matter.
bool block_is_sound(const LayoutView& layout, int64_t row_stripe, int64_t column_stripe,
                    std::vector<uint8_t>* seen) {
  const Region region = block_region(layout, row_stripe, column_stripe);
  const int64_t block = row_stripe * layout.header->stripes + column_stripe;
  for (int64_t tile = layout.block_tile_start[block]; tile < layout.block_tile_start[block + 1]; ++tile) {
    if (!tile_is_inside(layout, tile, region)) return false;
    if (seen != nullptr && !(positions_are_inside(layout, tile) && positions_are_new(layout, tile, *seen))) {
      return false;
    }
  }
  return true;
}

bool blocks_are_sound(const LayoutView& layout, std::vector<uint8_t>* seen, Parallel& parallel) {
  const int64_t stripes = layout.header->stripes;
  std::atomic<bool> sound{true};
  for_slices(parallel, stripes * stripes, [&](int, int64_t begin, int64_t end) {
    for (int64_t block = begin; block < end && sound; ++block) {
      if (!block_is_sound(layout, block / stripes, block % stripes, seen)) sound = false;
    }
  });
  return sound;
}

}  // namespace

LayoutOffsets::LayoutOffsets(const LayoutHeader& h) {
  int64_t next = aligned(sizeof(LayoutHeader));
  const auto take = [&next](int64_t count, int64_t size) {
    const int64_t offset = next;
    next += aligned(count * size);
    return offset;
  };
  block_tile_start = take(h.stripes * h.stripes + 1, sizeof(int64_t));
  row_stripe_start = take(h.stripes + 1, sizeof(int64_t));
  column_stripe_start = take(h.stripes + 1, sizeof(int64_t));
  tiles = take(h.tiles + 1, sizeof(Tile));
  row_bundles = take(h.row_bundles, sizeof(Bundle));
  column_bundles = take(h.column_bundles, sizeof(Bundle));
  row_of_group = take(h.row_groups, sizeof(uint16_t));
  column_of_group = take(h.column_groups, sizeof(uint16_t));
  entry_column = take(h.nnz, sizeof(uint16_t));
  entry_row = take(h.nnz, sizeof(uint16_t));
  entry_place = take(h.nnz, sizeof(uint16_t));
  position = take(h.nnz, h.position_bytes);
  end = next;
}

LayoutView view_layout(const void* buffer, int64_t bytes) {
  LayoutView view{};
  const LayoutHeader* header = static_cast<const LayoutHeader*>(buffer);
  if (reinterpret_cast<uintptr_t>(buffer) % alignof(LayoutHeader) != 0 ||
      bytes < static_cast<int64_t>(sizeof(LayoutHeader)) || header->magic != layout_magic ||
      header->bytes != bytes || !header_is_sound(*header, bytes)) {
    return view;
  }
  const uint8_t* base = static_cast<const uint8_t*>(buffer);
  const LayoutOffsets at(*header);
  view.header = header;
  view.block_tile_start = reinterpret_cast<const int64_t*>(base + at.block_tile_start);
  view.row_stripe_start = reinterpret_cast<const int64_t*>(base + at.row_stripe_start);
  view.column_stripe_start = reinterpret_cast<const int64_t*>(base + at.column_stripe_start);
  view.tiles = reinterpret_cast<const Tile*>(base + at.tiles);
  view.row_bundles = reinterpret_cast<const Bundle*>(base + at.row_bundles);
  view.column_bundles = reinterpret_cast<const Bundle*>(base + at.column_bundles);
  view.row_of_group = reinterpret_cast<const uint16_t*>(base + at.row_of_group);
  view.column_of_group = reinterpret_cast<const uint16_t*>(base + at.column_of_group);
  view.entry_column = reinterpret_cast<const uint16_t*>(base + at.entry_column);
  view.entry_row = reinterpret_cast<const uint16_t*>(base + at.entry_row);
  view.entry_place = reinterpret_cast<const uint16_t*>(base + at.entry_place);
  view.position = base + at.position;
  return tiles_are_sound(view) ? view : LayoutView{};
}

Region matrix_region(const LayoutView& layout) {
  return {0, layout.header->rows, 0, layout.header->columns};
}

Region block_region(const LayoutView& layout, int64_t row_stripe, int64_t column_stripe) {
  return {layout.row_stripe_start[row_stripe], layout.row_stripe_start[row_stripe + 1],
          layout.column_stripe_start[column_stripe], layout.column_stripe_start[column_stripe + 1]};
}

bool tile_is_inside(const LayoutView& layout, int64_t tile_number, const Region& region) {
  const Tile &tile = layout.tiles[tile_number], &next = layout.tiles[tile_number + 1];
  const int64_t entries = next.entry_start - tile.entry_start;
  if (tile.first_row < region.first_row || tile.first_column < region.first_column) return false;
  const int64_t rows = std::min(layout.header->tile_rows, region.last_row - tile.first_row),
                columns = std::min(layout.header->tile_columns, region.last_column - tile.first_column);
  return groups_are_inside(layout.row_bundles + tile.row_bundle_start,
                           next.row_bundle_start - tile.row_bundle_start,
                           layout.row_of_group + tile.row_of_group_start,
                           next.row_of_group_start - tile.row_of_group_start, entries, rows) &&
         groups_are_inside(layout.column_bundles + tile.column_bundle_start,
                           next.column_bundle_start - tile.column_bundle_start,
                           layout.column_of_group + tile.column_of_group_start,
                           next.column_of_group_start - tile.column_of_group_start, entries, columns) &&
         all_below(layout.entry_column + tile.entry_start, entries, columns) &&
         all_below(layout.entry_row + tile.entry_start, entries, rows) &&
         all_below(layout.entry_place + tile.entry_start, entries, entries);
}

bool positions_are_inside(const LayoutView& layout, int64_t tile) {
  const int64_t first = layout.tiles[tile].entry_start, last = layout.tiles[tile + 1].entry_start;
  // As unsigned, a negative one exceeds all bounds.
  return layout.header->position_bytes == 4
             ? all_below<uint32_t>(layout.position, first, last, layout.header->nnz)
             : all_below<uint64_t>(layout.position, first, last, layout.header->nnz);
}

void refuse_layout() {
  throw std::invalid_argument(
      "layout has entries outside its matrix; get it from Observations.layout() and do not modify it");
}

bool entries_are_sound(const LayoutView& layout, Parallel& parallel) {
  std::vector<uint8_t> seen(layout.header->nnz, 0);
  return blocks_are_sound(layout, &seen, parallel);
}

bool entries_are_inside(const LayoutView& layout, Parallel& parallel) {
  return blocks_are_sound(layout, nullptr, parallel);
}

int64_t position_offset(const LayoutView& layout) {
  return LayoutOffsets(*layout.header).position;
}

void decode_layout(const LayoutView& layout, int64_t* row_of, int64_t* column_of, Parallel& parallel) {
  for_slices(parallel, layout.header->tiles, [&](int, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for_tile_entries(layout, t, [&](int64_t entry, int64_t row, int64_t column) {
        const int64_t position = layout.position_of(entry);
        row_of[position] = row;
        column_of[position] = column;
      });
    }
  });
}

}  // namespace dmf
