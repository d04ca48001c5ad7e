// The layout for a GPU: both orders hold the pattern, cut as the kernels expect.
#include "cuda_problems.h"

#include <catch2/catch.hpp>
#include <map>
#include <set>
#include <tuple>
#include <utility>

using namespace dmf;
using namespace dmf::test;
using dmf::cuda::LineOrder;
using dmf::cuda::Segment;

namespace {

using Place = std::pair<int64_t, int64_t>;

int64_t gathered_line(const LineOrder& order, const Segment& segment, int64_t entry) {
  return segment.first_line + (order.wide ? static_cast<const uint32_t*>(order.index)[entry]
                                          : static_cast<const uint16_t*>(order.index)[entry]);
}

std::vector<Segment> used_segments(const LineOrder& order) {
  std::vector<Segment> used;
  for (int64_t k = 0; k < order.segment_bound; ++k) {
    if (order.segments[k].line >= 0) used.push_back(order.segments[k]);
  }
  return used;
}

// Line and gathered line of every entry, by its place in the order; each must be in one segment.
std::map<int64_t, Place> decoded(const LineOrder& order) {
  std::map<int64_t, Place> entries;
  for (const Segment& segment : used_segments(order)) {
    for (int64_t entry = segment.start; entry < segment.start + segment.count; ++entry) {
      REQUIRE(entries.emplace(entry, Place(segment.line, gathered_line(order, segment, entry))).second);
    }
  }
  return entries;
}

// A line has one segment, or several with neighboring slots of their own that one split lists.
void check_segments(const LineOrder& order, int64_t longest) {
  std::vector<Segment> segments = used_segments(order);
  std::sort(segments.begin(), segments.end(),
            [](const Segment& one, const Segment& other) { return one.start < other.start; });
  std::map<int64_t, std::vector<int64_t>> slots_of;
  for (const Segment& segment : segments) {
    CHECK(segment.count <= longest);
    slots_of[segment.line].push_back(segment.slot);
  }
  REQUIRE(static_cast<int64_t>(slots_of.size()) == order.lines);
  std::map<int64_t, Place> splits;
  for (int64_t k = 0; k < order.split_bound; ++k) {
    const auto& split = order.splits[k];
    if (split.line >= 0) REQUIRE(splits.emplace(split.line, Place(split.first_slot, split.slots)).second);
  }
  std::set<int64_t> seen;
  for (const auto& [line, slots] : slots_of) {
    const bool is_split = slots.size() > 1;
    REQUIRE(splits.count(line) == (is_split ? 1 : 0));
    if (!is_split) {
      CHECK(slots[0] == -1);
      continue;
    }
    CHECK(splits[line].second == static_cast<int64_t>(slots.size()));
    for (size_t k = 0; k < slots.size(); ++k) {
      CHECK(slots[k] == splits[line].first + static_cast<int64_t>(k));
      CHECK(slots[k] < order.slot_bound);
      CHECK(seen.insert(slots[k]).second);
    }
  }
}

void check_masks(const LineOrder& order) {
  std::map<Place, int64_t> place_of;
  for (const auto& [entry, place] : decoded(order)) place_of[place] = entry;
  int64_t bits = 0;
  for (int64_t line = 0; line < order.lines; ++line) {
    for (int64_t word = 0; word < order.mask_words; ++word) {
      const uint64_t mask = order.masks[line * order.mask_words + word];
      int64_t entry = order.mask_starts[line * order.mask_words + word];
      for (int64_t bit = 0; bit < 64; ++bit) {
        if ((mask >> bit & 1) == 0) continue;
        const auto found = place_of.find(Place(line, 64 * word + bit));
        REQUIRE(found != place_of.end());
        CHECK(found->second == entry++);
        ++bits;
      }
    }
  }
  CHECK(bits == static_cast<int64_t>(place_of.size()));
}

void check_layout(const Pattern& pattern, const cuda::Cuts& cuts) {
  INFO(pattern.rows << " x " << pattern.columns << ", " << pattern.nnz() << " entries");
  const LayoutOf built(pattern, cuts);
  const cuda::DeviceLayout layout = built.layout();
  const auto by_row = decoded(layout.row_order), by_column = decoded(layout.column_order);
  REQUIRE(static_cast<int64_t>(by_row.size()) == pattern.nnz());
  REQUIRE(static_cast<int64_t>(by_column.size()) == pattern.nnz());
  for (const auto& [entry, place] : by_row) {
    const int64_t k = layout.position[entry];
    CHECK(place == Place(pattern.row_of[k], pattern.column_of[k]));
  }
  for (const auto& [entry, place] : by_column) {
    CHECK(by_row.at(layout.column_order.place[entry]) == Place(place.second, place.first));
  }
  check_segments(layout.row_order, layout.shape.segment_entries);
  check_segments(layout.column_order, layout.shape.segment_entries);
  if (layout.shape.has_masks) {
    check_masks(layout.row_order);
    check_masks(layout.column_order);
  }
}

}  // namespace

