// What is left after the passes: gradients of lines whose sums are in parts, and the loss. One kernel for all
// of it.
//
// A part of a line's gradient is a **slot**: a row of h numbers in `partials`. A block takes a line. Its
// threads share out the slots of every column in turn, and the shares are added in order; so a line with
// hundreds of slots is a few reads long, and sums have a fixed order. A slot costs h numbers read, a line h
// written.
#pragma once

#include "device_layout.h"
#include "warp.cuh"

namespace dmf::cuda {

constexpr int finish_threads = 256;

// The slots of a side. Lines that the layout has split come with their slots, which are neighbors. Without
// `splits` every line has a slot in each of `parts` matrices of `lines` rows.
struct SlotSums {
  const SplitLine* splits = nullptr;
  int64_t lines = 0;  // with slots, or the bound of `splits`
  int64_t parts = 0;
  const void* partials = nullptr;
  void* gradient = nullptr;  // (lines of the side, h)
};

struct Finish {
  SlotSums rows, columns;
  int64_t h = 0;
  const double* losses = nullptr;
  int64_t loss_count = 0;
  double scale = 1.0;
  void* loss = nullptr;  // scale · Σ losses, of the accumulator type; null where none is wanted
};

// All threads of a block must call it with the same line.
template <class T>
__device__ __forceinline__ void add_slots(const SlotSums& side, int64_t number, int64_t h) {
  const bool whole = side.splits == nullptr;
  const auto line = static_cast<int32_t>(number);
  const SplitLine split = whole ? SplitLine{line, line, static_cast<int32_t>(side.parts)} : side.splits[number];
  if (split.line < 0) return;
  const T* slots = static_cast<const T*>(side.partials) + split.first_slot * h;
  const int64_t apart = whole ? side.lines * h : h;
  T* row = static_cast<T*>(side.gradient) + split.line * h;
  T* sums = reinterpret_cast<T*>(dynamic_shared());
  const int width =
      h < finish_threads ? static_cast<int>(ceil_divide(h, warp_size)) * warp_size : finish_threads;
  const int shares = finish_threads / width, share = threadIdx.x / width;
  for (int64_t v = threadIdx.x % width; v < ceil_divide(h, width) * width; v += width) {
    if (v < h && share < shares) {
      sums[threadIdx.x] = sum_in_order<T>(ceil_divide(split.slots - share, shares), [&](int64_t turn) {
        return slots[(share + turn * shares) * apart + v];
      });
    }
    __syncthreads();
    if (v < h && share == 0) {
      row[v] = sum_in_order<T>(shares, [&](int64_t other) { return sums[threadIdx.x + other * width]; });
    }
    __syncthreads();
  }
}

// The sum of the losses that fall to a thread of one block.
__device__ __forceinline__ double own_losses(const Finish& f, int64_t thread) {
  return sum_in_order<double>(ceil_divide(f.loss_count - thread, finish_threads),
                              [&](int64_t turn) { return f.losses[thread + turn * finish_threads]; });
}

// Block 0 adds the losses, the others take a line each.
template <class T>
__global__ void __launch_bounds__(finish_threads) finish(const Finish f) {
  const int64_t number = static_cast<int64_t>(blockIdx.x) - 1;
  if (number < 0) {
    if (f.loss == nullptr) return;
    const double total = block_sum<finish_threads>(own_losses(f, threadIdx.x));
    if (threadIdx.x == 0) *static_cast<T*>(f.loss) = static_cast<T>(f.scale * total);
  } else if (number < f.rows.lines) {
    add_slots<T>(f.rows, number, f.h);
  } else {
    add_slots<T>(f.columns, number - f.rows.lines, f.h);
  }
}

template <class T>
void launch_finish(const Finish& f, cudaStream_t stream) {
  launch(finish<T>, 1 + f.rows.lines + f.columns.lines, finish_threads, finish_threads * sizeof(T), stream, f);
}

}  // namespace dmf::cuda
