// Products of two small matrices by one block.
//
// A thread owns a tile of 4 rows and 10 columns of the result in registers, so that 250 of 256 threads work on
// 100 × 100. It processes the terms of the sums four at a time (two in double), and loads the next terms while
// it multiplies the current ones, as an operand may be in L2. A term of a tile takes 40 multiply-adds for 14
// numbers of the operands.
//
// By count, 100 × 100 × 100 in float32 has 25 steps of four terms: 160 multiply-adds, 14 to 24 loads and about
// 10 additions of addresses per thread. Two warps on each scheduler issue them in 25 · 2 · 190 = 9,500 cycles,
// and the start and end of the tile in 400; the multiply-adds alone would take 8,000, and 7,800 if no thread
// were idle. Loads from shared memory take 14 · 25 · 4 · 8 = 11,000 cycles if threads that read the same
// address save nothing, less than half of that if they do.
#pragma once

#include "descent_matrix.cuh"

namespace dmf::cuda {

constexpr int tile_rows = 4, tile_columns = 10;

// The position of a thread's tile. Its columns are neighbors, unless the right operand is transposed: they are
// then rows of it, two runs of five, `apart` rows apart, and an odd number of rows from thread to thread, so
// that neighboring threads read from different banks.
struct ProductTile {
  int row, column, apart;

  __device__ __forceinline__ int right_row(int c) const { return column + c % 5 + c / 5 * apart; }
};

// Some terms of a tile's sums.
template <class T>
struct Terms {
  static constexpr int count = pack_size<T>;
  T left[tile_rows][count], right[count][tile_columns];
};

template <bool left_transposed, class T>
__device__ __forceinline__ void load_left(const MatrixView<T>& left, const ProductTile& tile, int term,
                                          Terms<T>& terms) {
  constexpr int count = Terms<T>::count;
  if constexpr (left_transposed) {
#pragma unroll
    for (int k = 0; k < count; ++k) {
      const auto numbers = load_together<tile_rows>(left.row(term + k) + tile.row);
#pragma unroll
      for (int r = 0; r < tile_rows; ++r) terms.left[r][k] = numbers.number[r];
    }
  } else {
#pragma unroll
    for (int r = 0; r < tile_rows; ++r) {
      const auto numbers = load_together<count>(left.row(tile.row + r) + term);
#pragma unroll
      for (int k = 0; k < count; ++k) terms.left[r][k] = numbers.number[k];
    }
  }
}

template <bool right_transposed, class T>
__device__ __forceinline__ void load_right(const MatrixView<T>& right, const ProductTile& tile, int term,
                                           Terms<T>& terms) {
  constexpr int count = Terms<T>::count;
  if constexpr (right_transposed) {
#pragma unroll
    for (int c = 0; c < tile_columns; ++c) {
      const int row = min(tile.right_row(c), padded(right.rows) - 1);
      const auto numbers = load_together<count>(right.row(row) + term);
#pragma unroll
      for (int k = 0; k < count; ++k) terms.right[k][c] = numbers.number[k];
    }
  } else {
#pragma unroll
    for (int k = 0; k < count; ++k) {
      const T* row = right.row(term + k) + tile.column;
#pragma unroll
      for (int c = 0; c < tile_columns; c += 2) {
        const auto numbers = load_together<2>(row + c);
        terms.right[k][c] = numbers.number[0];
        terms.right[k][c + 1] = numbers.number[1];
      }
    }
  }
}

template <class T>
__device__ __forceinline__ void add_terms(const Terms<T>& terms, T (&sums)[tile_rows][tile_columns]) {
#pragma unroll
  for (int k = 0; k < Terms<T>::count; ++k) {
#pragma unroll
    for (int r = 0; r < tile_rows; ++r) {
#pragma unroll
      for (int c = 0; c < tile_columns; ++c) sums[r][c] += terms.left[r][k] * terms.right[k][c];
    }
  }
}

// Writes the tile and its share of the padding, whose sums are zeros.
template <bool right_transposed, class T>
__device__ __forceinline__ void store_tile(const MatrixView<T>& result, const ProductTile& tile,
                                           const T (&sums)[tile_rows][tile_columns]) {
  const int width = padded(result.columns);
#pragma unroll
  for (int r = 0; r < tile_rows; ++r) {
    T* row = result.row(tile.row + r);
    if constexpr (right_transposed) {
#pragma unroll
      for (int c = 0; c < tile_columns; ++c) {
        if (tile.right_row(c) < width) row[tile.right_row(c)] = sums[r][c];
      }
    } else {
#pragma unroll
      for (int c = 0; c < tile_columns; c += 2) {
        if (tile.column + c < width) store_together<2>(row + tile.column + c, {sums[r][c], sums[r][c + 1]});
      }
    }
  }
}

template <bool left_transposed, bool right_transposed, class T>
__device__ __forceinline__ void multiply_tiles(const MatrixView<T>& left, const MatrixView<T>& right,
                                               const MatrixView<T>& result) {
  const int length = left_transposed ? left.rows : left.columns;
  const int across = (padded(result.columns) + tile_columns - 1) / tile_columns;
  const int tiles = padded(result.rows) / tile_rows * across;
  for (int number = threadIdx.x; number < tiles; number += blockDim.x) {
    const int column = number % across;
    const ProductTile tile{number / across * tile_rows, column * (right_transposed ? 5 : tile_columns),
                           5 * across};
    T sums[tile_rows][tile_columns] = {};
    Terms<T> terms, next;
    load_left<left_transposed>(left, tile, 0, terms);
    load_right<right_transposed>(right, tile, 0, terms);
#pragma unroll 2
    for (int term = Terms<T>::count; term < length; term += Terms<T>::count) {
      load_left<left_transposed>(left, tile, term, next);
      load_right<right_transposed>(right, tile, term, next);
      add_terms(terms, sums);
      terms = next;
    }
    add_terms(terms, sums);
    store_tile<right_transposed>(result, tile, sums);
  }
}

// result = left · right, either operand transposed.
template <bool left_transposed, bool right_transposed, class T>
__device__ __forceinline__ void multiply(const MatrixView<T>& left, const MatrixView<T>& right,
                                         const MatrixView<T>& result) {
  if (left.shared && right.shared) {
    multiply_tiles<left_transposed, right_transposed>(left.in_shared(), right.in_shared(), result);
  } else {
    multiply_tiles<left_transposed, right_transposed>(left, right, result);
  }
}

}  // namespace dmf::cuda
