// How the dense-tile path (tile_pass.cuh) multiplies: the format of its operands and the two products of a
// tile.
//
// `width` is h, padded with zeros to a multiple of 32. A matrix is prepared once per pass, its lines padded to
// whole blocks. A tile of the gathered side, 64 lines, is in shared memory; the stride of its lines is such
// that the threads of a warp read different banks. A warp's lines of the own side and their gradient stay in
// registers.
#pragma once

#include "device_layout.h"
#include "mma.cuh"
#include "numbers.cuh"

namespace dmf::cuda {

constexpr int tile_threads = 128;
constexpr int tile_lines = mask_bits;          // of the gathered side: one word of the masks
constexpr int column_groups = tile_lines / 8;  // results of one mma across the gathered tile

// A warp's lines × the 64 gathered ones, or × the columns of a gradient.
template <int row_groups, int groups>
using TileNumbers = float[row_groups][groups][4];

struct alignas(8) Pair {
  float number[2];
};

__device__ __forceinline__ Pair pair_at(const float* shared) {
  return *reinterpret_cast<const Pair*>(shared);
}

// Numbers are rounded to TF32. With `thrice`, each is the sum of two TF32 numbers, and the three large ones of
// the four products are added: about the accuracy of float32. Tensor cores round their sums toward zero (Fasi,
// Higham, Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor cores", 2021), which would bias long sums:
// with `thrice`, they compute only the sums of one tile, and tiles are added by ordinary additions.
template <int width, bool thrice>
struct Tf32 {
  static constexpr int groups = width / 8;  // of columns
  static constexpr int stride = width + 8;  // of a gathered tile
  static constexpr int tile_words = tile_lines * stride;
  // With 32 lines per warp, two products share what they read of the gathered tile. With `thrice` the three
  // products of a fragment already do, and wider rows leave no registers for it.
  static constexpr int row_groups = thrice || width > 64 ? 1 : 2;
  static constexpr int warp_lines = 16 * row_groups;
  static constexpr int block_lines = tile_threads / 32 * warp_lines;

  using Own = TileNumbers<row_groups, groups>;
  using Products = TileNumbers<row_groups, column_groups>;

  static __device__ __forceinline__ float rounded(float number) {
    return thrice ? number : __uint_as_float(round_to_tf32(number));
  }

  // Numbers in the format of tensor cores. Without `thrice` they were rounded before.
  template <int count>
  struct Parts {
    uint32_t large[count], small[count];
    __device__ __forceinline__ explicit Parts(const float (&numbers)[count]) {
#pragma unroll
      for (int k = 0; k < count; ++k) {
        large[k] = thrice ? truncate_to_tf32(numbers[k]) : __float_as_uint(numbers[k]);
        small[k] = thrice ? truncate_to_tf32(numbers[k] - __uint_as_float(large[k])) : 0;
      }
    }
  };

  static __device__ __forceinline__ void multiply(float (&sums)[4], const float (&a)[4], const float (&b)[2]) {
    const Parts<4> left(a);
    const Parts<2> right(b);
    if constexpr (thrice) {
      mma_tf32(sums, left.small, right.large);
      mma_tf32(sums, left.large, right.small);
    }
    mma_tf32(sums, left.large, right.large);
  }

  // Where a gathered line starts. Neighbors among lines 4 to 7 of every eight are swapped, so that the threads
  // of half a warp, which read pairs from four lines, read different banks in both products.
  static __device__ __forceinline__ int start_of(int line) { return (line ^ (line >> 2 & 1)) * stride; }

  // In the first product a thread's inner columns, member and member + 4, stand for 2 member and 2 member + 1
  // of every eight: the order of the terms of a sum is free.
  static __device__ __forceinline__ void load(Own& own, const float* matrix, int64_t first_line, int lane) {
    const float* corner = matrix + (first_line + lane / 4) * width + 2 * (lane % 4);
#pragma unroll
    for (int g = 0; g < row_groups; ++g) {
#pragma unroll
      for (int k = 0; k < groups; ++k) {
#pragma unroll
        for (int part = 0; part < 4; ++part)
          own[g][k][part] = corner[(16 * g + part % 2 * 8) * width + 8 * k + part / 2];
      }
    }
  }

  // The threads of a block copy 16 lines at a time; eight threads copy 32 numbers of a line.
  static __device__ __forceinline__ void start_copy(float* shared, const float* matrix, int64_t tile) {
    const int line = threadIdx.x / 8, column = threadIdx.x % 8 * 4;
    const float* source = matrix + (tile * tile_lines + line) * width + column;
    float* target = shared + start_of(line) + column;
#pragma unroll
    for (int lines = 0; lines < tile_lines; lines += 16) {
#pragma unroll
      for (int columns = 0; columns < width; columns += 32)
        copy_16_bytes_async(target + lines * stride + columns, source + lines * width + columns);
    }
  }

  // products += own · gatheredᵀ
  static __device__ __forceinline__ void product(const Own& own, const float* shared, int lane,
                                                 Products& products) {
    const float* corner = shared + start_of(lane / 4) + 2 * (lane % 4);
#pragma unroll
    for (int k = 0; k < groups; ++k) {
#pragma unroll
      for (int n = 0; n < column_groups; ++n) {
        const Pair b = pair_at(corner + 8 * n * stride + 8 * k);
#pragma unroll
        for (int g = 0; g < row_groups; ++g) multiply(products[g][n], own[g][k], b.number);
      }
    }
  }

  // gradient += coefficients · gathered. A thread's two columns, 2 member and 2 member + 1, take the places of
  // rows member and member + 4 of this product.
  static __device__ __forceinline__ void accumulate(const Products& coefficients, const float* shared, int lane,
                                                    Own& gradient) {
    const int row = 2 * (lane % 4), column = lane / 4;
    const float *first_row = shared + start_of(row) + column, *second_row = shared + start_of(row + 1) + column;
    constexpr int together = thrice ? 4 : groups;  // groups of columns that are summed at once
#pragma unroll
    for (int first = 0; first < groups; first += together) {
      TileNumbers<row_groups, together> sums = {};  // of this tile, with `thrice`
#pragma unroll
      for (int n = 0; n < column_groups; ++n) {
        float a[row_groups][4];
#pragma unroll
        for (int g = 0; g < row_groups; ++g) {
#pragma unroll
          for (int k = 0; k < 4; ++k) a[g][k] = rounded(coefficients[g][n][k % 2 * 2 + k / 2]);
        }
#pragma unroll
        for (int v = 0; v < together; ++v) {
          const int place = 8 * n * stride + 8 * (first + v);
          const float b[2] = {first_row[place], second_row[place]};
#pragma unroll
          for (int g = 0; g < row_groups; ++g) multiply(thrice ? sums[g][v] : gradient[g][first + v], a[g], b);
        }
      }
#pragma unroll
      for (int g = 0; thrice && g < row_groups; ++g) {
#pragma unroll
        for (int k = 0; k < 4 * together; ++k) gradient[g][first + k / 4][k % 4] += sums[g][k / 4][k % 4];
      }
    }
  }
};

}  // namespace dmf::cuda
