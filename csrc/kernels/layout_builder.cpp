#include "layout_builder.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <string>
#include <vector>

#include "tile_sorter.h"

namespace dmf {
namespace {

// The most tiles that the grid of a huge, nearly empty matrix may have, about 32 bytes each. A pattern with
// more entries may have as many tiles as entries.
constexpr int64_t few_grid_tiles = int64_t{1} << 24, max_grid_tiles = int64_t{1} << 26;

int64_t ceil_divide(int64_t a, int64_t b) {
  return a / b + (a % b != 0);
}

int log2_of(int64_t power_of_two) {
  int shift = 0;
  while ((int64_t{1} << shift) < power_of_two) ++shift;
  return shift;
}

// The boundaries of `stripes` runs of bands with about equal numbers of entries; no run is empty.
std::vector<int64_t> balanced_stripes(const std::vector<int64_t>& band_entries, int64_t stripes) {
  const int64_t bands = static_cast<int64_t>(band_entries.size());
  std::vector<int64_t> start(stripes + 1, 0);
  start[stripes] = bands;
  int64_t remaining = std::accumulate(band_entries.begin(), band_entries.end(), int64_t{0});
  int64_t band = 0;
  for (int64_t stripe = 0; stripe + 1 < stripes; ++stripe) {
    const int64_t share = ceil_divide(remaining, stripes - stripe);
    const int64_t last = bands - (stripes - stripe - 1);  // leave a band for every later stripe
    int64_t taken = band_entries[band++];
    while (band < last && taken + band_entries[band] / 2 < share) taken += band_entries[band++];
    remaining -= taken;
    start[stripe + 1] = band;
  }
  return start;
}

// Everything about a pattern that is known before the entries are sorted inside their tiles.
template <class Packed>
struct Sorted {
  LayoutHeader header{};
  std::vector<int64_t> block_tile_start, row_stripe_start, column_stripe_start;
  std::vector<Tile> tiles;
  std::vector<Packed> entries;  // grouped by tile, in the caller's order inside one
};

template <class Index>
class PatternSorter {
 public:
  PatternSorter(const Index* row_of, const Index* column_of, int64_t nnz, int64_t rows, int64_t columns,
                TileShape shape, Parallel& parallel)
      : row_of_(row_of),
        column_of_(column_of),
        nnz_(nnz),
        rows_(rows),
        columns_(columns),
        shape_(shape),
        parallel_(parallel) {
    check_grid();
    count_tiles();
    order_tiles();
  }

  template <class Packed>
  Sorted<Packed> sort() {
    Sorted<Packed> sorted;
    sorted.entries.resize(nnz_);
    scatter(sorted.entries);
    sorted.tiles = make_tiles(sorted.entries);
    count_groups(sorted.entries, sorted.tiles);
    sorted.block_tile_start = block_tile_start_;
    sorted.row_stripe_start = in_lines(row_stripes_, shape_.rows, rows_);
    sorted.column_stripe_start = in_lines(column_stripes_, shape_.columns, columns_);
    LayoutHeader& header = sorted.header;
    header.magic = layout_magic;
    header.rows = rows_;
    header.columns = columns_;
    header.nnz = nnz_;
    header.tile_rows = shape_.rows;
    header.tile_columns = shape_.columns;
    header.stripes = stripes_;
    header.tiles = static_cast<int64_t>(sorted.tiles.size()) - 1;
    header.row_bundles = sorted.tiles.back().row_bundle_start;
    header.column_bundles = sorted.tiles.back().column_bundle_start;
    header.row_groups = sorted.tiles.back().row_of_group_start;
    header.column_groups = sorted.tiles.back().column_of_group_start;
    for (int64_t t = 0; t < header.tiles; ++t) {
      header.largest_tile =
          std::max(header.largest_tile, sorted.tiles[t + 1].entry_start - sorted.tiles[t].entry_start);
    }
    header.position_bytes = sizeof(Packed) == sizeof(PackedEntry32) ? 4 : 8;
    header.bytes = LayoutOffsets(header).end;
    return sorted;
  }

