// Loads and stores of the storage types, 16 bytes at a time, and of indices.
#pragma once

#include <cstring>

#include "../number_types.h"
#include "device.cuh"

namespace dmf::cuda {

// Numbers in 16 bytes.
template <class Number>
constexpr int pack_size = 16 / sizeof(Number);

template <class Storage>
__device__ __forceinline__ accumulator_t<Storage> to_accumulator(Storage number) {
  if constexpr (sizeof(Storage) >= 4) {
    return number;
  } else if constexpr (std::is_same_v<Storage, bfloat16>) {
    return widen(number);
  } else {
    return half_to_float(number.bits);
  }
}

template <class Storage>
__device__ __forceinline__ accumulator_t<Storage> number_of(const void* numbers, int64_t place) {
  return to_accumulator(static_cast<const Storage*>(numbers)[place]);
}

// A number of 32 bits or, unless `wide`, of 16.
__device__ __forceinline__ uint32_t index_at(const void* indices, bool wide, int64_t place) {
  return wide ? load_once(static_cast<const uint32_t*>(indices) + place)
              : load_once(static_cast<const uint16_t*>(indices) + place);
}

// Neighboring numbers, read and written at once, at a multiple of their total size or of 16 bytes.
template <class T, int count>
struct alignas(count * sizeof(T) < 16 ? count * sizeof(T) : 16) Together {
  T number[count];
};

template <int count, class T>
__device__ __forceinline__ Together<T, count> load_together(const T* source) {
  return *reinterpret_cast<const Together<T, count>*>(source);
}

template <int count, class T>
__device__ __forceinline__ void store_together(T* target, const Together<T, count>& numbers) {
  *reinterpret_cast<Together<T, count>*>(target) = numbers;
}

// 16 bytes.
template <class T>
using PackOf = Together<T, pack_size<T>>;

// The accumulators of one pack of `Storage`.
template <class Storage>
struct Pack {
  accumulator_t<Storage> number[pack_size<Storage>];

  __device__ __forceinline__ Pack() {}
  __device__ __forceinline__ explicit Pack(uint4 bits) {
    if constexpr (sizeof(Storage) >= 4) {
      memcpy(number, &bits, sizeof bits);
    } else {
      const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
      for (int k = 0; k < 8; ++k)
        number[k] = to_accumulator(Storage{static_cast<uint16_t>(words[k / 2] >> k % 2 * 16)});
    }
  }
};

// Writes numbers to columns `first` and following of a matrix whose rows have `stride` numbers, but none past
// `width` columns.
template <int count, class T>
__device__ __forceinline__ void store_numbers(T* row, int64_t first, int64_t width, int64_t stride,
                                              const T (&numbers)[count]) {
  if (stride % pack_size<T> == 0) {
#pragma unroll
    for (int k = 0; k < count; k += pack_size<T>) {
      PackOf<T> pack;
      memcpy(&pack, numbers + k, sizeof pack);
      if (first + k < width) store_together(row + first + k, pack);
    }
  } else {
#pragma unroll
    for (int k = 0; k < count; ++k) {
      if (first + k < width) row[first + k] = numbers[k];
    }
  }
}

}  // namespace dmf::cuda
