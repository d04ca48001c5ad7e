// How the dense-tile path (tile_pass.cuh) multiplies: the formats of its operands and the two products of a
// tile.
//
// `width` is h filled up with zeros to a multiple of 32. A matrix is prepared once a pass into words of 32
// bits, its lines filled up to whole tiles of 64. The gathered tile lies in shared memory; the strides of its
// rows are such that the threads of a warp read different banks. The own side's 16 rows of a warp stay in
// registers.
#pragma once

#include "device_layout.h"
#include "mma.cuh"
#include "numbers.cuh"

namespace dmf::cuda {

constexpr int tile_lines = mask_bits;          // lines of a tile, of either side: one word of the masks
constexpr int column_groups = tile_lines / 8;  // results of one mma across the gathered tile

// Sums of a warp's 16 lines by the 64 gathered ones.
using TileProducts = float[column_groups][4];

// Copies `rows` rows of `words` words; all threads of the block share the work.
__device__ __forceinline__ void copy_rows_async(uint32_t* shared, int stride, const uint32_t* global, int rows,
                                                int words) {
  const int chunks = words / 4;
  for (int k = threadIdx.x; k < rows * chunks; k += blockDim.x) {
    const int row = k / chunks, chunk = k % chunks;
    copy_16_bytes_async(shared + row * stride + 4 * chunk, global + row * words + 4 * chunk);
  }
}

// TF32: one word a number. In `thrice`, a number is the sum of two of TF32, and of the four products the three
// large ones are added: about float32's own accuracy. Tensor cores round their sums toward zero (Fasi, Higham,
// Mikaitis and Pranesh, "Numerical behavior of NVIDIA tensor cores", 2021), which would pull long sums there:
// so only those of one tile are made there, and tiles are added by ordinary additions.
template <int width, bool thrice>
struct Tf32 {
  static constexpr int64_t words_a_line = width;  // of a prepared matrix
  static constexpr int stride = width + 4;
  static constexpr int shared_words = tile_lines * stride;

  struct Part {
    uint32_t large, small = 0;
    // The tensor cores ignore the lowest 13 bits of either part.
    __device__ __forceinline__ explicit Part(float number) {
      large = __float_as_uint(number);
      if constexpr (thrice) small = __float_as_uint(number - __uint_as_float(large & 0xffffe000u));
    }
  };

  // Where nothing is done in three products, a and b are rounded already.
  static __device__ __forceinline__ void multiply(float (&sums)[4], const float (&a)[4], const float (&b)[2]) {
    const Part a_parts[4] = {Part(a[0]), Part(a[1]), Part(a[2]), Part(a[3])};
    const Part b_parts[2] = {Part(b[0]), Part(b[1])};
    const uint32_t a_large[4] = {a_parts[0].large, a_parts[1].large, a_parts[2].large, a_parts[3].large};
    const uint32_t b_large[2] = {b_parts[0].large, b_parts[1].large};
    if constexpr (thrice) {
      const uint32_t a_small[4] = {a_parts[0].small, a_parts[1].small, a_parts[2].small, a_parts[3].small};
      const uint32_t b_small[2] = {b_parts[0].small, b_parts[1].small};
      mma_tf32(sums, a_small, b_large);
      mma_tf32(sums, a_large, b_small);
    }
    mma_tf32(sums, a_large, b_large);
  }

  static __device__ __forceinline__ float rounded(float number) {
    return thrice ? number : __uint_as_float(round_to_tf32(number));
  }

  // Word `k` of a prepared matrix; number(line, column) is 0 where there is none.
  template <class Number>
  static __device__ __forceinline__ uint32_t prepare(int64_t k, const Number& number) {
    return __float_as_uint(rounded(number(k / width, static_cast<int>(k % width))));
  }

  struct Own {
    float a[width / 8][4];

    __device__ __forceinline__ Own(const uint32_t* matrix, int64_t first_line, int lane) {
      const uint32_t* line = matrix + (first_line + lane / 4) * width + lane % 4;
#pragma unroll
      for (int k = 0; k < width / 8; ++k) {
        a[k][0] = __uint_as_float(line[8 * k]);
        a[k][1] = __uint_as_float(line[8 * k + 8 * width]);
        a[k][2] = __uint_as_float(line[8 * k + 4]);
        a[k][3] = __uint_as_float(line[8 * k + 4 + 8 * width]);
      }
    }
  };

  static __device__ __forceinline__ void start_copy(uint32_t* shared, const uint32_t* matrix, int64_t tile) {
    copy_rows_async(shared, stride, matrix + tile * tile_lines * width, tile_lines, width);
  }

  // products += own · gatheredᵀ
  static __device__ __forceinline__ void product(const Own& own, const uint32_t* shared, int lane,
                                                 TileProducts& products) {
    const uint32_t* corner = shared + lane / 4 * stride + lane % 4;
#pragma unroll
    for (int k = 0; k < width / 8; ++k) {
#pragma unroll
      for (int n = 0; n < column_groups; ++n) {
        const uint32_t* place = corner + 8 * n * stride + 8 * k;
        const float b[2] = {__uint_as_float(place[0]), __uint_as_float(place[4])};
        multiply(products[n], own.a[k], b);
      }
    }
  }

