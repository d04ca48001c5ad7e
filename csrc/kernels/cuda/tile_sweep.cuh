// How the tile passes make a sweep: prepare both sides, a pass for either, the sums of their parts, the loss.
#pragma once

#include "tile_pass.cuh"

namespace dmf::cuda {

template <class Precision, int width>
class TileSweep {
 public:
  // Cuts the gathered side into as many parts as make `blocks_wanted` blocks.
  TileSweep(const DeviceLayout& layout, Dtype dtype, const Operands& operands, Workspace& workspace,
            cudaStream_t stream, int64_t blocks_wanted)
      : layout_(layout),
        dtype_(dtype),
        given_(operands),
        workspace_(workspace),
        stream_(stream),
        blocks_wanted_(blocks_wanted) {}

  void run(void* loss) {
    const uint32_t* a = prepared(given_.a, layout_.shape.rows);
    const uint32_t* b_transposed = prepared(given_.b_transposed, layout_.shape.columns);
    Finish end;
    end.h = given_.h;
    end.loss = loss;
    end.scale = given_.scale;
    end.rows = pass(layout_.row_order, a, b_transposed, given_.gradient_a, &end);
    end.columns = pass(layout_.column_order, b_transposed, a, given_.gradient_b_transposed, nullptr);
    launch_finish<float>(end, stream_);
  }

 private:
  static constexpr int threads = 256;

  static int64_t tiles(int64_t lines) { return ceil_divide(lines, tile_lines); }

  const uint32_t* prepared(const void* matrix, int64_t lines) {
    const int64_t words = tiles(lines) * tile_lines * Precision::words_a_line;
    uint32_t* target = workspace_.take_array<uint32_t>(words);
    launch(prepare_matrix<Precision>, ceil_divide(words, threads), threads, 0, stream_, matrix, dtype_, lines,
           given_.h, words, target);
    return target;
  }

  // Returns the sums that are left: none where the pass wrote the gradient itself.
  SlotSums pass(const LineOrder& order, const uint32_t* own, const uint32_t* gathered, void* gradient,
                Finish* end) {
    TilePass p{};
    p.order = order;
    p.own = own;
    p.gathered = gathered;
    p.values = given_.values;
    p.weights = given_.weights;
    p.dtype = dtype_;
    p.gradient = static_cast<float*>(gradient);
    p.h = given_.h;
    p.twice_scale = static_cast<float>(2.0 * given_.scale);
    p.own_tiles = tiles(order.lines);
    // A layout with masks has entries, so neither side is empty.
    p.tiles_a_part = ceil_divide(order.mask_words, ceil_divide(blocks_wanted_, p.own_tiles));
    const int64_t parts = ceil_divide(order.mask_words, p.tiles_a_part);
    SlotSums sums;
    if (parts > 1) {
      p.gradient = workspace_.take_array<float>(parts * order.lines * p.h);
      sums = {nullptr, order.lines, parts, p.gradient, gradient};
    }
    if (end != nullptr) {
      end->loss_count = p.own_tiles * parts;
      end->losses = p.losses = workspace_.take_array<double>(end->loss_count);
    }
    launch(tile_pass<Precision, width>, p.own_tiles * parts, tile_threads,
           4 * (2 * Precision::shared_words + target_words), stream_, p);
    return sums;
  }

  const DeviceLayout& layout_;
  const Dtype dtype_;
  const Operands& given_;
  Workspace& workspace_;
  cudaStream_t stream_;
  const int64_t blocks_wanted_;
};

// For h up to `width` of a multiple of 32.
template <int width>
void tile_sweep_of_width(const DeviceLayout& layout, Dtype dtype, TilePrecision precision,
                         const Operands& operands, void* loss, Workspace& workspace, cudaStream_t stream,
                         int64_t wanted) {
  switch (precision) {
    case TilePrecision::tf32:
      return TileSweep<Tf32<width, false>, width>(layout, dtype, operands, workspace, stream, wanted).run(loss);
    case TilePrecision::tf32x3:
      return TileSweep<Tf32<width, true>, width>(layout, dtype, operands, workspace, stream, wanted).run(loss);
    case TilePrecision::bfloat16:
      return TileSweep<Bfloat16<width>, width>(layout, dtype, operands, workspace, stream, wanted).run(loss);
  }
}

}  // namespace dmf::cuda
