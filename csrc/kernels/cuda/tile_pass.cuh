// The dense-tile path: where Ω is dense, products of whole tiles on the tensor cores beat gathers of single
// rows.
//
// In a pass every block owns 64 or 128 lines of the own side (A in the row pass, Bᵀ in the column pass), 16 or
// 32 per warp, and walks over tiles of 64 lines of the gathered side. It multiplies its lines with those of a
// tile and keeps, in registers, the products at observed places minus their targets. These residuals, times the
// gathered tile, are added to the gradient of the own side, also in registers. Nothing of size m × n ever
// reaches memory. The observed places are the bits of one word per line and tile; the targets of the bits of a
// word are contiguous.
//
// While a tile is used, the next one and its targets are copied to shared memory, and the masks of the one
// after that are loaded; only weights are copied when they are needed, over the targets.
//
// Two passes compute the gradients of both sides, with 4·m·n·h flops each: the second recomputes the products
// instead of adding to shared sums, so there are no atomics. A tile reads 64 · width words from L2, and a line
// of it 12 bytes of masks and 4 per entry. If there are fewer blocks than a GPU can run at once, the gathered
// side is cut into parts, whose gradients are added in order.
//
// A number that is not finite makes the gradients of all lines of the other side NaN, as it is multiplied with
// coefficients of 0 where nothing is observed; in the sweep it affects only what is observed with it.
#pragma once

#include "../task.h"
#include "finish.cuh"
#include "tile_limits.h"
#include "tile_precision.cuh"
#include "workspace.h"

namespace dmf::cuda {

constexpr int target_stride = tile_lines + 8;  // pairs of numbers from different banks

struct TilePass {
  LineOrder order;
  const float* own;       // prepared
  const float* gathered;  // prepared
  const float* targets;   // in this order
  const float* weights;   // in this order; null for ones
  float* gradient;        // (parts, lines, h)
  int64_t h;
  int own_blocks, tiles_a_part;
  double* losses;  // one per block; null if not wanted
  float twice_scale;
};

// The observed places of a line in a tile.
struct Observed {
  uint64_t mask = 0;
  uint32_t start = 0;  // entry of the mask's first bit
};

// The targets of `lines` lines of a warp, at their columns of a tile, each line followed by its mask.
template <int lines>
class TileTargets {
  static constexpr int threads_a_line = warp_size / lines;

 public:
  // `shared` has room for those of a block.
  __device__ __forceinline__ TileTargets(const TilePass& p, float* shared, int64_t first_line, int end,
                                         int lane)
      : p_(p),
        shared_(shared + threadIdx.x / warp_size * lines * target_stride),
        first_word_((first_line + lane / threads_a_line) * p.order.mask_words),
        end_(first_line + lane / threads_a_line < p.order.lines ? end : 0),
        lane_(lane) {}

  // Loads the mask of this thread's line.
  __device__ __forceinline__ void fetch(int tile) {
    fetched_ = {};
    if (tile < end_) fetched_ = {p_.order.masks[first_word_ + tile], p_.order.mask_starts[first_word_ + tile]};
  }

  // Copies the targets of a tile whose masks were fetched, and fetches the masks of the next.
  __device__ __forceinline__ void start_copy(int tile) {
    if (lane_ % threads_a_line == 0) *observed_of(own_line()) = fetched_;
    start_copy(p_.targets, fetched_);
    fetch(tile + 1);
  }

  // Turns products into residuals times weights, 0 at places that are not observed. Returns this thread's part
  // of the loss: 64 squares at most, which are added in float32 before they join the others in float64.
  // Afterwards the warp may overwrite its targets.
  template <bool weighted, int row_groups>
  __device__ __forceinline__ float replace(TileNumbers<row_groups, column_groups>& products) const {
    float loss = 0;
    // Where nothing is observed the target is garbage, which may be NaN: selected, not multiplied by 0.
    for_places(products, [&](float& product, bool seen, float target) {
      product = seen ? product - target : 0.0f;
      loss += product * product;
    });
    __syncwarp();
    if constexpr (!weighted) return loss;
    start_copy(p_.weights, *observed_of(own_line()));
    wait_for_copies();
    __syncwarp();
    loss = 0;
    for_places(products, [&](float& product, bool seen, float weight) {
      const float residual = product;
      product = seen ? weight * residual : 0.0f;
      loss += product * residual;
    });
    __syncwarp();
    return loss;
  }

 private:
  // The line whose mask this thread fetches. One or two threads copy its targets.
  __device__ __forceinline__ float* own_line() const {
    return shared_ + lane_ / threads_a_line * target_stride;
  }

  static __device__ __forceinline__ Observed* observed_of(float* line) {
    return reinterpret_cast<Observed*>(line + tile_lines);
  }

  __device__ __forceinline__ void start_copy(const float* numbers, const Observed& observed) const {
    int first = lane_ % threads_a_line * 32;
    numbers += observed.start + (first == 0 ? 0 : __popcll(observed.mask & 0xffffffffu));
#pragma unroll 1
    for (; first < tile_lines; first += 32 * threads_a_line) {
#pragma unroll 1
      for (uint32_t left = static_cast<uint32_t>(observed.mask >> first); left != 0; left &= left - 1)
        copy_4_bytes_async(own_line() + first + __popc(~left & (left - 1)), numbers++);
    }
  }

