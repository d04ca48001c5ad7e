#include "observed_layout.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <vector>

namespace dmf {
namespace {

constexpr uint64_t layout_magic = 0x3130544c464d44ULL;  // "DMFLT01"
constexpr int64_t alignment = 64;
constexpr int64_t max_groups = 32;

int64_t aligned(int64_t bytes) {
  return (bytes + alignment - 1) / alignment * alignment;
}
int64_t ceil_divide(int64_t a, int64_t b) {
  return (a + b - 1) / b;
}

int log2_of(int64_t power_of_two) {
  int shift = 0;
  while ((int64_t{1} << shift) < power_of_two) ++shift;
  return shift;
}

// The byte offset of every array, the one place that knows their order.
struct Offsets {
  int64_t block_tile_start, row_group_start, column_group_start, tiles, row_segments, column_segments,
      entry_column, entry_row, entry_residual, position, end;

  explicit Offsets(const LayoutHeader& h) {
    int64_t next = aligned(sizeof(LayoutHeader));
    const auto take = [&next](int64_t count, int64_t size) {
      const int64_t offset = next;
      next += aligned(count * size);
      return offset;
    };
    block_tile_start = take(h.groups * h.groups + 1, sizeof(int64_t));
    row_group_start = take(h.groups + 1, sizeof(int64_t));
    column_group_start = take(h.groups + 1, sizeof(int64_t));
    tiles = take(h.tiles + 1, sizeof(Tile));
    row_segments = take(h.row_segments, sizeof(Segment));
    column_segments = take(h.column_segments, sizeof(Segment));
    entry_column = take(h.nnz, sizeof(uint16_t));
    entry_row = take(h.nnz, sizeof(uint16_t));
    entry_residual = take(h.nnz, sizeof(uint16_t));
    position = take(h.nnz, h.position_bytes);
    end = next;
  }
};

// Workers share items [0, items) by contiguous slices, so results never depend on timing.
template <class Body>
void for_slices(Parallel& parallel, int64_t items, const Body& body) {
  const int workers = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(parallel.threads(), items)));
  parallel.run(workers,
               [&](int worker) { body(worker, items * worker / workers, items * (worker + 1) / workers); });
}

// Boundaries of `groups` runs of bands with about equal numbers of entries; no run is empty.
std::vector<int64_t> balanced_groups(const std::vector<int64_t>& band_entries, int64_t groups) {
  const int64_t bands = static_cast<int64_t>(band_entries.size());
  std::vector<int64_t> start(groups + 1, 0);
  start[groups] = bands;
  int64_t remaining = std::accumulate(band_entries.begin(), band_entries.end(), int64_t{0});
  int64_t band = 0;
  for (int64_t group = 0; group + 1 < groups; ++group) {
    const int64_t share = ceil_divide(remaining, groups - group);
    const int64_t last = bands - (groups - group - 1);  // leave a band for every later group
    int64_t taken = band_entries[band++];
    while (band < last && taken + band_entries[band] / 2 < share) taken += band_entries[band++];
    remaining -= taken;
    start[group + 1] = band;
  }
  return start;
}

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

// Everything about a pattern that is known before the entries are sorted inside their tiles.
template <class Packed>
struct Sorted {
  LayoutHeader header{};
  std::vector<int64_t> block_tile_start, row_group_start, column_group_start;
  std::vector<Tile> tiles;
  std::vector<Packed> entries;  // grouped by tile, in the caller's order inside one
};

template <class Index>
class PatternSorter {
 public:
  PatternSorter(const Index* row_of, const Index* column_of, int64_t nnz, int64_t rows, int64_t columns,
                int64_t tile_size, Parallel& parallel)
      : row_of_(row_of),
        column_of_(column_of),
        nnz_(nnz),
        rows_(rows),
        columns_(columns),
        tile_size_(tile_size),
        parallel_(parallel) {
    count_tiles();
    while (largest_tile() > max_tile_entries && tile_size_ > always_fitting_tile_size) {
      tile_size_ /= 2;
      count_tiles();
    }
    order_tiles();
  }

