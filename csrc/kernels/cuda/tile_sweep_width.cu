// The tile passes for h up to DMF_WIDTH; CMakeLists.txt compiles them once for each.
#include "tile_sweep.cuh"

namespace dmf::cuda {

template void tile_sweep_of_width<DMF_WIDTH>(const DeviceLayout&, Dtype, TilePrecision, const Operands&, void*,
                                             Workspace&, cudaStream_t);

}  // namespace dmf::cuda
