// Builds the layout of device_layout.h on the device, once per pattern. Each order takes a sort of the entries
// and one of the segments; all other kernels have one thread per line or entry.
//
// Pairs are distinct and in range (Observations checks both), so keys of entries are distinct; segments with
// equal keys keep their order. The buffer is filled first, padding included: every run gives the same bytes.
// Temporary memory: 24 bytes per entry, and for each order 48 per segment, 32 per line and 16 more for every
// further block of a line, in addition to that of the sorts.
#pragma once

#include <utility>

#include "../number_types.h"
#include "device_layout.h"
#include "sort.cuh"

namespace dmf::cuda {

// The number of bits that all numbers below `count` need.
inline int bits_below(int64_t count) {
  int bits = 0;
  while (bits < 63 && (int64_t{1} << bits) < count) ++bits;
  return bits;
}

// The sort key of an entry: block, line, and the gathered line minus the first one of its block.
struct LineKey {
  int64_t lines, block_lines;
  int index_bits;

  explicit LineKey(const OrderShape& order)
      : lines(order.lines), block_lines(order.block_lines), index_bits(bits_below(order.block_lines)) {}

  DMF_INLINE uint64_t of(int64_t line, int64_t gathered) const {
    return first(gathered / block_lines, line) | static_cast<uint64_t>(gathered % block_lines);
  }
  // The smallest key of a line in a block.
  DMF_INLINE uint64_t first(int64_t block, int64_t line) const {
    return static_cast<uint64_t>(block * lines + line) << index_bits;
  }
  DMF_INLINE int64_t index(uint64_t key) const {
    return static_cast<int64_t>(key & ((uint64_t{1} << index_bits) - 1));
  }
  DMF_INLINE int64_t line(uint64_t key) const { return static_cast<int64_t>(key >> index_bits) % lines; }
  DMF_INLINE int64_t gathered(uint64_t key) const {
    return static_cast<int64_t>(key >> index_bits) / lines * block_lines + index(key);
  }
  int bits(int64_t blocks) const { return index_bits + bits_below(blocks * lines); }
};

// The sort key of a segment: its block, then its length, the longest first. Lengths are compared in steps of
// eight: smaller differences hardly matter to a warp, and neighboring lines of about equal length, whose
// entries share sectors, stay neighbors.
struct SegmentKey {
  int64_t lengths;

  explicit SegmentKey(int64_t segment_entries) : lengths(1 + ceil_divide(segment_entries, 8)) {}

  DMF_INLINE uint64_t of(int64_t block, int64_t count) const {
    return static_cast<uint64_t>((block + 1) * lengths - 1 - ceil_divide(count, 8));
  }
  // One extra key, all ones, is that of unused segments.
  int bits(int64_t blocks) const { return bits_below(blocks * lengths + 1); }
};

constexpr uint32_t no_segment = 0xffffffffu;

// Temporary counts per line, or per line and block.
struct LineCounts {
  int64_t* entry_start;    // [blocks · lines + 1]
  int64_t* segment_start;  // [blocks · lines + 1]
  int64_t* slot_start;     // [lines]
  int64_t* split_start;    // [lines]
};

template <class Index>
__global__ void make_row_keys(const Index* row_of, const Index* column_of, int64_t nnz, LineKey key,
                              uint64_t* keys, uint32_t* numbers) {
  const int64_t k = global_thread();
  if (k >= nnz) return;
  keys[k] = key.of(row_of[k], column_of[k]);
  numbers[k] = static_cast<uint32_t>(k);
}

// Keys of the column order; their numbers are places in row order.
static __global__ void make_column_keys(const uint64_t* row_keys, int64_t nnz, LineKey row_key,
                                        LineKey column_key, uint64_t* keys, uint32_t* numbers) {
  const int64_t k = global_thread();
  if (k >= nnz) return;
  keys[k] = column_key.of(row_key.gathered(row_keys[k]), row_key.line(row_keys[k]));
  numbers[k] = static_cast<uint32_t>(k);
}

static __global__ void write_entries(PairBuffers sorted, int64_t nnz, LineKey key, bool wide, void* index,
                                     uint32_t* numbers) {
  const int64_t k = global_thread();
  if (k >= nnz) return;
  const int64_t in_block = key.index(sorted.keys[k]);
  if (wide) {
    static_cast<uint32_t*>(index)[k] = static_cast<uint32_t>(in_block);
  } else {
    static_cast<uint16_t*>(index)[k] = static_cast<uint16_t>(in_block);
  }
  numbers[k] = sorted.numbers[k];
}

// Masks must be zero before.
static __global__ void set_masks(const uint64_t* keys, int64_t nnz, LineKey key, int64_t mask_words,
                                 uint64_t* masks, uint32_t* mask_starts) {
  const int64_t k = global_thread();
  if (k >= nnz) return;
  const auto word_of = [&](int64_t entry) {
    return key.line(keys[entry]) * mask_words + key.gathered(keys[entry]) / mask_bits;
  };
  const int64_t word = word_of(k);
  atomicOr(reinterpret_cast<unsigned long long*>(masks + word), 1ULL << (key.gathered(keys[k]) % mask_bits));
  if (k == 0 || word_of(k - 1) != word) mask_starts[word] = static_cast<uint32_t>(k);
}

// entry_start by binary search: one thread for every line of every block, and one for the end.
static __global__ void find_lines(const uint64_t* keys, int64_t nnz, LineKey key, int64_t blocks,
                                  int64_t* entry_start) {
  const int64_t place = global_thread();
  if (place > blocks * key.lines) return;
  const uint64_t wanted = static_cast<uint64_t>(place) << key.index_bits;
  int64_t low = 0, high = nnz;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (keys[middle] < wanted) {
      low = middle + 1;
    } else {
      high = middle;
    }
  }
  entry_start[place] = low;
}

