// The layout of Ω on a GPU: one flat buffer on the device.
//
// Entries are stored in two orders. *Row order* serves the row pass, whose warps own rows and gather rows of
// Bᵀ; *column order* serves the column pass, whose warps own columns and gather rows of A. In both, a **line**
// is a row (or column) and the gathered side is cut into `blocks` blocks of block_lines lines, small enough for
// the L2 cache: entries are sorted by block, then by line, then by gathered line.
//
// A line's entries in a block are cut into **segments** of at most segment_entries entries and about equal
// length, each of which one warp processes. If a line has one segment, its warp writes the line's gradient. A
// line with more is **split**: every segment writes a partial sum into a slot of its own, and the slots of a
// line, which are neighbors, are added in order. A line without entries has one empty segment, which writes
// zeros.
//
// Segments are ordered by block, so that the gathered lines of a block stay in L2, within a block by length in
// steps of eight entries, the longest first, so that the warps of a thread block, and the last ones of a
// launch, finish together, and then by line; unused ones come last.
//
// The buffer holds these arrays, each at a multiple of 256 bytes:
//
//   position       uint32 [nnz]            row order: the entry's place in the caller's arrays
//
//   then for the row order and for the column order
//   index          uint16 or uint32 [nnz]  gathered line less the first line of its block
//   place          uint32 [nnz]            column order only: the entry's place in row order
//   segments       Segment [segment_bound]
//   splits         SplitLine [split_bound]
//
//   and if has_masks, for the tensor cores (tile_pass.cuh), again for both orders
//   masks          uint64 [lines × words]  a bit for every gathered line: is the entry observed?
//   mask_starts    uint32 [lines × words]  place, in this order, of the first entry of a word
//
// All sizes follow from rows, columns and nnz alone, so that a pass is launched without synchronizing with the
// device; surplus segments and splits are marked unused. With fewer than 2¹⁶ lines per block that is 12 bytes
// per entry and a little more for the segments; values and weights are stored elsewhere, in row order.
#pragma once

#include <algorithm>
#include <cstdint>

#include "../number_types.h"

namespace dmf::cuda {

struct Segment {
  int64_t start;  // first entry, in this order
  int32_t line;   // −1: unused
  int32_t count;
  int32_t slot;        // −1: the line has no other segment
  int32_t first_line;  // of the gathered block
};

struct SplitLine {
  int32_t line;  // −1: unused
  int32_t first_slot;
  int32_t slots;
};

// How the two orders are cut.
struct Cuts {
  // The reach of 16-bit indices; at h 64 such a block takes 16 MB in float32, which stays in the L2 of an A100
  // or later.
  int64_t largest_block = 65536;
  // Below this many entries per line and block, cutting the gathered side costs more than it gains.
  int64_t entries_worth_a_block = 64;
  // Long segments keep the cost of partial sums small; short ones give work to 8,000 warps.
  int64_t shortest_segment = 32, longest_segment = 512, segments_wanted = 8192;
};

constexpr int mask_bits = 64;
// Masks take 12 bytes per 64 places in each order: below this density that costs more than the tensor cores
// gain.
constexpr double mask_density = 0.02;
// place and position have 32 bits, numbers of lines 31.
constexpr int64_t max_nnz = 4294967295;
constexpr int64_t max_lines = 2147483647;

DMF_INLINE int64_t ceil_divide(int64_t numerator, int64_t denominator) {
  return (numerator + denominator - 1) / denominator;
}

// Sizes of one order.
struct OrderShape {
  int64_t lines = 0, gathered_lines = 0;
  int64_t blocks = 1, block_lines = 0;
  int64_t segment_bound = 0, slot_bound = 0, split_bound = 0;
  int64_t mask_words = 0;
  bool wide = false;  // 32-bit indices

  OrderShape(int64_t line_count, int64_t gathered, int64_t nnz, int64_t segment_entries, const Cuts& cuts)
      : lines(line_count), gathered_lines(gathered), mask_words(ceil_divide(gathered, mask_bits)) {
    blocks = std::max<int64_t>(1, ceil_divide(gathered, cuts.largest_block));
    while (blocks > 1 && nnz / cuts.entries_worth_a_block < lines * blocks) blocks = ceil_divide(blocks, 2);
    // Whole words of masks, at least one.
    block_lines = std::max<int64_t>(1, ceil_divide(ceil_divide(gathered, blocks), mask_bits)) * mask_bits;
    blocks = std::max<int64_t>(1, ceil_divide(gathered, block_lines));
    wide = block_lines > cuts.largest_block;
    // k entries form at most 1 + k / segment_entries segments.
    const int64_t full = nnz / segment_entries;
    segment_bound = full + lines * blocks;
    // With one block, only lines of more than segment_entries entries are split.
    slot_bound = full + (blocks == 1 ? std::min(lines, full) : std::min(nnz, lines * blocks));
    split_bound = std::min(lines, slot_bound / 2);
  }