  template <class Packed>
  Sorted<Packed> sort() {
    Sorted<Packed> sorted;
    sorted.entries.resize(nnz_);
    scatter(sorted.entries);
    sorted.tiles = make_tiles();
    count_segments(sorted.entries, sorted.tiles);
    sorted.block_tile_start = block_tile_start_;
    sorted.row_group_start = in_lines(row_groups_, rows_);
    sorted.column_group_start = in_lines(column_groups_, columns_);
    LayoutHeader& header = sorted.header;
    header.magic = layout_magic;
    header.rows = rows_;
    header.columns = columns_;
    header.nnz = nnz_;
    header.tile_size = tile_size_;
    header.groups = groups_;
    header.tiles = static_cast<int64_t>(sorted.tiles.size()) - 1;
    header.row_segments = sorted.tiles.back().row_segment_start;
    header.column_segments = sorted.tiles.back().column_segment_start;
    header.largest_tile = largest_tile();
    header.position_bytes = sizeof(Packed) == sizeof(PackedEntry32) ? 4 : 8;
    header.bytes = Offsets(header).end;
    return sorted;
  }

 private:
  int64_t tile_of(int64_t entry) const {
    return static_cast<int64_t>(row_of_[entry] >> shift_) * column_bands_ + (column_of_[entry] >> shift_);
  }

  // counts_[slice][tile]: every worker counts its own slice, so that the scatter is stable.
  void count_tiles() {
    shift_ = log2_of(tile_size_);
    row_bands_ = std::max<int64_t>(1, ceil_divide(rows_, tile_size_));
    column_bands_ = std::max<int64_t>(1, ceil_divide(columns_, tile_size_));
    const int slices = static_cast<int>(std::max<int64_t>(1, std::min<int64_t>(parallel_.threads(), nnz_)));
    counts_.assign(slices, std::vector<int64_t>());
    for_slices(parallel_, nnz_, [&](int slice, int64_t begin, int64_t end) {
      std::vector<int64_t> count(row_bands_ * column_bands_, 0);
      for (int64_t k = begin; k < end; ++k) ++count[tile_of(k)];
      counts_[slice] = std::move(count);
    });
    total_ = counts_[0];
    for (size_t slice = 1; slice < counts_.size(); ++slice) {
      for (size_t tile = 0; tile < total_.size(); ++tile) total_[tile] += counts_[slice][tile];
    }
  }

  int64_t largest_tile() const { return *std::max_element(total_.begin(), total_.end()); }

  // Chooses the groups, lists the non-empty tiles in block order and turns counts_ into first places.
  void order_tiles() {
    std::vector<int64_t> row_entries(row_bands_, 0), column_entries(column_bands_, 0);
    for (int64_t tile = 0; tile < static_cast<int64_t>(total_.size()); ++tile) {
      row_entries[tile / column_bands_] += total_[tile];
      column_entries[tile % column_bands_] += total_[tile];
    }
    groups_ = 1;
    while (groups_ < max_groups && groups_ * 2 <= std::min(row_bands_, column_bands_)) groups_ *= 2;
    row_groups_ = balanced_groups(row_entries, groups_);
    column_groups_ = balanced_groups(column_entries, groups_);
    block_tile_start_.assign(1, 0);
    int64_t next = 0;
    for (int64_t row_group = 0; row_group < groups_; ++row_group) {
      for (int64_t column_group = 0; column_group < groups_; ++column_group) {
        for (int64_t i = row_groups_[row_group]; i < row_groups_[row_group + 1]; ++i) {
          for (int64_t j = column_groups_[column_group]; j < column_groups_[column_group + 1]; ++j) {
            place_tile(i * column_bands_ + j, next);
          }
        }
        block_tile_start_.push_back(static_cast<int64_t>(order_.size()));
      }
    }
  }

  void place_tile(int64_t tile, int64_t& next) {
    if (total_[tile] == 0) return;
    order_.push_back(tile);
    for (std::vector<int64_t>& count : counts_) {
      const int64_t entries = count[tile];
      count[tile] = next;
      next += entries;
    }
  }

  template <class Packed>
  void scatter(std::vector<Packed>& entries) {
    const int64_t mask = tile_size_ - 1;
    for_slices(parallel_, nnz_, [&](int slice, int64_t begin, int64_t end) {
      std::vector<int64_t>& next = counts_[slice];
      for (int64_t k = begin; k < end; ++k) {
        Packed& entry = entries[next[tile_of(k)]++];
        entry.row = static_cast<uint16_t>(row_of_[k] & mask);
        entry.column = static_cast<uint16_t>(column_of_[k] & mask);
        entry.position = static_cast<decltype(entry.position)>(k);
      }
    });
  }