  // gradient += coefficients · gathered. A thread's two columns, 2 member and 2 member + 1, stand in the places
  // of rows member and member + 4 of this product: sums do not depend on the order of their terms' names.
  static __device__ __forceinline__ void accumulate(const TileProducts& coefficients, const uint32_t* shared,
                                                    int lane, float (&gradient)[width / 8][4]) {
    const uint32_t* corner = shared + 2 * (lane % 4) * stride + lane / 4;
    constexpr int together = thrice ? 4 : width / 8;  // columns whose sums are made at once
#pragma unroll
    for (int first = 0; first < width / 8; first += together) {
      float sums[together][4];
#pragma unroll
      for (int k = 0; k < 4 * together; ++k)
        sums[k / 4][k % 4] = thrice ? 0.0f : gradient[first + k / 4][k % 4];
#pragma unroll
      for (int n = 0; n < column_groups; ++n) {
        const float a[4] = {rounded(coefficients[n][0]), rounded(coefficients[n][2]),
                            rounded(coefficients[n][1]), rounded(coefficients[n][3])};
#pragma unroll
        for (int v = 0; v < together; ++v) {
          const uint32_t* place = corner + 8 * n * stride + 8 * (first + v);
          const float b[2] = {__uint_as_float(place[0]), __uint_as_float(place[stride])};
          multiply(sums[v], a, b);
        }
      }
#pragma unroll
      for (int k = 0; k < 4 * together; ++k) {
        float& number = gradient[first + k / 4][k % 4];
        number = thrice ? number + sums[k / 4][k % 4] : sums[k / 4][k % 4];
      }
    }
  }
};

// bfloat16: two numbers a word. The gathered side is prepared twice, in pairs along its lines for the first
// product and in pairs of lines for the second.
template <int width>
struct Bfloat16 {
  static constexpr int64_t words_a_line = width;                   // half of them for either kind of pairs
  static constexpr int along = width / 2 + 4, across = width + 8;  // strides
  static constexpr int shared_words = tile_lines * along + tile_lines / 2 * across;
  static constexpr int words_a_tile = tile_lines * width;

  // A tile of the prepared matrix: 64 lines of width / 2 words, then 32 pairs of lines of `width` words.
  template <class Number>
  static __device__ __forceinline__ uint32_t prepare(int64_t k, const Number& number) {
    const int64_t first_line = k / words_a_tile * tile_lines;
    const int word = static_cast<int>(k % words_a_tile), half = words_a_tile / 2;
    if (word < half) {
      const int64_t line = first_line + word / (width / 2);
      const int column = 2 * (word % (width / 2));
      return pack_bfloat16(number(line, column), number(line, column + 1));
    }
    const int64_t line = first_line + 2 * ((word - half) / width);
    const int column = (word - half) % width;
    return pack_bfloat16(number(line, column), number(line + 1, column));
  }

  struct Own {
    uint32_t a[width / 16][4];

    // first_line is a multiple of 16.
    __device__ __forceinline__ Own(const uint32_t* matrix, int64_t first_line, int lane) {
      const uint32_t* tile = matrix + first_line / tile_lines * words_a_tile;
      const uint32_t* line = tile + (first_line % tile_lines + lane / 4) * (width / 2) + lane % 4;
#pragma unroll
      for (int k = 0; k < width / 16; ++k) {
        a[k][0] = line[8 * k];
        a[k][1] = line[8 * k + 4 * width];
        a[k][2] = line[8 * k + 4];
        a[k][3] = line[8 * k + 4 + 4 * width];
      }
    }
  };

  static __device__ __forceinline__ void start_copy(uint32_t* shared, const uint32_t* matrix, int64_t tile) {
    const uint32_t* source = matrix + tile * words_a_tile;
    copy_rows_async(shared, along, source, tile_lines, width / 2);
    copy_rows_async(shared + tile_lines * along, across, source + words_a_tile / 2, tile_lines / 2, width);
  }

  static __device__ __forceinline__ void product(const Own& own, const uint32_t* shared, int lane,
                                                 TileProducts& products) {
    const uint32_t* corner = shared + lane / 4 * along + lane % 4;
#pragma unroll
    for (int k = 0; k < width / 16; ++k) {
#pragma unroll
      for (int n = 0; n < column_groups; ++n) {
        const uint32_t* place = corner + 8 * n * along + 8 * k;
        const uint32_t b[2] = {place[0], place[4]};
        mma_bfloat16(products[n], own.a[k], b);
      }
    }
  }

  static __device__ __forceinline__ void accumulate(const TileProducts& coefficients, const uint32_t* shared,
                                                    int lane, float (&gradient)[width / 8][4]) {
    const uint32_t* corner = shared + tile_lines * along + lane % 4 * across + lane / 4;
#pragma unroll
    for (int n = 0; n < column_groups; n += 2) {
      const uint32_t a[4] = {pack_bfloat16(coefficients[n][0], coefficients[n][1]),
                             pack_bfloat16(coefficients[n][2], coefficients[n][3]),
                             pack_bfloat16(coefficients[n + 1][0], coefficients[n + 1][1]),
                             pack_bfloat16(coefficients[n + 1][2], coefficients[n + 1][3])};
#pragma unroll
      for (int v = 0; v < width / 8; ++v) {
        const uint32_t* place = corner + 4 * n * across + 8 * v;
        const uint32_t b[2] = {place[0], place[4 * across]};
        mma_bfloat16(gradient[v], a, b);
      }
    }
  }
};

}  // namespace dmf::cuda
