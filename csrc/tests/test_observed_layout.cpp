// The layout holds exactly the entries it was given, whatever the tile size, threads and index type.
#include <atomic>
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>
#include <limits>
#include <new>
#include <stdexcept>

#include "patterns.h"

using namespace dmf;
using namespace dmf::test;

namespace {

// Walks the layout's arrays and checks that rows, columns and column order are consistent.
void check_layout(const std::vector<char>& buffer, const Pattern& pattern) {
  const LayoutView layout = view_layout(buffer.data(), buffer.size());
  REQUIRE(layout.header != nullptr);
  REQUIRE(layout.header->nnz == pattern.nnz());
  REQUIRE(layout.header->rows == pattern.rows);
  REQUIRE(layout.header->columns == pattern.columns);
  std::vector<char> seen(pattern.nnz(), 0);
  bool entries_right = true, columns_right = true;
  for (int64_t t = 0; t < layout.header->tiles; ++t) {
    const Tile &tile = layout.tiles[t], &next = layout.tiles[t + 1];
    REQUIRE(next.entry_start - tile.entry_start <= max_tile_entries);
    std::vector<std::pair<int64_t, int64_t>> entries;
    for_tile_entries(layout, t, [&](int64_t entry, int64_t row, int64_t column) {
      entries_right &= entry == tile.entry_start + static_cast<int64_t>(entries.size());
      const int64_t position = layout.position_of(entry);
      entries.emplace_back(row - tile.first_row, column - tile.first_column);
      entries_right &=
          pattern.row_of[position] == row && pattern.column_of[position] == column && !seen[position];
      seen[position] = 1;
    });
    REQUIRE(static_cast<int64_t>(entries.size()) == next.entry_start - tile.entry_start);
    int64_t entry = tile.entry_start;
    for_groups(layout.column_bundles + tile.column_bundle_start,
               next.column_bundle_start - tile.column_bundle_start,
               layout.column_of_group + tile.column_of_group_start, [&](int size, int64_t group_column) {
                 for (int k = 0; k < size; ++k, ++entry) {
                   const auto [row, column] = entries[layout.entry_place[entry]];
                   columns_right &= row == layout.entry_row[entry] && column == group_column;
                 }
               });
    REQUIRE(entry == next.entry_start);
  }
  REQUIRE(entries_right);
  REQUIRE(columns_right);
  REQUIRE(std::count(seen.begin(), seen.end(), 1) == pattern.nnz());
}

}  // namespace

TEST_CASE("every entry appears once in row order and once in column order") {
  for (const Pattern& pattern : assorted_patterns()) {
    for (const TileShape shape : {TileShape{1, 1}, {16, 16}, {512, 512}, {64, 1024}, {256, 32}}) {
      if (std::min(shape.rows, shape.columns) * 1000 < std::max(pattern.rows, pattern.columns)) continue;
      check_layout(build_layout(pattern, shape, 2), pattern);
    }
    check_layout(build_layout(pattern), pattern);
  }
}

TEST_CASE("the layout is the same for any number of threads, index type and former content of its memory") {
  for (const Pattern& pattern : assorted_patterns()) {
    const std::vector<char> expected = build_layout(pattern, 1);
    CHECK(build_layout(pattern, 2) == expected);
    CHECK(build_layout(pattern, 5) == expected);
    const TileShape shape = choose_tile_shape(pattern.rows, pattern.columns, pattern.nnz());
    CHECK(build_layout<int32_t>(pattern, shape, 2) == expected);
    CHECK(build_layout(pattern, shape, 2, 'x') == expected);
  }
}

TEST_CASE("a bundle holds at most 32 rows, whose groups of eight alternate") {
  const std::vector<char> buffer = build_layout(full_pattern(40, 20), {64, 64}, 1);
  const LayoutView layout = view_layout(buffer.data(), buffer.size());
  REQUIRE(layout.header->row_bundles == 2);
  const Bundle &first = layout.row_bundles[0], &second = layout.row_bundles[1];
  // 20 entries per row: two groups of eight and one of four.
  CHECK((first.groups[0] == 64 && first.groups[1] == 32 && first.groups[2] == 0 && first.groups[4] == 0));
  CHECK((second.groups[0] == 16 && second.groups[1] == 8));
  CHECK(layout.header->row_groups == 96 + 24);
  for (int group = 0; group < 16; ++group) CHECK(layout.row_of_group[group] == group % 8);
}

TEST_CASE("a tile that would hold too many entries becomes several of whole rows") {
  const Pattern pattern = full_pattern(300, 290);
  const std::vector<char> buffer = build_layout(pattern, {512, 512}, 2);
  const LayoutView layout = view_layout(buffer.data(), buffer.size());
  CHECK(layout.header->tile_rows == 512);
  CHECK(layout.header->tiles == 2);
  check_layout(buffer, pattern);
}

TEST_CASE("a dense spot in a huge sparse matrix costs memory of the order of its entries") {
  Pattern pattern = full_pattern(300, 290);
  pattern.rows = pattern.columns = 16'000'000;
  for (int64_t k = 0; k < 1000; ++k) {
    pattern.row_of.push_back(15'000'000 - 7919 * k);
    pattern.column_of.push_back(1000 + 15013 * k);
  }
  const std::vector<char> buffer =
      build_layout(pattern, choose_tile_shape(pattern.rows, pattern.columns, pattern.nnz()), 8);
  CHECK(buffer.size() < 2'000'000);
  check_layout(buffer, pattern);
}