__device__ __forceinline__ int64_t segments_of(const LineCounts& counts, int64_t place,
                                               int64_t segment_entries) {
  const int64_t entries = counts.entry_start[place + 1] - counts.entry_start[place];
  return ceil_divide(entries, segment_entries);
}

// Counts, which running sums then turn into starts. One thread per line.
static __global__ void count_segments(LineCounts counts, OrderShape order, int64_t segment_entries) {
  const int64_t line = global_thread();
  if (line >= order.lines) return;
  int64_t total = 0;
  for (int64_t place = line; place < order.lines * order.blocks; place += order.lines) {
    counts.segment_start[place] = segments_of(counts, place, segment_entries);
    total += counts.segment_start[place];
  }
  if (total == 0) counts.segment_start[line] = 1;  // an empty one, which writes zeros
  counts.slot_start[line] = total > 1 ? total : 0;
  counts.split_start[line] = total > 1 ? 1 : 0;
}

// Splits, and segments in the order of their lines, with keys and numbers for their sort. One thread per line.
static __global__ void make_segments(LineCounts counts, OrderShape order, int64_t segment_entries,
                                     SegmentKey key, Segment* segments, PairBuffers pairs, SplitLine* splits) {
  const int64_t line = global_thread();
  if (line >= order.lines) return;
  const auto add = [&](int64_t number, int64_t block, const Segment& segment) {
    segments[number] = segment;
    pairs.keys[number] = key.of(block, segment.count);
    pairs.numbers[number] = static_cast<uint32_t>(number);
  };
  int64_t total = 0;
  for (int64_t block = 0; block < order.blocks; ++block)
    total += segments_of(counts, block * order.lines + line, segment_entries);
  const int32_t line_number = static_cast<int32_t>(line),
                first_slot = static_cast<int32_t>(counts.slot_start[line]);
  if (total == 0) return add(counts.segment_start[line], 0, {0, line_number, 0, -1, 0});
  if (total > 1) splits[counts.split_start[line]] = {line_number, first_slot, static_cast<int32_t>(total)};
  int32_t slot = first_slot;
  for (int64_t block = 0; block < order.blocks; ++block) {
    const int64_t place = block * order.lines + line, pieces = segments_of(counts, place, segment_entries);
    const int64_t start = counts.entry_start[place], entries = counts.entry_start[place + 1] - start;
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const int64_t begin = entries * piece / pieces, end = entries * (piece + 1) / pieces;
      add(counts.segment_start[place] + piece, block,
          {start + begin, line_number, static_cast<int32_t>(end - begin), total > 1 ? slot++ : -1,
           static_cast<int32_t>(block * order.block_lines)});
    }
  }
}

static __global__ void order_segments(PairBuffers sorted, int64_t count, const Segment* segments,
                                      Segment* ordered) {
  const int64_t k = global_thread();
  if (k < count && sorted.numbers[k] != no_segment) ordered[k] = segments[sorted.numbers[k]];
}