 private:
  int64_t tile_of(int64_t entry) const {
    return static_cast<int64_t>(row_of_[entry] >> row_shift_) * column_bands_ +
           (column_of_[entry] >> column_shift_);
  }

  void check_grid() const {
    for (const int64_t lines : {shape_.rows, shape_.columns}) {
      if (lines < 1 || lines > max_tile_lines || (lines & (lines - 1)) != 0) {
        throw std::invalid_argument("the rows and columns of a tile must be powers of two of at most " +
                                    std::to_string(max_tile_lines));
      }
    }
    const int64_t most = std::clamp(nnz_, few_grid_tiles, max_grid_tiles);
    if (bands_of(columns_, shape_.columns) > most / bands_of(rows_, shape_.rows)) {
      throw std::invalid_argument(
          "the matrix has too many rows and columns for a layout: map ids to consecutive indices, so that few "
          "rows and columns are empty");
    }
  }

  // counts_[slice][tile]: every worker counts its own slice, so that the scatter is stable. A grid that is
  // larger than the pattern is not copied for every worker.
  void count_tiles() {
    row_shift_ = log2_of(shape_.rows);
    column_shift_ = log2_of(shape_.columns);
    row_bands_ = bands_of(rows_, shape_.rows);
    column_bands_ = bands_of(columns_, shape_.columns);
    const int64_t useful = std::min<int64_t>(parallel_.threads(), nnz_ / (row_bands_ * column_bands_));
    counts_.assign(std::max<int64_t>(1, useful), std::vector<int64_t>());
    for_entry_slices([&](int64_t slice, int64_t begin, int64_t end) {
      std::vector<int64_t> count(row_bands_ * column_bands_, 0);
      for (int64_t k = begin; k < end; ++k) ++count[tile_of(k)];
      counts_[slice] = std::move(count);
    });
    total_ = counts_[0];
    for (size_t slice = 1; slice < counts_.size(); ++slice) {
      for (size_t tile = 0; tile < total_.size(); ++tile) total_[tile] += counts_[slice][tile];
    }
  }

  template <class Body>
  void for_entry_slices(const Body& body) {
    const int64_t slices = static_cast<int64_t>(counts_.size());
    parallel_.run(static_cast<int>(slices), [&](int slice) {
      body(slice, nnz_ / slices * slice, slice + 1 == slices ? nnz_ : nnz_ / slices * (slice + 1));
    });
  }

