// Builds the layout of device_layout.h on the device: two sorts, then one thread a line or an entry.
//
// Pairs are distinct and in range (Observations checks both), so keys are distinct and every run gives the same
// buffer. Temporary memory: 24 bytes an entry, 32 a line and 16 more for
// every further block of a line.
#pragma once

#include <utility>

#include "../number_types.h"
#include "device_layout.h"
#include "sort.cuh"

namespace dmf::cuda {

constexpr int build_threads = 256;

// The sorting key of an order: block, line, and the gathered line less the first of its block.
struct LineKey {
  int64_t lines, block_lines;
  int index_bits;

  explicit LineKey(const OrderShape& order)
      : lines(order.lines), block_lines(order.block_lines), index_bits(0) {
    while ((int64_t{1} << index_bits) < block_lines) ++index_bits;
  }

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
  int bits(int64_t blocks) const {
    int bits = index_bits;
    while (bits < 64 && (uint64_t{1} << (bits - index_bits)) < static_cast<uint64_t>(blocks * lines)) ++bits;
    return bits;
  }
};

// Where the kernels write; the arrays of LineOrder, writable.
struct OrderArrays {
  void* index;
  uint32_t* place;  // null in row order
  Segment* segments;
  SplitLine* splits;
  uint64_t* masks;  // null where there are none
  uint32_t* mask_starts;
};

// Per line or per line and block, while the order is built.
struct LineCounts {
  int64_t* entry_start;    // [blocks · lines + 1]
  int64_t* segment_start;  // [blocks · lines + 1]
  int64_t* slot_start;     // [lines]
  int64_t* split_start;    // [lines]
};

__device__ __forceinline__ int64_t global_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

template <class Index>
__global__ void make_row_keys(const Index* row_of, const Index* column_of, int64_t nnz, LineKey key,
                              uint64_t* keys, uint32_t* numbers) {
  const int64_t k = global_thread();
  if (k >= nnz) return;
  keys[k] = key.of(row_of[k], column_of[k]);
  numbers[k] = static_cast<uint32_t>(k);
}

// Keys of the column order, numbered by their place in row order.
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

// Masks are zero before.
static __global__ void set_masks(const uint64_t* keys, int64_t nnz, LineKey key, int64_t mask_words,
                                 OrderArrays arrays) {
  const int64_t k = global_thread();
  if (k >= nnz) return;
  const auto word_of = [&](int64_t entry) {
    return key.line(keys[entry]) * mask_words + key.gathered(keys[entry]) / mask_bits;
  };
  const int64_t word = word_of(k);
  atomicOr(reinterpret_cast<unsigned long long*>(arrays.masks + word),
           1ULL << (key.gathered(keys[k]) % mask_bits));
  if (k == 0 || word_of(k - 1) != word) arrays.mask_starts[word] = static_cast<uint32_t>(k);
}

// entry_start by binary search; one thread for every line of every block, and one for the end.
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

// Counts, which running sums then turn into starts. One thread a line.
static __global__ void count_segments(LineCounts counts, int64_t lines, int64_t blocks,
                                      int64_t segment_entries) {
  const int64_t line = global_thread();
  if (line >= lines) return;
  int64_t total = 0;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t segments = segments_of(counts, block * lines + line, segment_entries);
    counts.segment_start[block * lines + line] = segments;
    total += segments;
  }
  if (total == 0) counts.segment_start[line] = 1;  // an empty one, which writes zeros
  counts.slot_start[line] = total > 1 ? total : 0;
  counts.split_start[line] = total > 1 ? 1 : 0;
}

// Segments and splits are filled with ones before, so that surplus ones are unused. One thread a line.
static __global__ void write_segments(LineCounts counts, int64_t lines, int64_t blocks, int64_t block_lines,
                                      int64_t segment_entries, OrderArrays arrays) {
  const int64_t line = global_thread();
  if (line >= lines) return;
  int64_t total = 0;
  for (int64_t block = 0; block < blocks; ++block)
    total += segments_of(counts, block * lines + line, segment_entries);
  const int32_t line_number = static_cast<int32_t>(line),
                first_slot = static_cast<int32_t>(counts.slot_start[line]);
  if (total == 0) {
    arrays.segments[counts.segment_start[line]] = {0, line_number, 0, -1, 0};
    return;
  }
  if (total > 1)
    arrays.splits[counts.split_start[line]] = {line_number, first_slot, static_cast<int32_t>(total)};
  int32_t slot = first_slot;
  for (int64_t block = 0; block < blocks; ++block) {
    const int64_t place = block * lines + line, pieces = segments_of(counts, place, segment_entries);
    const int64_t start = counts.entry_start[place], entries = counts.entry_start[place + 1] - start;
    for (int64_t piece = 0; piece < pieces; ++piece) {
      const int64_t begin = entries * piece / pieces, end = entries * (piece + 1) / pieces;
      arrays.segments[counts.segment_start[place] + piece] = {
          start + begin, line_number, static_cast<int32_t>(end - begin), total > 1 ? slot++ : -1,
          static_cast<int32_t>(block * block_lines)};
    }
  }
}