  // Calls use(product, whether it is observed, what was copied for it).
  template <int row_groups, class Use>
  __device__ __forceinline__ void for_places(TileNumbers<row_groups, column_groups>& products,
                                             const Use& use) const {
#pragma unroll
    for (int half = 0; half < 2 * row_groups; ++half) {
      float* line = shared_ + (8 * half + lane_ / 4) * target_stride;
      const int column = 2 * (lane_ % 4);
      const uint64_t mask = observed_of(line)->mask >> column;
#pragma unroll
      for (int n = 0; n < column_groups; ++n) {
        const Pair pair = pair_at(line + column + 8 * n);
#pragma unroll
        for (int k = 0; k < 2; ++k)
          use(products[half / 2][n][half % 2 * 2 + k], (mask >> (8 * n + k) & 1) != 0, pair.number[k]);
      }
    }
  }

  const TilePass& p_;
  float* shared_;
  const int64_t first_word_;
  const int end_, lane_;
  Observed fetched_;
};

template <class Tile>
__device__ __forceinline__ void write_tile_gradient(const TilePass& p, int64_t part, int64_t first_line,
                                                    int lane, const typename Tile::Own& gradient) {
#pragma unroll
  for (int half = 0; half < 2 * Tile::row_groups; ++half) {
    const int64_t line = first_line + 8 * half + lane / 4;
    if (line >= p.order.lines) continue;
    float* row = p.gradient + (part * p.order.lines + line) * p.h;
#pragma unroll
    for (int v = 0; v < Tile::groups; ++v) {
#pragma unroll
      for (int k = 0; k < 2; ++k) {
        const int column = 8 * v + 2 * (lane % 4) + k;
        if (column < p.h) row[column] = p.twice_scale * gradient[half / 2][v][half % 2 * 2 + k];
      }
    }
  }
}

template <int width, bool thrice, bool weighted>
__global__ void __launch_bounds__(tile_threads, 2) tile_pass(const TilePass p) {
  using Tile = Tf32<width, thrice>;
  float* shared = reinterpret_cast<float*>(dynamic_shared());  // two gathered tiles, then targets
  const int lane = threadIdx.x % warp_size;
  const int part = blockIdx.x / p.own_blocks;
  const uint32_t first_line =
      blockIdx.x % p.own_blocks * Tile::block_lines + threadIdx.x / warp_size * Tile::warp_lines;
  const int first = part * p.tiles_a_part;
  const int end = min(first + p.tiles_a_part, static_cast<int>(p.order.mask_words));
  TileTargets<Tile::warp_lines> targets(p, shared + 2 * Tile::tile_words, first_line, end, lane);
  typename Tile::Own own, gradient = {};
  Tile::load(own, p.own, first_line, lane);
  double loss = 0;

  const auto buffer_of = [&](int tile) { return shared + tile % 2 * Tile::tile_words; };
  targets.fetch(first);
  targets.start_copy(first);
  if (first < end) Tile::start_copy(buffer_of(first), p.gathered, first);
  for (int tile = first; tile < end; ++tile) {
    wait_for_copies();
    __syncthreads();  // all copies are done, and no thread uses the previous tile, which is overwritten
    if (tile + 1 < end) Tile::start_copy(buffer_of(tile + 1), p.gathered, tile + 1);
    typename Tile::Products products = {};
    Tile::product(own, buffer_of(tile), lane, products);
    loss += targets.template replace<weighted>(products);
    targets.start_copy(tile + 1);
    Tile::accumulate(products, buffer_of(tile), lane, gradient);
  }
  write_tile_gradient<Tile>(p, part, first_line, lane, gradient);
  if (p.losses != nullptr) {
    const double sum = block_sum<tile_threads>(loss);
    if (threadIdx.x == 0) p.losses[blockIdx.x] = sum;
  }
}

__device__ __forceinline__ float number_at(const void* numbers, Dtype dtype, int64_t place) {
  if (dtype == Dtype::float32) return number_of<float>(numbers, place);
  if (dtype == Dtype::bfloat16) return number_of<bfloat16>(numbers, place);
  return number_of<float16>(numbers, place);
}

// Writes a matrix with `count` numbers in the format of a pass, with zeros past its h columns and its lines.
template <int width, bool thrice>
__global__ void prepare_matrix(const void* matrix, Dtype dtype, int64_t lines, int64_t h, int64_t count,
                               float* prepared) {
  const int64_t k = global_thread();
  if (k >= count) return;
  const int64_t line = k / width, column = k % width;
  const float number = line < lines && column < h ? number_at(matrix, dtype, line * h + column) : 0.0f;
  prepared[k] = Tf32<width, thrice>::rounded(number);
}

// Writes values or weights, given in row order, in the order of a pass.
static __global__ void prepare_numbers(const void* numbers, Dtype dtype, const uint32_t* place, int64_t count,
                                       float* prepared) {
  const int64_t k = global_thread();
  if (k < count) prepared[k] = number_at(numbers, dtype, place == nullptr ? k : place[k]);
}

}  // namespace dmf::cuda
