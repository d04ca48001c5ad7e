// The names of CUDA and those of device.cuh, sort.cuh and mma.cuh, implemented on simt_machine.h. Include this
// before any header of csrc/kernels/cuda.
#pragma once

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>
#include <tuple>
#include <utility>

#include "../kernels/number_types.h"
#include "simt_machine.h"

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)

using cudaStream_t = void*;

struct alignas(16) uint4 {
  uint32_t x, y, z, w;
};

// --- The names of CUDA ------------------------------------------------------------------------------

// All threads of a warp always take part.
template <class T>
T __shfl_sync(unsigned mask, T number, int source, int width = 32) {
  if (mask != 0xffffffffu) dmf::simt::stop("a shuffle without the whole warp");
  const int lane = threadIdx.x % 32;
  const auto* slots = dmf::simt::exchange(&number, sizeof number);
  return dmf::simt::taken<T>(slots, lane / width * width + source % width);
}

template <class T>
T __shfl_xor_sync(unsigned mask, T number, int offset) {
  return __shfl_sync(mask, number, static_cast<int>(threadIdx.x % 32) ^ offset);
}

// clang-format off
inline void __syncthreads() { dmf::simt::wait(dmf::simt::machine.block); }
inline void __syncwarp() { dmf::simt::wait(dmf::simt::machine.warp().barrier); }
inline int __popc(uint32_t bits) { return std::popcount(bits); }
inline int __popcll(uint64_t bits) { return std::popcount(bits); }
inline float __uint_as_float(uint32_t bits) { return std::bit_cast<float>(bits); }
inline uint32_t __float_as_uint(float number) { return std::bit_cast<uint32_t>(number); }
inline void atomicOr(unsigned long long* target, unsigned long long bits) { __atomic_fetch_or(target, bits, __ATOMIC_RELAXED); }
// clang-format on

using std::max, std::min;

// --- The names of device.cuh and sort.cuh ---------------------------------------------------------------

namespace dmf::cuda {

template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, int64_t shared_bytes, cudaStream_t,
            Arguments... arguments) {
  auto call = [&] { kernel(arguments...); };
  simt::run_blocks(
      blocks, threads, shared_bytes, [](void* context) { (*static_cast<decltype(call)*>(context))(); }, &call);
}

inline void fill_bytes(void* target, int byte, int64_t size, cudaStream_t) {
  if (size > 0) std::memset(target, byte, static_cast<size_t>(size));
}

template <class T, int count>
T* shared_array() {
  static_assert(sizeof(T) * count <= simt::fixed_array_bytes);
  return reinterpret_cast<T*>(simt::machine.fixed_shared);
}

inline uint4 load_16_bytes(const void* source) {
  if (reinterpret_cast<uintptr_t>(source) % 16 != 0) simt::stop("16 bytes are read from elsewhere");
  uint4 bits;
  std::memcpy(&bits, source, sizeof bits);
  return bits;
}

// clang-format off
inline const void* row_at(const void* first, uint32_t row, uint32_t row_bytes) { return static_cast<const unsigned char*>(first) + uint64_t{row} * row_bytes; }
template <class T> T load_once(const T* source) { return *source; }
inline unsigned char* dynamic_shared() { return simt::machine.dynamic_shared; }
inline float half_to_float(uint16_t bits) { return widen(float16{bits}); }
// clang-format on

template <class Pairs, class Workspace>
void sort_pairs(Pairs& pairs, int64_t count, int bits, Workspace&, cudaStream_t) {
  std::vector<std::pair<uint64_t, uint32_t>> sorted;
  for (int64_t k = 0; k < count; ++k) sorted.emplace_back(pairs.keys[k], pairs.numbers[k]);
  const uint64_t mask = bits >= 64 ? ~uint64_t{0} : (uint64_t{1} << bits) - 1;
  std::stable_sort(sorted.begin(), sorted.end(), [mask](const auto& one, const auto& other) {
    return (one.first & mask) < (other.first & mask);
  });
  // CUB may leave them in either buffer; this always uses the second.
  for (int64_t k = 0; k < count; ++k) std::tie(pairs.other_keys[k], pairs.other_numbers[k]) = sorted[k];
  std::swap(pairs.keys, pairs.other_keys);
  std::swap(pairs.numbers, pairs.other_numbers);
}

template <class Workspace>
void exclusive_sums(int64_t* numbers, int64_t count, Workspace&, cudaStream_t) {
  std::exclusive_scan(numbers, numbers + count, numbers, int64_t{0});
}
// --- The names of mma.cuh ---------------------------------------------------------------------------

// Every thread shows its words of a and b, and computes its numbers of d from all. Sums are rounded toward
// zero, as on tensor cores, for which the effect of the lowest 13 bits is undefined.
inline void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  struct Words {
    uint32_t a[4], b[2];
  };
  const Words mine{{a[0], a[1], a[2], a[3]}, {b[0], b[1]}};
  if (((a[0] | a[1] | a[2] | a[3] | b[0] | b[1]) & 0x1fffu) != 0) simt::stop("an operand is not TF32");
  const auto* slots = simt::exchange(&mine, sizeof mine);
  for (int k = 0; k < 4; ++k) {
    const int row = threadIdx.x % 32 / 4 + k / 2 * 8, column = threadIdx.x % 4 * 2 + k % 2;
    double sum = d[k];
    for (int inner = 0; inner < 8; ++inner) {
      const Words left = simt::taken<Words>(slots, row % 8 * 4 + inner % 4);
      const Words right = simt::taken<Words>(slots, column * 4 + inner % 4);
      sum += double{__uint_as_float(left.a[row / 8 + inner / 4 * 2])} * __uint_as_float(right.b[inner / 4]);
    }
    d[k] = static_cast<float>(sum);
    if (std::fabs(d[k]) > std::fabs(sum)) d[k] = std::nextafterf(d[k], 0.0f);
  }
}

inline int64_t blocks_on_cpu = 528;  // tests set it

// clang-format off
template <class... Parameters> int64_t blocks_at_once(void (*)(Parameters...), int, int64_t) { return blocks_on_cpu; }
inline uint32_t truncate_to_tf32(float number) { return __float_as_uint(number) & 0xffffe000u; }
inline uint32_t round_to_tf32(float number) { return (__float_as_uint(number) + (std::isfinite(number) ? 0x1000u : 0u)) & 0xffffe000u; }
inline void copy_16_bytes_async(void* shared, const void* global) { simt::start_copy(shared, global, 16); }
inline void copy_4_bytes_async(void* shared, const void* global) { simt::start_copy(shared, global, 4); }
inline void wait_for_copies() { simt::land_copies(); }
// clang-format on

}  // namespace dmf::cuda