TEST_CASE("CUDA: both orders of a layout hold every entry once, in segments, slots and masks") {
  for (const Pattern& pattern : small_patterns()) {
    check_layout(pattern, {});
    check_layout(pattern, blocks_of_64);
    check_layout(pattern, wide_indices);
  }
}

TEST_CASE("CUDA: small cuts make blocks, wide indices and split lines") {
  const Pattern pattern = random_pattern(90, 130, 600, 3, 2);
  const LayoutOf blocks(pattern, blocks_of_64), wide(pattern, wide_indices);
  CHECK(blocks.layout().shape.row_order.blocks == 3);
  CHECK_FALSE(blocks.layout().row_order.wide);
  CHECK(wide.layout().shape.row_order.blocks == 1);
  CHECK(wide.layout().row_order.wide);
  CHECK(wide.layout().row_order.splits[0].line >= 0);
}

TEST_CASE("CUDA: entries of a line and block rise") {
  const LayoutOf built(random_pattern(90, 130, 600, 3, 2), blocks_of_64);
  const LineOrder order = built.layout().row_order;
  for (const Segment& segment : used_segments(order)) {
    for (int64_t entry = segment.start + 1; entry < segment.start + segment.count; ++entry) {
      CHECK(gathered_line(order, segment, entry - 1) < gathered_line(order, segment, entry));
    }
  }
}

TEST_CASE(
    "CUDA: segments are ordered by block, by length in descending order, and by line; unused ones come last") {
  for (const Pattern& pattern : small_patterns()) {
    for (const cuda::Cuts& cuts : {cuda::Cuts{}, blocks_of_64, long_segments}) {
      const LayoutOf built(pattern, cuts);
      for (const LineOrder& order : {built.layout().row_order, built.layout().column_order}) {
        const std::vector<Segment> used = used_segments(order);
        const auto rank = [](const Segment& segment) {
          return std::tuple(segment.first_line, -cuda::ceil_divide(segment.count, 8), segment.line,
                            segment.start);
        };
        for (size_t k = 0; k < used.size(); ++k) {
          CHECK(order.segments[k].line == used[k].line);
          if (k > 0) CHECK(rank(used[k - 1]) < rank(used[k]));
        }
      }
    }
  }
}

TEST_CASE(
    "CUDA: the layout is the same to its last byte, whatever its memory held, for both kinds of indices") {
  for (const Pattern& pattern : small_patterns()) {
    INFO(pattern.rows << " x " << pattern.columns << ", " << pattern.nnz() << " entries");
    const std::vector<unsigned char> first = LayoutOf<int64_t>(pattern, blocks_of_64).buffer();
    const bool again = LayoutOf<int64_t>(pattern, blocks_of_64).buffer() == first;
    const bool narrow = LayoutOf<int32_t>(pattern, blocks_of_64).buffer() == first;
    CHECK(again);
    CHECK(narrow);
  }
}

TEST_CASE("CUDA: sizes do not overflow and stay within bytes an entry") {
  const cuda::DeviceLayoutShape netflix(480189, 17770, 100000000);
  CHECK(netflix.row_order.blocks == 1);
  CHECK(netflix.column_order.blocks == 8);
  CHECK_FALSE(netflix.has_masks);
  // Indices, places and positions take 12 bytes, without the slots of partial sums at h 64.
  CHECK(netflix.bytes < 12.5 * netflix.nnz);
  CHECK(256.0 * (netflix.row_order.slot_bound + netflix.column_order.slot_bound) < 2.5 * netflix.nnz);
  const cuda::DeviceLayoutShape huge(cuda::max_lines, cuda::max_lines, cuda::max_nnz);
  CHECK(huge.bytes > 0);
  CHECK(huge.row_order.wide);
  const cuda::DeviceLayoutShape sparse(3000000, 2000000, 4);
  CHECK(sparse.row_order.blocks == 1);
  CHECK(sparse.row_order.slot_bound == 0);
}
