// The dense-tile path: where Ω is dense, products of whole tiles on the tensor cores beat gathers of single
// rows.
//
// In one pass every block owns 64 lines of the own side (A in the row pass, Bᵀ in the column pass), 16 a warp,
// and walks over tiles of 64 lines of the gathered side. Of a 64 × 64 tile of A·B it keeps, in registers, the
// products at observed places, less their targets; these residuals, times the gathered tile, are added to the
// own side's gradient, in registers too. Nothing of the size m × n ever reaches memory. The observed places are
// the bits of one word a line and tile; the targets stand in a row, so that the bits before one count its
// place.
//
// Two passes make the gradients of both sides, 4·m·n·h flops each: the second makes the products again instead
// of adding to shared sums, so there are no atomics. A tile reads 64 · width words from L2 and 12 bytes of
// masks a line. Where there are fewer blocks than a GPU has room for, the gathered side is cut into parts,
// whose gradients are added in order.
//
// A number that is not finite makes the gradients of all lines of the other side NaN, as it meets coefficients
// of 0 where nothing is observed; the sweep spoils only what is observed with it.
#pragma once

#include "../task.h"
#include "finish.cuh"
#include "tile_limits.h"
#include "tile_precision.cuh"
#include "workspace.h"

namespace dmf::cuda {

constexpr int tile_threads = 128;
constexpr int warp_lines = 16;
constexpr int target_stride = tile_lines + 8;  // pairs of numbers from different banks
constexpr int target_words = tile_lines * target_stride;

struct TilePass {
  LineOrder order;
  const uint32_t* own;       // prepared
  const uint32_t* gathered;  // prepared
  const void* values;        // row order
  const void* weights;       // row order; null for ones
  Dtype dtype;               // of values and weights
  float* gradient;           // (parts, lines, h)
  int64_t h;
  int64_t own_tiles, tiles_a_part;
  double* losses;  // one a block; null where none are wanted
  float twice_scale;
};

__device__ __forceinline__ float number_at(const void* numbers, Dtype dtype, int64_t place) {
  if (dtype == Dtype::float32) return static_cast<const float*>(numbers)[place];
  if (dtype == Dtype::bfloat16) return to_accumulator(static_cast<const bfloat16*>(numbers)[place]);
  return to_accumulator(static_cast<const float16*>(numbers)[place]);
}

// A warp's part of the masks and targets of a tile.
class TileTargets {
 public:
  // `shared` has room for the targets of a block.
  __device__ __forceinline__ TileTargets(const TilePass& p, float* shared, int64_t first_line, int lane)
      : p_(p),
        shared_(shared + first_line % tile_lines * target_stride),
        first_line_(first_line),
        lane_(lane) {}

  // Writes the targets at observed places to shared memory, two threads a line, 32 places each; and keeps the
  // masks of the two lines whose products this thread has.
  __device__ __forceinline__ void load(int64_t tile) {
    word_ = tile;
    mask_[0] = mask_of(lane_ / 4);
    mask_[1] = mask_of(lane_ / 4 + 8);
    const int row = lane_ / 2, first = lane_ % 2 * 32;
    const uint64_t mask = mask_of(row);
    uint32_t left = static_cast<uint32_t>(mask >> first);
    int64_t entry = left == 0 ? 0 : entry_at(row, mask, first);
    for (; left != 0; left &= left - 1, ++entry) {
      const int column = first + __popcll((left & (0u - left)) - 1u);
      shared_[row * target_stride + column] = number_at(p_.values, p_.dtype, row_entry(entry));
    }
  }

  // Turns products into coefficients, 0 at places that are not observed. Returns this thread's part of the
  // loss: 32 squares at most, which are added in float32 before they join the others in float64.
  __device__ __forceinline__ float replace(TileProducts& products) const {
    return p_.weights == nullptr ? replace_by<false>(products) : replace_by<true>(products);
  }

 private:
  template <bool weighted>
  __device__ __forceinline__ float replace_by(TileProducts& products) const {
    float loss = 0;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const int row = lane_ / 4 + 8 * half, column = 2 * (lane_ % 4);
      const uint64_t mask = mask_[half] >> column;
      const float* targets = shared_ + row * target_stride + column;
#pragma unroll
      for (int n = 0; n < column_groups; ++n) {
#pragma unroll
        for (int k = 0; k < 2; ++k) {
          float& product = products[n][2 * half + k];
          const bool seen = (mask >> (8 * n + k)) & 1;
          // Where nothing is observed the target is rubbish, which may be NaN: selected, not multiplied by 0.
          const float residual = seen ? product - targets[8 * n + k] : 0.0f;
          const float weight = weighted && seen ? weight_at(row, mask_[half], column + 8 * n + k) : 1.0f;
          loss += weight * residual * residual;
          product = p_.twice_scale * weight * residual;
        }
      }
    }
    return loss;
  }

  __device__ __forceinline__ int64_t word_of(int row) const {
    return (first_line_ + row) * p_.order.mask_words + word_;
  }