  std::vector<Tile> make_tiles() const {
    std::vector<Tile> tiles(order_.size() + 1, Tile{});
    int64_t next = 0;
    for (size_t t = 0; t < order_.size(); ++t) {
      const int64_t band = order_[t] / column_bands_, column_band = order_[t] % column_bands_;
      tiles[t] = {next, 0, 0, band * tile_size_, column_band * tile_size_};
      next += total_[order_[t]];
    }
    tiles.back().entry_start = next;
    return tiles;
  }

  template <class Packed>
  void count_segments(const std::vector<Packed>& entries, std::vector<Tile>& tiles) {
    const int64_t count = static_cast<int64_t>(tiles.size()) - 1;
    std::vector<std::pair<int64_t, int64_t>> segments(count);
    for_slices(parallel_, count, [&](int, int64_t begin, int64_t end) {
      TileSorter<Packed> sorter(tile_size_);
      for (int64_t t = begin; t < end; ++t) {
        const int64_t start = tiles[t].entry_start;
        segments[t] = sorter.count_segments(entries.data() + start, tiles[t + 1].entry_start - start);
      }
    });
    for (int64_t t = 0; t < count; ++t) {
      tiles[t + 1].row_segment_start = tiles[t].row_segment_start + segments[t].first;
      tiles[t + 1].column_segment_start = tiles[t].column_segment_start + segments[t].second;
    }
  }

  std::vector<int64_t> in_lines(std::vector<int64_t> bands, int64_t lines) const {
    for (int64_t& band : bands) band = std::min(band * tile_size_, lines);
    return bands;
  }

  const Index* row_of_;
  const Index* column_of_;
  int64_t nnz_, rows_, columns_, tile_size_;
  Parallel& parallel_;
  int shift_ = 0;
  int64_t row_bands_ = 0, column_bands_ = 0, groups_ = 0;
  std::vector<std::vector<int64_t>> counts_;
  std::vector<int64_t> total_, row_groups_, column_groups_, block_tile_start_, order_;
};

template <class T>
void copy_array(uint8_t* target, const std::vector<T>& source) {
  std::memcpy(target, source.data(), source.size() * sizeof(T));
}

template <class Packed>
void write_sorted(const Sorted<Packed>& sorted, void* buffer, Parallel& parallel) {
  uint8_t* base = static_cast<uint8_t*>(buffer);
  const LayoutHeader& header = sorted.header;
  const Offsets at(header);
  // Equal patterns give equal bytes: clears the gaps, which lie in the last 64 bytes before every array.
  for (const int64_t start :
       {at.block_tile_start, at.row_group_start, at.column_group_start, at.tiles, at.row_segments,
        at.column_segments, at.entry_column, at.entry_row, at.entry_residual, at.position, at.end}) {
    std::memset(base + start - alignment, 0, alignment);
  }
  std::memcpy(base, &header, sizeof header);
  copy_array(base + at.block_tile_start, sorted.block_tile_start);
  copy_array(base + at.row_group_start, sorted.row_group_start);
  copy_array(base + at.column_group_start, sorted.column_group_start);
  copy_array(base + at.tiles, sorted.tiles);
  for_slices(parallel, header.tiles, [&](int, int64_t begin, int64_t end) {
    TileSorter<Packed> sorter(header.tile_size);
    for (int64_t t = begin; t < end; ++t) {
      const Tile& tile = sorted.tiles[t];
      const int64_t first = tile.entry_start;
      sorter.sort(sorted.entries.data() + first, sorted.tiles[t + 1].entry_start - first,
                  reinterpret_cast<Segment*>(base + at.row_segments) + tile.row_segment_start,
                  reinterpret_cast<Segment*>(base + at.column_segments) + tile.column_segment_start,
                  reinterpret_cast<uint16_t*>(base + at.entry_column) + first,
                  reinterpret_cast<uint16_t*>(base + at.entry_row) + first,
                  reinterpret_cast<uint16_t*>(base + at.entry_residual) + first,
                  base + at.position + first * header.position_bytes, header.position_bytes == 8);
    }
  });
}

}  // namespace

template <class Index>
struct LayoutBuilder<Index>::State {
  Sorted<PackedEntry32> narrow;
  Sorted<PackedEntry64> wide;
  bool is_wide = false;
};