TEST_CASE("a matrix that would need too many tiles is refused, also near the end of 64 bits") {
  const int64_t largest = std::numeric_limits<int64_t>::max();
  for (const auto& [rows, columns] :
       std::vector<std::pair<int64_t, int64_t>>{{largest, 1}, {1, largest}, {largest, largest}, {0, largest}}) {
    const Pattern pattern{rows, columns, {}, {}};
    CHECK_THROWS_AS(build_layout(pattern, 1), std::invalid_argument);
  }
  const Pattern small = full_pattern(3, 3);
  for (const int64_t lines : {-1, 0, 3, 65536}) {
    CHECK_THROWS_AS(build_layout(small, {lines, 64}, 1), std::invalid_argument);
    CHECK_THROWS_AS(build_layout(small, {64, lines}, 1), std::invalid_argument);
  }
}

TEST_CASE("a header or a tile that does not fit its buffer is noticed") {
  const std::vector<char> good = build_layout(random_pattern(700, 900, 5000, 3, 2));
  const auto refused = [&](size_t byte, int64_t number) {
    std::vector<char> bad = good;
    std::memcpy(bad.data() + byte, &number, sizeof number);
    return view_layout(bad.data(), bad.size()).header == nullptr;
  };
  for (size_t field = 1; field < sizeof(LayoutHeader) / 8; ++field) {
    for (const int64_t number :
         {int64_t{-1}, int64_t{20}, int64_t{1} << 40, std::numeric_limits<int64_t>::max()}) {
      INFO("header field " << field << " is " << number);
      // The tile size and the width of the matrix are free as long as the tiles still fit.
      const bool harmless = field * 8 == offsetof(LayoutHeader, tile_rows) ||
                            field * 8 == offsetof(LayoutHeader, tile_columns) ||
                            ((field * 8 == offsetof(LayoutHeader, rows)) && number > 700);
      if (!harmless) CHECK(refused(field * 8, number));
    }
  }
  const LayoutView view = view_layout(good.data(), good.size());
  const size_t tiles = reinterpret_cast<const char*>(view.tiles) - good.data();
  for (size_t field = 0; field < sizeof(Tile) / 8; ++field) {
    INFO("tile field " << field);
    CHECK(refused(tiles + sizeof(Tile) + 8 * field, int64_t{1} << 40));
    CHECK(refused(tiles + sizeof(Tile) + 8 * field, -1));
  }
}

TEST_CASE("an entry that points outside its tile or the caller's arrays is noticed") {
  const Pattern pattern = random_pattern(700, 900, 5000, 3, 2);
  const std::vector<char> good = build_layout(pattern);
  ThreadPool parallel(2);
  const LayoutView view = view_layout(good.data(), good.size());
  CHECK(entries_are_sound(view, parallel));
  const void* arrays[] = {view.row_bundles,  view.column_bundles, view.row_of_group, view.column_of_group,
                          view.entry_column, view.entry_row,      view.entry_place,  view.position};
  for (const void* array : arrays) {
    std::vector<char> bad = good;
    std::memset(bad.data() + (static_cast<const char*>(array) - good.data()), 0xff, 4);
    const LayoutView changed = view_layout(bad.data(), bad.size());
    REQUIRE(changed.header != nullptr);
    CHECK_FALSE(entries_are_sound(changed, parallel));
  }
  std::vector<char> twice = good;
  char* position = twice.data() + position_offset(view);
  std::memcpy(position, position + 4, 4);
  CHECK_FALSE(entries_are_sound(view_layout(twice.data(), twice.size()), parallel));
}

TEST_CASE("a tile outside its block is noticed") {
  std::vector<char> bad = build_layout(random_pattern(700, 900, 5000, 3, 2), {64, 64}, 1);
  const LayoutView view = view_layout(bad.data(), bad.size());
  REQUIRE(view.header->stripes > 1);
  Tile* last = const_cast<Tile*>(view.tiles + view.header->tiles - 1);
  last->first_row = 0;
  ThreadPool parallel(2);
  REQUIRE(view_layout(bad.data(), bad.size()).header != nullptr);
  CHECK_FALSE(entries_are_sound(view, parallel));
}

TEST_CASE("a buffer that is not aligned is not taken for a layout") {
  const std::vector<char> good = build_layout(random_pattern(40, 50, 300, 1, 1));
  std::vector<char> moved(good.size() + 1);
  std::copy(good.begin(), good.end(), moved.begin() + 1);
  CHECK(view_layout(moved.data() + 1, good.size()).header == nullptr);
}

TEST_CASE("an exception in a worker reaches the caller after all workers are joined") {
  ThreadPool parallel(4);
  std::atomic<int> finished{0};
  CHECK_THROWS_AS(parallel.run(4,
                               [&](int worker) {
                                 if (worker % 2 == 1) throw std::bad_alloc();
                                 ++finished;
                               }),
                  std::bad_alloc);
  CHECK(finished == 2);
}

TEST_CASE("decoding gives the caller's entries in the caller's order") {
  for (const Pattern& pattern : assorted_patterns()) {
    const std::vector<char> buffer = build_layout(pattern);
    std::vector<int64_t> rows(pattern.nnz()), columns(pattern.nnz());
    ThreadPool parallel(2);
    decode_layout(view_layout(buffer.data(), buffer.size()), rows.data(), columns.data(), parallel);
    CHECK(rows == pattern.row_of);
    CHECK(columns == pattern.column_of);
  }
}

TEST_CASE("a buffer that holds something else is not taken for a layout") {
  std::vector<char> buffer = build_layout(random_pattern(40, 50, 300, 1, 1));
  CHECK(view_layout(buffer.data(), buffer.size() - 64).header == nullptr);
  CHECK(view_layout(buffer.data(), 8).header == nullptr);
  buffer[0] ^= 1;
  CHECK(view_layout(buffer.data(), buffer.size()).header == nullptr);
}
