// A run of gradient descent as one thread block reads it (descent.cuh): fixed sizes, offsets instead of
// pointers.
//
// A matrix lies in rows of `stride` numbers. Rows and columns are padded to multiples of 4 with zeros, so that
// a product may take four terms of a sum at a time; the stride is an odd multiple of 4, so that 16-byte loads
// from neighboring rows fall into different banks of shared memory; and 8 numbers follow the last row, which a
// tile at the right edge may read but never uses.
//
// A run has a piece of memory on the device, which begins with its BlockRun, and in which every array that
// outlives a launch has its *home*: factors, moments and Ω. During a launch an array has a *place*, in the
// block's shared memory or in the run's memory. Arrays that a step recomputes have no home, and may share a
// place with others that are not needed at the same time (array_placement.h).
//
// Ω is stored in both orders of ObservedLines, with 16-bit indices: 8 bytes per entry and, in float32, 8 more
// for its value and its coefficient, 12 with a weight.
#pragma once

#include <cstdint>

#include "../descent/program.h"
#include "../number_types.h"

namespace dmf::cuda {

constexpr int most_factors = 8;
constexpr int most_products = most_factors - 1;
constexpr int most_matrices = most_factors + most_products;
constexpr int64_t most_lines = 65536;      // rows, columns and entries have 16-bit indices
constexpr int64_t most_line_bytes = 1024;  // of a row of A and Bᵀ
constexpr int most_warps = 32;
constexpr int descent_threads = 256;

DMF_INLINE int padded(int count) {
  return (count + 3) / 4 * 4;
}

struct Place {
  int32_t offset = 0;  // in bytes
  int32_t shared = 0;  // in the block's shared memory, not in the run's
};

constexpr int32_t no_home = -1;

struct BlockArray {
  Place place;
  int32_t home = no_home;  // bytes into the run's memory
  int32_t bytes = 0;
};

struct BlockMatrix {
  int32_t rows = 0, columns = 0, stride = 0;
  BlockArray value, gradient;
  int32_t moments[2] = {no_home, no_home};  // homes; they have the factor's strides
};

struct BlockObserved {
  int32_t nnz = 0;
  int32_t weighted = 0;
  // Row order. Starts include the lines of the padding, which are empty.
  BlockArray row_start;     // int32 [padded rows + 1]
  BlockArray column;        // uint16
  BlockArray column_place;  // uint16: the entry's place in column order
  BlockArray value, weight;
  // Column order.
  BlockArray column_start;  // int32 [padded columns + 1]
  BlockArray row;           // uint16
  BlockArray coefficient;   // 2 · scale · weight · residual
};

struct alignas(16) BlockRun {
  Rule rule;
  StopRules stop;
  double scale = 0;         // the minimized loss is scale · Σ w (p − b)²
  double total_weight = 0;  // Σ w
  int32_t factors = 0, products = 0;
  int32_t a = no_matrix, b_transposed = no_matrix;
  BlockMatrix matrices[most_matrices];
  Product product[most_products];
  BlockObserved observed;
};

// What changes from step to step, other than factors and moments, and the step at which the run ends.
struct RunState {
  int64_t step = 0;           // updates made so far
  int64_t until = 0;          // the step at which a launch ends
  double square_average = 0;  // s of GroupRMSprop
  double loss = 0;            // weighted mean at the current factors
  double gradient_norm = 0;
  int64_t outcome = static_cast<int64_t>(Outcome::paused);
};

// A run in a launch: what travels to the device and back.
struct BlockTask {
  unsigned char* memory;  // of the run, on the device
  RunState state;
};

// Shared memory begins with the sums of the warps and a copy of the run.
constexpr int64_t sums_bytes = 3 * most_warps * 8;
constexpr int64_t shared_front = sums_bytes + static_cast<int64_t>(sizeof(BlockRun));

}  // namespace dmf::cuda
