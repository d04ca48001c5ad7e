// Matrices of a run, as its block accesses them.
#pragma once

#include "descent_run.h"
#include "numbers.cuh"
#include "warp.cuh"

namespace dmf::cuda {

template <class T>
struct MatrixView {
  T* at;
  int rows, columns, stride;
  bool shared;  // is in shared memory

  // The same matrix, in shared memory, through a pointer that the compiler knows to be shared: loads are then
  // shared-memory instructions, with 32-bit addresses.
  __device__ __forceinline__ MatrixView in_shared() const {
    return {reinterpret_cast<T*>(dynamic_shared() + (reinterpret_cast<unsigned char*>(at) - dynamic_shared())),
            rows, columns, stride, true};
  }
  __device__ __forceinline__ T* row(int number) const { return at + number * stride; }
  // Packs in a row, padding included.
  __device__ __forceinline__ int row_packs() const { return padded(columns) / pack_size<T>; }
};

// The places of the arrays of a run, known to the threads of its block.
struct BlockMemory {
  unsigned char* shared;
  unsigned char* run;

  // `in_shared` is for code that runs only if it is in shared memory.
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

}  // namespace dmf::cuda