  // Chooses the stripes, lists the nonempty tiles in block order and turns counts_ into first places.
  void order_tiles() {
    std::vector<int64_t> row_entries(row_bands_, 0), column_entries(column_bands_, 0);
    for (int64_t tile = 0; tile < static_cast<int64_t>(total_.size()); ++tile) {
      row_entries[tile / column_bands_] += total_[tile];
      column_entries[tile % column_bands_] += total_[tile];
    }
    stripes_ = 1;
    while (stripes_ < max_stripes && stripes_ * 2 <= std::min(row_bands_, column_bands_)) stripes_ *= 2;
    row_stripes_ = balanced_stripes(row_entries, stripes_);
    column_stripes_ = balanced_stripes(column_entries, stripes_);
    block_tile_start_.assign(1, 0);
    int64_t next = 0;
    for (int64_t row_stripe = 0; row_stripe < stripes_; ++row_stripe) {
      for (int64_t column_stripe = 0; column_stripe < stripes_; ++column_stripe) {
        // Down the columns: the slices of Bᵀ and dBᵀ stay in the L2 cache.
        for (int64_t j = column_stripes_[column_stripe]; j < column_stripes_[column_stripe + 1]; ++j) {
          for (int64_t i = row_stripes_[row_stripe]; i < row_stripes_[row_stripe + 1]; ++i) {
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
    const int64_t row_mask = shape_.rows - 1, column_mask = shape_.columns - 1;
    for_entry_slices([&](int64_t slice, int64_t begin, int64_t end) {
      std::vector<int64_t>& next = counts_[slice];
      for (int64_t k = begin; k < end; ++k) {
        Packed& entry = entries[next[tile_of(k)]++];
        entry.row = static_cast<uint16_t>(row_of_[k] & row_mask);
        entry.column = static_cast<uint16_t>(column_of_[k] & column_mask);
        entry.position = static_cast<decltype(entry.position)>(k);
      }
    });
  }

  // Lists the tiles. A tile with too many entries for 16-bit places becomes several tiles of whole rows with
  // the same first row and column; a single row never has too many entries.
  template <class Packed>
  std::vector<Tile> make_tiles(std::vector<Packed>& entries) {
    const int64_t count = static_cast<int64_t>(order_.size());
    std::vector<int64_t> start(count + 1, 0);
    for (int64_t t = 0; t < count; ++t) start[t + 1] = start[t] + total_[order_[t]];
    std::vector<std::vector<int64_t>> pieces(count);  // first entries
    for_slices(parallel_, count, [&](int, int64_t begin, int64_t end) {
      for (int64_t t = begin; t < end; ++t) {
        pieces[t] = {start[t]};
        if (start[t + 1] - start[t] > max_tile_entries) {
          pieces[t] = cut_into_rows(entries.data(), start[t], start[t + 1]);
        }
      }
    });
    std::vector<Tile> tiles;
    std::vector<int64_t> first_piece(1, 0);
    for (int64_t t = 0; t < count; ++t) {
      const int64_t band = order_[t] / column_bands_, column_band = order_[t] % column_bands_;
      for (const int64_t first : pieces[t]) {
        tiles.push_back({first, 0, 0, 0, 0, band * shape_.rows, column_band * shape_.columns});
      }
      first_piece.push_back(static_cast<int64_t>(tiles.size()));
    }
    tiles.push_back({nnz_, 0, 0, 0, 0, 0, 0});
    for (int64_t& block : block_tile_start_) block = first_piece[block];
    return tiles;
  }

  // Moves the entries [start, stop) of a tile into runs of whole rows, in the caller's order inside one, and
  // returns where the runs start.
  template <class Packed>
  std::vector<int64_t> cut_into_rows(Packed* entries, int64_t start, int64_t stop) const {
    std::vector<int64_t> in_row(shape_.rows, 0), run_of_row(shape_.rows), runs(1, start);
    for (int64_t k = start; k < stop; ++k) ++in_row[entries[k].row];
    if (*std::max_element(in_row.begin(), in_row.end()) > shape_.columns) {
      throw std::invalid_argument("a row has more entries in a tile than columns: entries must be distinct");
    }
    int64_t filled = start;
    for (int64_t row = 0; row < shape_.rows; ++row) {
      if (filled + in_row[row] - runs.back() > max_tile_entries) runs.push_back(filled);
      run_of_row[row] = static_cast<int64_t>(runs.size()) - 1;
      filled += in_row[row];
    }
    const std::vector<Packed> before(entries + start, entries + stop);
    std::vector<int64_t> next = runs;
    for (const Packed& entry : before) entries[next[run_of_row[entry.row]]++] = entry;
    return runs;
  }

  template <class Packed>
  void count_groups(const std::vector<Packed>& entries, std::vector<Tile>& tiles) {
    const int64_t count = static_cast<int64_t>(tiles.size()) - 1;
    std::vector<TileCounts> counts(count);
    for_slices(parallel_, count, [&](int, int64_t begin, int64_t end) {
      TileSorter<Packed> sorter(shape_.rows, shape_.columns);
      for (int64_t t = begin; t < end; ++t) {
        const int64_t start = tiles[t].entry_start;
        counts[t] = sorter.count(entries.data() + start, tiles[t + 1].entry_start - start);
      }
    });
    for (int64_t t = 0; t < count; ++t) {
      const Tile& tile = tiles[t];
      Tile& next = tiles[t + 1];
      next.row_bundle_start = tile.row_bundle_start + counts[t].rows.bundles;
      next.column_bundle_start = tile.column_bundle_start + counts[t].columns.bundles;
      next.row_of_group_start = tile.row_of_group_start + counts[t].rows.groups;
      next.column_of_group_start = tile.column_of_group_start + counts[t].columns.groups;
    }
  }

  static std::vector<int64_t> in_lines(std::vector<int64_t> bands, int64_t tile_lines, int64_t lines) {
    for (int64_t& band : bands) band = std::min(band * tile_lines, lines);
    return bands;
  }

  const Index* row_of_;
  const Index* column_of_;
  int64_t nnz_, rows_, columns_;
  TileShape shape_;
  Parallel& parallel_;
  int row_shift_ = 0, column_shift_ = 0;
  int64_t row_bands_ = 0, column_bands_ = 0, stripes_ = 0;
  std::vector<std::vector<int64_t>> counts_;
  std::vector<int64_t> total_, row_stripes_, column_stripes_, block_tile_start_, order_;
};

template <class T>
void copy_array(uint8_t* target, const std::vector<T>& source) {
  std::memcpy(target, source.data(), source.size() * sizeof(T));
}

template <class Packed>
void write_sorted(const Sorted<Packed>& sorted, void* buffer, Parallel& parallel) {
  uint8_t* base = static_cast<uint8_t*>(buffer);
  const LayoutHeader& header = sorted.header;
  const LayoutOffsets at(header);
  // Equal patterns give equal bytes: clears the gaps, which lie in the last 64 bytes before every array.
  for (const int64_t start : {at.block_tile_start, at.row_stripe_start, at.column_stripe_start, at.tiles,
                              at.row_bundles, at.column_bundles, at.row_of_group, at.column_of_group,
                              at.entry_column, at.entry_row, at.entry_place, at.position, at.end}) {
    std::memset(base + start - layout_alignment, 0, layout_alignment);
  }
  std::memcpy(base, &header, sizeof header);
  copy_array(base + at.block_tile_start, sorted.block_tile_start);
  copy_array(base + at.row_stripe_start, sorted.row_stripe_start);
  copy_array(base + at.column_stripe_start, sorted.column_stripe_start);
  copy_array(base + at.tiles, sorted.tiles);
  for_slices(parallel, header.tiles, [&](int, int64_t begin, int64_t end) {
    TileSorter<Packed> sorter(header.tile_rows, header.tile_columns);
    for (int64_t t = begin; t < end; ++t) {
      const Tile& tile = sorted.tiles[t];
      const int64_t first = tile.entry_start;
      sorter.sort(sorted.entries.data() + first, sorted.tiles[t + 1].entry_start - first,
                  {reinterpret_cast<Bundle*>(base + at.row_bundles) + tile.row_bundle_start,
                   reinterpret_cast<uint16_t*>(base + at.row_of_group) + tile.row_of_group_start,
                   reinterpret_cast<Bundle*>(base + at.column_bundles) + tile.column_bundle_start,
                   reinterpret_cast<uint16_t*>(base + at.column_of_group) + tile.column_of_group_start,
                   reinterpret_cast<uint16_t*>(base + at.entry_column) + first,
                   reinterpret_cast<uint16_t*>(base + at.entry_row) + first,
                   reinterpret_cast<uint16_t*>(base + at.entry_place) + first,
                   base + at.position + first * header.position_bytes});
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
                                    int64_t columns, TileShape shape, Parallel& parallel)
    : state_(std::make_unique<State>()) {
  PatternSorter<Index> sorter(row_of, column_of, nnz, rows, columns, shape, parallel);
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

}  // namespace dmf
