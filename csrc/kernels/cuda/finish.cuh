// What is left after the passes: the sums of split lines, and the sum of the loss. One kernel for all of it.
#pragma once

#include "device_layout.h"
#include "warp.cuh"

namespace dmf::cuda {

constexpr int finish_threads = 256;
constexpr int finish_warps = finish_threads / warp_size;

// The slots of a side: its lines' rows in `gradient` are the sums of their rows in `partials`, both of h
// numbers.
struct SplitSums {
  const SplitLine* splits = nullptr;
  int64_t split_bound = 0;
  const void* partials = nullptr;
  void* gradient = nullptr;
};

struct Finish {
  SplitSums rows, columns;
  int64_t h = 0;
  const double* losses = nullptr;
  int64_t loss_count = 0;
  double* loss = nullptr;  // null where none is wanted
};

// A warp adds the slots of one line, in order.
template <class T>
__device__ __forceinline__ void add_slots(const SplitSums& side, int64_t number, int64_t h, int lane) {
  const SplitLine split = side.splits[number];
  if (split.line < 0) return;
  const T* first = static_cast<const T*>(side.partials) + split.first_slot * h;
  T* row = static_cast<T*>(side.gradient) + split.line * h;
  for (int64_t v = lane; v < h; v += warp_size) {
    row[v] = sum_in_order<T>(split.slots, [&](int64_t slot) { return first[slot * h + v]; });
  }
}

// The sum of the losses that fall to a thread of one block.
__device__ __forceinline__ double own_losses(const Finish& f, int64_t thread) {
  return sum_in_order<double>(ceil_divide(f.loss_count - thread, finish_threads),
                              [&](int64_t k) { return f.losses[thread + k * finish_threads]; });
}

// Block 0 adds the losses; the warps of the others take a split line each.
template <class T>
__global__ void __launch_bounds__(finish_threads) finish(const Finish f) {
  if (blockIdx.x == 0) {
    if (f.loss == nullptr) return;
    const double total = block_sum<finish_threads>(own_losses(f, threadIdx.x));
    if (threadIdx.x == 0) *f.loss = total;
    return;
  }
  const int lane = threadIdx.x % warp_size;
  const int64_t number = static_cast<int64_t>(blockIdx.x - 1) * finish_warps + threadIdx.x / warp_size;
  if (number < f.rows.split_bound) {
    add_slots<T>(f.rows, number, f.h, lane);
  } else if (number < f.rows.split_bound + f.columns.split_bound) {
    add_slots<T>(f.columns, number - f.rows.split_bound, f.h, lane);
  }
}

inline int64_t finish_blocks(const Finish& f) {
  return 1 + ceil_divide(f.rows.split_bound + f.columns.split_bound, finish_warps);
}

}  // namespace dmf::cuda
