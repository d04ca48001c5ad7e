// Sums in a fixed order: within a thread, and across the threads of a warp and of a block.
#pragma once

#include "device.cuh"

namespace dmf::cuda {

constexpr int warp_size = 32;
constexpr unsigned whole_warp = 0xffffffffu;

// Transposed sums: the threads come in groups of `lanes`, and sums[u] has a part in every thread of a group.
// Returns, in thread t of a group, the group's sum of sums[t % count]. Takes count − 1 + log2(lanes / count)
// shuffles instead of count · log2(lanes).
template <int lanes, int count, class T>
__device__ __forceinline__ T transposed_sums(T (&sums)[count], int lane) {
#pragma unroll
  for (int half = count / 2; half >= 1; half /= 2) {
    const bool upper = (lane & half) != 0;
#pragma unroll
    for (int u = 0; u < half; ++u) {
      const T kept = upper ? sums[u + half] : sums[u];
      const T given = upper ? sums[u] : sums[u + half];
      sums[u] = kept + __shfl_xor_sync(whole_warp, given, half);
    }
  }
#pragma unroll
  for (int offset = count; offset < lanes; offset *= 2) sums[0] += __shfl_xor_sync(whole_warp, sums[0], offset);
  return sums[0];
}

// number(0) + number(1) + … in order, with several loads in flight.
template <class T, class Number>
__device__ __forceinline__ T sum_in_order(int count, const Number& number) {
  constexpr int depth = 8;
  T sum = 0;
#pragma unroll 1
  for (int first = 0; first < count; first += depth) {
    T part[depth];
#pragma unroll
    for (int k = 0; k < depth; ++k) part[k] = first + k < count ? number(first + k) : T(0);
#pragma unroll
    for (int k = 0; k < depth; ++k) sum += part[k];
  }
  return sum;
}

// The sum over all threads of the block; a barrier must separate `give_sum` and `take_sum`.
__device__ __forceinline__ void give_sum(double number, double* warp_sums) {
#pragma unroll
  for (int offset = warp_size / 2; offset >= 1; offset /= 2)
    number += __shfl_xor_sync(whole_warp, number, offset);
  if (threadIdx.x % warp_size == 0) warp_sums[threadIdx.x / warp_size] = number;
}

__device__ __forceinline__ double take_sum(const double* warp_sums, int warps) {
  double sum = 0;
  for (int warp = 0; warp < warps; ++warp) sum += warp_sums[warp];
  return sum;
}

// Both at once. All threads must call it, once per kernel.
template <int threads>
__device__ __forceinline__ double block_sum(double number) {
  double* warp_sums = shared_array<double, threads / warp_size>();
  give_sum(number, warp_sums);
  __syncthreads();
  return take_sum(warp_sums, threads / warp_size);
}

}  // namespace dmf::cuda
