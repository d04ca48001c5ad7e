// The rest after the passes, in one kernel: gradients of lines whose sums are in parts, and the loss.
//
// A part of a line's gradient is a **slot**: a row of h numbers in `partials`. A warp takes 32 columns of a
// line: a thread adds the slots of its column in order, with eight loads in flight. The eight warps of a block
// take the same columns of neighboring lines, so a block finds its work with one 32-bit division. A slot costs
// h numbers read, a line h written.
#pragma once

#include "device_layout.h"
#include "warp.cuh"

namespace dmf::cuda {

constexpr int finish_threads = 256, finish_warps = finish_threads / warp_size;

// The slots of a side. Lines that the layout has split have neighboring slots. Without `splits`, every line has
// a slot in each of `parts` matrices of `lines` rows.
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
  void* loss = nullptr;  // scale · Σ losses, of the accumulator type; null if not wanted
};

template <class T>
__device__ __forceinline__ void add_slots(const SlotSums& side, int64_t number, int64_t h, int64_t column) {
  if (number >= side.lines || column >= h) return;
  const bool whole = side.splits == nullptr;
  const auto line = static_cast<int32_t>(number);
  const SplitLine split = whole ? SplitLine{line, line, static_cast<int32_t>(side.parts)} : side.splits[number];
  if (split.line < 0) return;
  const T* slots = static_cast<const T*>(side.partials) + column;
  const uint32_t apart = whole ? static_cast<uint32_t>(side.lines) : 1;
  const auto slot_bytes = static_cast<uint32_t>(h * static_cast<int64_t>(sizeof(T)));
  static_cast<T*>(side.gradient)[split.line * h + column] = sum_in_order<T>(split.slots, [&](int turn) {
    return *static_cast<const T*>(row_at(slots, split.first_slot + turn * apart, slot_bytes));
  });
}

// Block 0 adds the losses; each of the others takes 32 columns of eight lines. Six blocks: if a multiprocessor
// had registers for eight, a thread's last two loads would wait for the first.
template <class T>
__global__ void __launch_bounds__(finish_threads, 6) finish(const Finish f) {
  if (blockIdx.x == 0) {
    if (f.loss == nullptr) return;
    const auto turns = static_cast<int>(ceil_divide(f.loss_count - threadIdx.x, finish_threads));
    const double total = block_sum<finish_threads>(
        sum_in_order<double>(turns, [&](int turn) { return f.losses[threadIdx.x + turn * finish_threads]; }));
    if (threadIdx.x == 0) *static_cast<T*>(f.loss) = static_cast<T>(f.scale * total);
    return;
  }
  const unsigned panels = static_cast<unsigned>(ceil_divide(f.h, warp_size)), unit = blockIdx.x - 1;
  const int64_t line = static_cast<int64_t>(unit / panels) * finish_warps + threadIdx.x / warp_size;
  const int64_t column = static_cast<int64_t>(unit % panels) * warp_size + threadIdx.x % warp_size;
  if (line < f.rows.lines) {
    add_slots<T>(f.rows, line, f.h, column);
  } else {
    add_slots<T>(f.columns, line - f.rows.lines, f.h, column);
  }
}

template <class T>
void launch_finish(const Finish& f, cudaStream_t stream) {
  const int64_t panels = ceil_divide(f.h, warp_size);
  launch(finish<T>, 1 + ceil_divide(f.rows.lines + f.columns.lines, finish_warps) * panels, finish_threads, 0,
         stream, f);
}

}  // namespace dmf::cuda
