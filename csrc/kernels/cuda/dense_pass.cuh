// For the plan that forms W: the observed entries of a dense m × n matrix, and the order of the entries.
//
// A warp takes a segment of the row order, a thread an entry of it: neighboring threads read a row of W from
// left to right. An entry costs 32 bytes of the matrix (a sector of DRAM), 32 of its gradient, and 6 of the
// layout.
#pragma once

#include "../task.h"
#include "finish.cuh"
#include "numbers.cuh"
#include "workspace.h"

namespace dmf::cuda {

constexpr int dense_threads = 128;
constexpr int dense_warps = dense_threads / warp_size;

// Calls body(entry, place) for this thread's entries of a segment of the row order; `place` is the offset in
// the matrix.
template <class Body>
__device__ __forceinline__ void for_segment_entries(const LineOrder& order, const Body& body) {
  const int64_t number = static_cast<int64_t>(blockIdx.x) * dense_warps + threadIdx.x / warp_size;
  if (number >= order.segment_bound) return;
  const Segment segment = order.segments[number];
  if (segment.line < 0) return;
  for (int k = threadIdx.x % warp_size; k < segment.count; k += warp_size) {
    const int64_t entry = segment.start + k;
    body(entry,
         segment.line * order.gathered_lines + segment.first_line + index_at(order.index, order.wide, entry));
  }
}

template <class Storage>
__global__ void __launch_bounds__(dense_threads)
    dense_loss(const LineOrder order, const DenseOperands given, double* losses) {
  using T = accumulator_t<Storage>;
  double loss = 0;
  for_segment_entries(order, [&](int64_t entry, int64_t place) {
    const T residual = number_of<Storage>(given.dense, place) - number_of<Storage>(given.values, entry);
    const T weight = given.weights == nullptr ? T(1) : number_of<Storage>(given.weights, entry);
    loss += static_cast<double>(weight) * residual * residual;
    if (given.gradient != nullptr) {
      static_cast<T*>(given.gradient)[place] = static_cast<T>(2.0 * given.scale) * weight * residual;
    }
  });
  const double sum = block_sum<dense_threads>(loss);
  if (threadIdx.x == 0) losses[blockIdx.x] = sum;
}

// values[position] = dense[i, j], or, if `scatters`, the reverse.
template <bool scatters, class Bits>
__global__ void __launch_bounds__(dense_threads)
    copy_observed(const LineOrder order, const uint32_t* position, const Bits* from, Bits* to) {
  for_segment_entries(order, [&](int64_t entry, int64_t place) {
    to[scatters ? place : position[entry]] = from[scatters ? position[entry] : place];
  });
}

template <class Bits>
__global__ void order_entries(const uint32_t* position, int64_t nnz, const Bits* values, Bits* ordered) {
  const int64_t entry = global_thread();
  if (entry < nnz) ordered[position[entry]] = values[entry];
}

inline int64_t dense_blocks(const DeviceLayout& layout) {
  return ceil_divide(layout.row_order.segment_bound, dense_warps);
}

template <class Storage>
void dense_loss_of(const DeviceLayout& layout, const DenseOperands& given, void* loss, Workspace& workspace,
                   cudaStream_t stream) {
  using T = accumulator_t<Storage>;
  if (given.gradient != nullptr) {
    fill_bytes(given.gradient, 0, layout.shape.rows * layout.shape.columns * static_cast<int64_t>(sizeof(T)),
               stream);
  }
  Finish end;
  end.loss_count = dense_blocks(layout);
  double* losses = workspace.take_array<double>(end.loss_count);
  end.losses = losses;
  end.loss = loss;
  end.scale = given.scale;
  launch(dense_loss<Storage>, end.loss_count, dense_threads, 0, stream, layout.row_order, given, losses);
  launch_finish<T>(end, stream);
}

template <bool scatters, class Bits>
void copy_of(const DeviceLayout& layout, const void* from, void* to, cudaStream_t stream) {
  if (scatters)
    fill_bytes(to, 0, layout.shape.rows * layout.shape.columns * static_cast<int64_t>(sizeof(Bits)), stream);
  launch(copy_observed<scatters, Bits>, dense_blocks(layout), dense_threads, 0, stream, layout.row_order,
         layout.position, static_cast<const Bits*>(from), static_cast<Bits*>(to));
}

template <class Bits>
void order_of(const uint32_t* position, int64_t nnz, const void* values, void* ordered, cudaStream_t stream) {
  launch_per_item(order_entries<Bits>, nnz, stream, position, nnz, static_cast<const Bits*>(values),
                  static_cast<Bits*>(ordered));
}

}  // namespace dmf::cuda