  int64_t index_bytes() const { return wide ? 4 : 2; }
};

// Sizes of a layout, and the byte offset of every array: the one place that knows their order.
struct DeviceLayoutShape {
  struct OrderOffsets {
    int64_t index = 0, place = 0, segments = 0, splits = 0, masks = 0, mask_starts = 0;
  };

  int64_t rows, columns, nnz, segment_entries;
  OrderShape row_order, column_order;
  bool has_masks;
  int64_t position = 0;
  OrderOffsets rows_at, columns_at;
  int64_t masks_begin = 0, bytes = 0;  // only masks and their starts are between the two

  DeviceLayoutShape(int64_t row_count, int64_t column_count, int64_t entries, const Cuts& cuts = {})
      : rows(row_count),
        columns(column_count),
        nnz(entries),
        segment_entries(choose_segment_entries(entries, cuts)),
        row_order(row_count, column_count, entries, segment_entries, cuts),
        column_order(column_count, row_count, entries, segment_entries, cuts),
        has_masks(entries > 0 && static_cast<double>(entries) >= mask_density * static_cast<double>(row_count) *
                                                                     static_cast<double>(column_count)) {
    position = take(nnz * 4);
    rows_at = take_order(row_order, false);
    columns_at = take_order(column_order, true);
    masks_begin = bytes;
    if (has_masks) {
      take_masks(row_order, rows_at);
      take_masks(column_order, columns_at);
    }
  }

 private:
  static int64_t choose_segment_entries(int64_t nnz, const Cuts& cuts) {
    int64_t entries = cuts.shortest_segment;
    while (entries < cuts.longest_segment && nnz / (2 * entries) >= cuts.segments_wanted) entries *= 2;
    return entries;
  }

  int64_t take(int64_t size) {
    const int64_t offset = bytes;
    bytes += ceil_divide(size, 256) * 256;
    return offset;
  }

  OrderOffsets take_order(const OrderShape& order, bool has_place) {
    OrderOffsets at;
    at.index = take(nnz * order.index_bytes());
    if (has_place) at.place = take(nnz * 4);
    at.segments = take(order.segment_bound * static_cast<int64_t>(sizeof(Segment)));
    at.splits = take(order.split_bound * static_cast<int64_t>(sizeof(SplitLine)));
    return at;
  }

  void take_masks(const OrderShape& order, OrderOffsets& at) {
    at.masks = take(order.lines * order.mask_words * 8);
    at.mask_starts = take(order.lines * order.mask_words * 4);
  }
};

// Pointers into one order of a layout's buffer, as kernels take them.
struct LineOrder {
  const void* index;
  bool wide;              // 32-bit indices
  const uint32_t* place;  // null in row order, where an entry's place is its index
  const Segment* segments;
  const SplitLine* splits;
  const uint64_t* masks;  // null if there are none
  const uint32_t* mask_starts;
  int64_t segment_bound, slot_bound, split_bound, mask_words, lines, gathered_lines;
};

struct DeviceLayout {
  DeviceLayoutShape shape;
  const uint32_t* position;
  LineOrder row_order, column_order;

  // `buffer` is on the device and has shape.bytes bytes.
  DeviceLayout(const DeviceLayoutShape& sizes, const void* buffer)
      : shape(sizes),
        position(at<uint32_t>(buffer, sizes.position)),
        row_order(view(buffer, sizes.row_order, sizes.rows_at, false)),
        column_order(view(buffer, sizes.column_order, sizes.columns_at, true)) {}

 private:
  template <class T>
  static const T* at(const void* buffer, int64_t offset) {
    return reinterpret_cast<const T*>(static_cast<const unsigned char*>(buffer) + offset);
  }

  LineOrder view(const void* buffer, const OrderShape& order, const DeviceLayoutShape::OrderOffsets& offsets,
                 bool has_place) const {
    return {at<void>(buffer, offsets.index),
            order.wide,
            has_place ? at<uint32_t>(buffer, offsets.place) : nullptr,
            at<Segment>(buffer, offsets.segments),
            at<SplitLine>(buffer, offsets.splits),
            shape.has_masks ? at<uint64_t>(buffer, offsets.masks) : nullptr,
            shape.has_masks ? at<uint32_t>(buffer, offsets.mask_starts) : nullptr,
            order.segment_bound,
            order.slot_bound,
            order.split_bound,
            order.mask_words,
            order.lines,
            order.gathered_lines};
  }
};

}  // namespace dmf::cuda
