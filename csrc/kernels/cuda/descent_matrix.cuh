// Matrices of a run as its block sees them, and numbers that travel together.
#pragma once

#include "descent_run.h"
#include "device.cuh"
#include "numbers.cuh"

namespace dmf::cuda {

// Neighboring numbers, read and written at once where they begin at a multiple of their size or of 16 bytes.
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

template <class T>
struct MatrixView {
  T* at;
  int rows, columns, stride;
  bool shared;  // lies in shared memory

  // The same matrix, where it is shared, by a pointer of which the compiler sees that it is: loads are then
  // instructions of their own, with addresses of 32 bits.
  __device__ __forceinline__ MatrixView in_shared() const {
    return {reinterpret_cast<T*>(dynamic_shared() + (reinterpret_cast<unsigned char*>(at) - dynamic_shared())),
            rows, columns, stride, true};
  }
  __device__ __forceinline__ T* row(int number) const { return at + number * stride; }
  // Packs in a row, padding included.
  __device__ __forceinline__ int row_packs() const { return padded(columns) / pack_size<T>; }
};

// What the threads of a block know of their run: where its arrays lie.
struct BlockMemory {
  unsigned char* shared;
  unsigned char* run;

  // `in_shared` is for code that runs only where it is.
  template <class T, bool in_shared = false>
  __device__ __forceinline__ T* find(const BlockArray& array) const {
    return reinterpret_cast<T*>((in_shared || array.place.shared ? shared : run) + array.place.offset);
  }

  template <class T>
  __device__ __forceinline__ MatrixView<T> value(const BlockMatrix& matrix) const {
    return {find<T>(matrix.value), matrix.rows, matrix.columns, matrix.stride, matrix.value.place.shared != 0};
  }

  template <class T>
  __device__ __forceinline__ MatrixView<T> gradient(const BlockMatrix& matrix) const {
    return {find<T>(matrix.gradient), matrix.rows, matrix.columns, matrix.stride,
            matrix.gradient.place.shared != 0};
  }
};

// The sum over all threads of the block, in a fixed order: between `give_sum` and `take_sum` lies a barrier.
__device__ __forceinline__ void give_sum(double number, double* sums) {
#pragma unroll
  for (int offset = 16; offset >= 1; offset /= 2) number += __shfl_xor_sync(0xffffffffu, number, offset);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = number;
}

__device__ __forceinline__ double take_sum(const double* sums) {
  double sum = 0;
  for (unsigned warp = 0; warp < blockDim.x / 32; ++warp) sum += sums[warp];
  return sum;
}

}  // namespace dmf::cuda
