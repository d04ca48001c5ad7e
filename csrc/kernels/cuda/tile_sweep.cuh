// How tile passes are combined into a sweep: prepare both sides, one pass for each, sums of their parts, loss.
#pragma once

#include "tile_pass.cuh"

namespace dmf::cuda {

// How many tiles of the gathered side a block takes. If there are fewer blocks than the device runs at once,
// the side is cut into as many parts as can run at once.
inline int64_t tiles_a_part(int64_t tiles, int64_t own_blocks, int64_t at_once) {
  return ceil_divide(tiles, std::max<int64_t>(1, at_once / own_blocks));
}

template <int width, bool thrice>
class TileSweep {
  using Tile = Tf32<width, thrice>;

 public:
  TileSweep(const DeviceLayout& layout, Dtype dtype, const Operands& operands, Workspace& workspace,
            cudaStream_t stream)
      : layout_(layout), dtype_(dtype), given_(operands), workspace_(workspace), stream_(stream) {}

  void run(void* loss) {
    const float* a = prepared(given_.a, layout_.shape.rows);
    const float* b_transposed = prepared(given_.b_transposed, layout_.shape.columns);
    Finish end;
    end.h = given_.h;
    end.loss = loss;
    end.scale = given_.loss_scale;
    end.rows = pass(layout_.row_order, a, b_transposed, given_.gradient_a, &end);
    end.columns = pass(layout_.column_order, b_transposed, a, given_.gradient_b_transposed, nullptr);
    launch_finish<float>(end, stream_);
  }

 private:
  static int64_t own_blocks(int64_t lines) { return ceil_divide(lines, Tile::block_lines); }

  const float* prepared(const void* matrix, int64_t lines) {
    const int64_t count = own_blocks(lines) * Tile::block_lines * width;
    float* target = workspace_.take_array<float>(count);
    launch_per_item(prepare_matrix<width, thrice>, count, stream_, matrix, dtype_, lines, given_.h, count,
                    target);
    return target;
  }

  // Values or weights in the order of a pass; null if they are null.
  const float* in_order(const void* numbers, const LineOrder& order) {
    if (numbers == nullptr || (dtype_ == Dtype::float32 && order.place == nullptr))
      return static_cast<const float*>(numbers);
    const int64_t count = layout_.shape.nnz;
    float* target = workspace_.take_array<float>(count);
    launch_per_item(prepare_numbers, count, stream_, numbers, dtype_, order.place, count, target);
    return target;
  }

  // Returns the sums that are left: none if the pass wrote the gradient itself.
  SlotSums pass(const LineOrder& order, const float* own, const float* gathered, void* gradient, Finish* end) {
    TilePass p{};
    p.order = order;
    p.own = own;
    p.gathered = gathered;
    p.targets = in_order(given_.values, order);
    p.weights = in_order(given_.weights, order);
    p.gradient = static_cast<float*>(gradient);
    p.h = given_.h;
    p.twice_scale = static_cast<float>(2.0 * given_.scale);
    constexpr int64_t shared_bytes = 4 * (2 * Tile::tile_words + Tile::block_lines * target_stride);
    // A layout with masks has entries, so neither side is empty.
    const int64_t blocks = own_blocks(order.lines);
    const auto kernel = p.weights == nullptr ? tile_pass<width, thrice, false> : tile_pass<width, thrice, true>;
    const int64_t at_once = blocks_at_once(kernel, tile_threads, shared_bytes);
    p.own_blocks = static_cast<int>(blocks);
    p.tiles_a_part = static_cast<int>(tiles_a_part(order.mask_words, blocks, at_once));
    const int64_t parts = ceil_divide(order.mask_words, p.tiles_a_part);
    SlotSums sums;
    if (parts > 1) {
      p.gradient = workspace_.take_array<float>(parts * order.lines * p.h);
      sums = {nullptr, order.lines, parts, p.gradient, gradient};
    }
    if (end != nullptr) {
      end->loss_count = blocks * parts;
      end->losses = p.losses = workspace_.take_array<double>(end->loss_count);
    }
    launch(kernel, blocks * parts, tile_threads, shared_bytes, stream_, p);
    return sums;
  }

  const DeviceLayout& layout_;
  const Dtype dtype_;
  const Operands& given_;
  Workspace& workspace_;
  cudaStream_t stream_;
};

// For h up to `width`, a multiple of 32.
template <int width>
void tile_sweep_of_width(const DeviceLayout& layout, Dtype dtype, TilePrecision precision,
                         const Operands& operands, void* loss, Workspace& workspace, cudaStream_t stream) {
  if (precision == TilePrecision::tf32) {
    TileSweep<width, false>(layout, dtype, operands, workspace, stream).run(loss);
  } else {
    TileSweep<width, true>(layout, dtype, operands, workspace, stream).run(loss);
  }
}

}  // namespace dmf::cuda
