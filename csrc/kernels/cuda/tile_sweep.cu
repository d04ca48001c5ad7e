// The tile passes for all h; each width is compiled from tile_sweep_width.cu.
#include "tile_sweep.h"

namespace dmf::cuda {

template <int width>
void tile_sweep_of_width(const DeviceLayout& layout, Dtype dtype, TilePrecision precision,
                         const Operands& operands, void* loss, Workspace& workspace, cudaStream_t stream);

void tile_sweep(const DeviceLayout& layout, Dtype dtype, TilePrecision precision, const Operands& operands,
                void* loss, Workspace& workspace, cudaStream_t stream) {
  const auto run = [&](auto sweep) { sweep(layout, dtype, precision, operands, loss, workspace, stream); };
  if (operands.h <= 32) return run(tile_sweep_of_width<32>);
  if (operands.h <= 64) return run(tile_sweep_of_width<64>);
  if (operands.h <= 96) return run(tile_sweep_of_width<96>);
  run(tile_sweep_of_width<128>);
}

}  // namespace dmf::cuda
