// Numbers of the storage types as they travel: 16 bytes at a time.
#pragma once

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

__device__ __forceinline__ void unpack(uint4 bits, const float*, float (&numbers)[4]) {
  numbers[0] = __uint_as_float(bits.x);
  numbers[1] = __uint_as_float(bits.y);
  numbers[2] = __uint_as_float(bits.z);
  numbers[3] = __uint_as_float(bits.w);
}

__device__ __forceinline__ void unpack(uint4 bits, const double*, double (&numbers)[2]) {
  numbers[0] = __hiloint2double(static_cast<int>(bits.y), static_cast<int>(bits.x));
  numbers[1] = __hiloint2double(static_cast<int>(bits.w), static_cast<int>(bits.z));
}

template <class Storage>
__device__ __forceinline__ void unpack(uint4 bits, const Storage*, float (&numbers)[8]) {
  const uint32_t words[4] = {bits.x, bits.y, bits.z, bits.w};
#pragma unroll
  for (int word = 0; word < 4; ++word) {
    numbers[2 * word] = to_accumulator(Storage{static_cast<uint16_t>(words[word] & 0xffffu)});
    numbers[2 * word + 1] = to_accumulator(Storage{static_cast<uint16_t>(words[word] >> 16)});
  }
}

// The accumulators of one pack of `Storage`.
template <class Storage>
struct Pack {
  using T = accumulator_t<Storage>;
  T number[pack_size<Storage>];

  __device__ __forceinline__ Pack() {}
  __device__ __forceinline__ explicit Pack(uint4 bits) {
    unpack(bits, static_cast<const Storage*>(nullptr), number);
  }
};

__device__ __forceinline__ uint4 pack_bits(const float* numbers) {
  return {__float_as_uint(numbers[0]), __float_as_uint(numbers[1]), __float_as_uint(numbers[2]),
          __float_as_uint(numbers[3])};
}

__device__ __forceinline__ uint4 pack_bits(const double* numbers) {
  return {static_cast<uint32_t>(__double2loint(numbers[0])), static_cast<uint32_t>(__double2hiint(numbers[0])),
          static_cast<uint32_t>(__double2loint(numbers[1])), static_cast<uint32_t>(__double2hiint(numbers[1]))};
}

// Writes numbers from column `first` on of a matrix whose rows have `stride` numbers, as far as `width` columns
// go.
template <int count, class T>
__device__ __forceinline__ void store_numbers(T* row, int64_t first, int64_t width, int64_t stride,
                                              const T (&numbers)[count]) {
  if (stride % pack_size<T> == 0) {
#pragma unroll
    for (int k = 0; k < count; k += pack_size<T>) {
      if (first + k < width) store_16_bytes(row + first + k, pack_bits(numbers + k));
    }
  } else {
#pragma unroll
    for (int k = 0; k < count; ++k) {
      if (first + k < width) row[first + k] = numbers[k];
    }
  }
}

}  // namespace dmf::cuda