template <class Index>
LayoutBuilder<Index>::LayoutBuilder(const Index* row_of, const Index* column_of, int64_t nnz, int64_t rows,
                                    int64_t columns, int64_t tile_size, Parallel& parallel)
    : state_(std::make_unique<State>()) {
  PatternSorter<Index> sorter(row_of, column_of, nnz, rows, columns, tile_size, parallel);
  state_->is_wide = nnz > int64_t{UINT32_MAX};
  if (state_->is_wide) {
    state_->wide = sorter.template sort<PackedEntry64>();
  } else {
    state_->narrow = sorter.template sort<PackedEntry32>();
  }
}

template <class Index>
LayoutBuilder<Index>::~LayoutBuilder() = default;

template <class Index>
int64_t LayoutBuilder<Index>::bytes() const {
  return state_->is_wide ? state_->wide.header.bytes : state_->narrow.header.bytes;
}

template <class Index>
void LayoutBuilder<Index>::write(void* buffer, Parallel& parallel) const {
  if (state_->is_wide) {
    write_sorted(state_->wide, buffer, parallel);
  } else {
    write_sorted(state_->narrow, buffer, parallel);
  }
}

template class LayoutBuilder<int32_t>;
template class LayoutBuilder<int64_t>;

LayoutView view_layout(const void* buffer, int64_t bytes) {
  LayoutView view{};
  const LayoutHeader* header = static_cast<const LayoutHeader*>(buffer);
  if (bytes < static_cast<int64_t>(sizeof(LayoutHeader)) || header->magic != layout_magic ||
      header->bytes != bytes) {
    return view;
  }
  const uint8_t* base = static_cast<const uint8_t*>(buffer);
  const Offsets at(*header);
  view.header = header;
  view.block_tile_start = reinterpret_cast<const int64_t*>(base + at.block_tile_start);
  view.row_group_start = reinterpret_cast<const int64_t*>(base + at.row_group_start);
  view.column_group_start = reinterpret_cast<const int64_t*>(base + at.column_group_start);
  view.tiles = reinterpret_cast<const Tile*>(base + at.tiles);
  view.row_segments = reinterpret_cast<const Segment*>(base + at.row_segments);
  view.column_segments = reinterpret_cast<const Segment*>(base + at.column_segments);
  view.entry_column = reinterpret_cast<const uint16_t*>(base + at.entry_column);
  view.entry_row = reinterpret_cast<const uint16_t*>(base + at.entry_row);
  view.entry_residual = reinterpret_cast<const uint16_t*>(base + at.entry_residual);
  view.position = base + at.position;
  return view;
}

int64_t position_offset(const LayoutView& layout) {
  return Offsets(*layout.header).position;
}

int64_t choose_tile_size(int64_t rows, int64_t columns, int64_t nnz) {
  constexpr int64_t usual = 512, smallest = 64, enough_bands = 8;
  constexpr int64_t enough_entries_small = 512, enough_entries_large = 4096;
  const auto bands = [](int64_t lines, int64_t size) { return ceil_divide(std::max<int64_t>(lines, 1), size); };
  const auto tiles = [&](int64_t size) { return bands(rows, size) * bands(columns, size); };
  int64_t size = usual;
  while (size < max_tile_size && tiles(size) > 1 && tiles(size) * enough_entries_large > nnz) size *= 2;
  while (size > smallest && bands(std::min(rows, columns), size) < enough_bands &&
         tiles(size / 2) * enough_entries_small <= nnz) {
    size /= 2;
  }
  return size;
}

void decode_layout(const LayoutView& layout, int64_t* row_of, int64_t* column_of, Parallel& parallel) {
  for_slices(parallel, layout.header->tiles, [&](int, int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const Tile& tile = layout.tiles[t];
      int64_t entry = tile.entry_start;
      for (int64_t s = tile.row_segment_start; s < layout.tiles[t + 1].row_segment_start; ++s) {
        const Segment segment = layout.row_segments[s];
        for (int k = 0; k < segment.count; ++k, ++entry) {
          const int64_t position = layout.position_of(entry);
          row_of[position] = tile.first_row + segment.index;
          column_of[position] = tile.first_column + layout.entry_column[entry];
        }
      }
    }
  });
}

}  // namespace dmf