class LayoutBuild {
 public:
  LayoutBuild(const DeviceLayoutShape& shape, void* buffer, Workspace& workspace, cudaStream_t stream)
      : shape_(shape), buffer_(static_cast<unsigned char*>(buffer)), workspace_(workspace), stream_(stream) {}

  template <class Index>
  void run(const Index* row_of, const Index* column_of) {
    // Bytes that no kernel writes: unused segments, unused splits and padding are ones; masks start as zeros.
    fill_bytes(buffer_, 0xff, shape_.masks_begin, stream_);
    fill_bytes(buffer_ + shape_.masks_begin, 0, shape_.bytes - shape_.masks_begin, stream_);
    const DeviceLayout layout(shape_, buffer_);
    const LineKey row_key(shape_.row_order), column_key(shape_.column_order);
    PairBuffers pairs = take_pairs(shape_.nnz);
    launch_per_item(make_row_keys<Index>, shape_.nnz, stream_, row_of, column_of, shape_.nnz, row_key,
                    pairs.keys, pairs.numbers);
    write_order(pairs, row_key, shape_.row_order, layout.row_order, layout.position);

    launch_per_item(make_column_keys, shape_.nnz, stream_, pairs.keys, shape_.nnz, row_key, column_key,
                    pairs.other_keys, pairs.other_numbers);
    std::swap(pairs.keys, pairs.other_keys);
    std::swap(pairs.numbers, pairs.other_numbers);
    write_order(pairs, column_key, shape_.column_order, layout.column_order, layout.column_order.place);
  }

 private:
  // The arrays of the layout, which all others read.
  template <class T>
  static T* writable(const T* array) {
    return const_cast<T*>(array);
  }

  PairBuffers take_pairs(int64_t count) const {
    return {workspace_.take_array<uint64_t>(count), workspace_.take_array<uint64_t>(count),
            workspace_.take_array<uint32_t>(count), workspace_.take_array<uint32_t>(count)};
  }

  // Sorts the entries; `numbers` receives the sorted numbers: positions or places.
  void write_order(PairBuffers& sorted, const LineKey& key, const OrderShape& order, const LineOrder& arrays,
                   const uint32_t* numbers) const {
    if (shape_.nnz > 0) sort_pairs(sorted, shape_.nnz, key.bits(order.blocks), workspace_, stream_);
    const int64_t lines = order.lines, blocks = order.blocks, places = lines * blocks;
    launch_per_item(write_entries, shape_.nnz, stream_, sorted, shape_.nnz, key, order.wide,
                    writable(arrays.index), writable(numbers));
    const LineCounts counts{workspace_.take_array<int64_t>(places + 1),
                            workspace_.take_array<int64_t>(places + 1), workspace_.take_array<int64_t>(lines),
                            workspace_.take_array<int64_t>(lines)};
    launch_per_item(find_lines, places + 1, stream_, sorted.keys, shape_.nnz, key, blocks, counts.entry_start);
    launch_per_item(count_segments, lines, stream_, counts, order, shape_.segment_entries);
    if (lines == 0) return;
    exclusive_sums(counts.segment_start, places, workspace_, stream_);
    exclusive_sums(counts.slot_start, lines, workspace_, stream_);
    exclusive_sums(counts.split_start, lines, workspace_, stream_);
    write_segments(counts, order, arrays);
    if (!shape_.has_masks) return;
    launch_per_item(set_masks, shape_.nnz, stream_, sorted.keys, shape_.nnz, key, order.mask_words,
                    writable(arrays.masks), writable(arrays.mask_starts));
  }

  void write_segments(const LineCounts& counts, const OrderShape& order, const LineOrder& arrays) const {
    const int64_t count = order.segment_bound;
    const SegmentKey key(shape_.segment_entries);
    Segment* segments = workspace_.take_array<Segment>(count);
    PairBuffers pairs = take_pairs(count);
    fill_bytes(pairs.keys, 0xff, count * 8, stream_);
    fill_bytes(pairs.numbers, 0xff, count * 4, stream_);
    launch_per_item(make_segments, order.lines, stream_, counts, order, shape_.segment_entries, key, segments,
                    pairs, writable(arrays.splits));
    sort_pairs(pairs, count, key.bits(order.blocks), workspace_, stream_);
    launch_per_item(order_segments, count, stream_, pairs, count, segments, writable(arrays.segments));
  }

  const DeviceLayoutShape& shape_;
  unsigned char* buffer_;
  Workspace& workspace_;
  cudaStream_t stream_;
};

}  // namespace dmf::cuda