  __device__ __forceinline__ uint64_t mask_of(int row) const {
    return first_line_ + row < p_.order.lines ? p_.order.masks[word_of(row)] : 0;
  }

  // The first entry of a line, in this order, at or behind a column of the tile.
  __device__ __forceinline__ int64_t entry_at(int row, uint64_t mask, int column) const {
    return p_.order.mask_starts[word_of(row)] + __popcll(mask & ((uint64_t{1} << column) - 1));
  }

  __device__ __forceinline__ int64_t row_entry(int64_t entry) const {
    return p_.order.place == nullptr ? entry : p_.order.place[entry];
  }

  __device__ __forceinline__ float weight_at(int row, uint64_t mask, int column) const {
    return number_at(p_.weights, p_.dtype, row_entry(entry_at(row, mask, column)));
  }

  const TilePass& p_;
  float* shared_;
  const int64_t first_line_;
  const int lane_;
  int64_t word_ = 0;
  uint64_t mask_[2] = {};
};

template <int width>
__device__ __forceinline__ void write_tile_gradient(const TilePass& p, int64_t part, int64_t first_line,
                                                    int lane, const float (&gradient)[width / 8][4]) {
#pragma unroll
  for (int half = 0; half < 2; ++half) {
    const int64_t line = first_line + lane / 4 + 8 * half;
    if (line >= p.order.lines) continue;
    float* row = p.gradient + (part * p.order.lines + line) * p.h;
#pragma unroll
    for (int v = 0; v < width / 8; ++v) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int column = 8 * v + 2 * (lane % 4) + k;
        if (column < p.h) row[column] = gradient[v][2 * half + k];
      }
    }
  }
}

template <class Precision, int width>
__global__ void __launch_bounds__(tile_threads, 2) tile_pass(const TilePass p) {
  uint32_t* shared = reinterpret_cast<uint32_t*>(dynamic_shared());  // two gathered tiles, then targets
  const int lane = threadIdx.x % warp_size;
  const int64_t part = blockIdx.x / p.own_tiles;
  const int64_t first_line = blockIdx.x % p.own_tiles * tile_lines + threadIdx.x / warp_size * warp_lines;
  TileTargets targets(p, reinterpret_cast<float*>(shared + 2 * Precision::shared_words), first_line, lane);
  const typename Precision::Own own(p.own, first_line, lane);
  float gradient[width / 8][4] = {};
  double loss = 0;

  const int64_t first = part * p.tiles_a_part, end = min(first + p.tiles_a_part, p.order.mask_words);
  const auto buffer_of = [&](int64_t tile) { return shared + tile % 2 * Precision::shared_words; };
  if (first < end) Precision::start_copy(buffer_of(first), p.gathered, first);
  end_copy_batch();
  for (int64_t tile = first; tile < end; ++tile) {
    const uint32_t* gathered = buffer_of(tile);
    // The next tile is on its way while this one is used.
    if (tile + 1 < end) Precision::start_copy(buffer_of(tile + 1), p.gathered, tile + 1);
    end_copy_batch();
    targets.load(tile);
    wait_for_copies<1>();
    __syncthreads();
    TileProducts products = {};
    Precision::product(own, gathered, lane, products);
    loss += targets.replace(products);
    Precision::accumulate(products, gathered, lane, gradient);
    __syncthreads();  // both are overwritten next
  }
  write_tile_gradient<width>(p, part, first_line, lane, gradient);
  if (p.losses != nullptr) {
    const double sum = block_sum<tile_threads>(loss);
    if (threadIdx.x == 0) p.losses[blockIdx.x] = sum;
  }
}

// Writes a matrix in the format of `Precision`, zeros behind its h columns and its lines.
template <class Precision>
__global__ void prepare_matrix(const void* matrix, Dtype dtype, int64_t lines, int64_t h, int64_t words,
                               uint32_t* prepared) {
  const int64_t k = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (k >= words) return;
  prepared[k] = Precision::prepare(k, [&](int64_t line, int column) {
    return line < lines && column < h ? number_at(matrix, dtype, line * h + column) : 0.0f;
  });
}

// gradient = Σ partials, in order, over the parts of one side.
template <class T>
struct PartSums {
  const T* partials = nullptr;
  T* gradient = nullptr;
  int64_t parts = 0, numbers = 0;
};

template <class T>
__device__ __forceinline__ void add_parts_at(const PartSums<T>& sums, int64_t k) {
  sums.gradient[k] =
      sum_in_order<T>(sums.parts, [&](int64_t part) { return sums.partials[part * sums.numbers + k]; });
}

template <class T>
__global__ void add_parts(const PartSums<T> rows, const PartSums<T> columns) {
  const int64_t k = static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (k < rows.numbers) {
    add_parts_at(rows, k);
  } else if (k < rows.numbers + columns.numbers) {
    add_parts_at(columns, k - rows.numbers);
  }
}

}  // namespace dmf::cuda