class LayoutBuild {
 public:
  LayoutBuild(const DeviceLayoutShape& shape, void* buffer, Workspace& workspace, cudaStream_t stream)
      : shape_(shape), buffer_(static_cast<unsigned char*>(buffer)), workspace_(workspace), stream_(stream) {}

  template <class Index>
  void run(const Index* row_of, const Index* column_of) {
    const LineKey row_key(shape_.row_order), column_key(shape_.column_order);
    PairBuffers pairs{workspace_.take_array<uint64_t>(shape_.nnz), workspace_.take_array<uint64_t>(shape_.nnz),
                      workspace_.take_array<uint32_t>(shape_.nnz), workspace_.take_array<uint32_t>(shape_.nnz)};
    per_thread(make_row_keys<Index>, shape_.nnz, row_of, column_of, shape_.nnz, row_key, pairs.keys,
               pairs.numbers);
    sort(pairs, row_key, shape_.row_order);
    write_order(pairs, row_key, shape_.row_order, arrays(shape_.rows_at, false), at<uint32_t>(shape_.position));

    per_thread(make_column_keys, shape_.nnz, pairs.keys, shape_.nnz, row_key, column_key, pairs.other_keys,
               pairs.other_numbers);
    std::swap(pairs.keys, pairs.other_keys);
    std::swap(pairs.numbers, pairs.other_numbers);
    sort(pairs, column_key, shape_.column_order);
    const OrderArrays columns = arrays(shape_.columns_at, true);
    write_order(pairs, column_key, shape_.column_order, columns, columns.place);
  }

 private:
  template <class T>
  T* at(int64_t offset) const {
    return reinterpret_cast<T*>(buffer_ + offset);
  }

  OrderArrays arrays(const DeviceLayoutShape::OrderOffsets& offsets, bool has_place) const {
    return {at<void>(offsets.index),
            has_place ? at<uint32_t>(offsets.place) : nullptr,
            at<Segment>(offsets.segments),
            at<SplitLine>(offsets.splits),
            shape_.has_masks ? at<uint64_t>(offsets.masks) : nullptr,
            shape_.has_masks ? at<uint32_t>(offsets.mask_starts) : nullptr};
  }

  template <class... Parameters, class... Arguments>
  void per_thread(void (*kernel)(Parameters...), int64_t items, Arguments... arguments) const {
    launch(kernel, ceil_divide(items, build_threads), build_threads, 0, stream_, arguments...);
  }

  void sort(PairBuffers& pairs, const LineKey& key, const OrderShape& order) const {
    if (shape_.nnz > 0) sort_pairs(pairs, shape_.nnz, key.bits(order.blocks), workspace_, stream_);
  }

  // `numbers` receives the sorted numbers: positions or places.
  void write_order(const PairBuffers& sorted, const LineKey& key, const OrderShape& order,
                   const OrderArrays& arrays, uint32_t* numbers) const {
    const int64_t lines = order.lines, blocks = order.blocks, places = lines * blocks;
    per_thread(write_entries, shape_.nnz, sorted, shape_.nnz, key, order.wide, arrays.index, numbers);
    const LineCounts counts{workspace_.take_array<int64_t>(places + 1),
                            workspace_.take_array<int64_t>(places + 1), workspace_.take_array<int64_t>(lines),
                            workspace_.take_array<int64_t>(lines)};
    per_thread(find_lines, places + 1, sorted.keys, shape_.nnz, key, blocks, counts.entry_start);
    per_thread(count_segments, lines, counts, lines, blocks, shape_.segment_entries);
    if (lines == 0) return;
    exclusive_sums(counts.segment_start, places, workspace_, stream_);
    exclusive_sums(counts.slot_start, lines, workspace_, stream_);
    exclusive_sums(counts.split_start, lines, workspace_, stream_);
    fill_bytes(arrays.segments, 0xff, order.segment_bound * static_cast<int64_t>(sizeof(Segment)), stream_);
    fill_bytes(arrays.splits, 0xff, order.split_bound * static_cast<int64_t>(sizeof(SplitLine)), stream_);
    per_thread(write_segments, lines, counts, lines, blocks, order.block_lines, shape_.segment_entries, arrays);
    if (!shape_.has_masks) return;
    fill_bytes(arrays.masks, 0, order.lines * order.mask_words * 8, stream_);
    fill_bytes(arrays.mask_starts, 0, order.lines * order.mask_words * 4, stream_);
    per_thread(set_masks, shape_.nnz, sorted.keys, shape_.nnz, key, order.mask_words, arrays);
  }

  const DeviceLayoutShape& shape_;
  unsigned char* buffer_;
  Workspace& workspace_;
  cudaStream_t stream_;
};

}  // namespace dmf::cuda
