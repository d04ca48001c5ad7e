// The tile passes for h up to DMF_WIDTH: compiled once for each, as CMakeLists.txt says.
#include "tile_sweep.cuh"

namespace dmf::cuda {

template void tile_sweep_of_width<DMF_WIDTH>(const DeviceLayout&, Dtype, TilePrecision, const Operands&, void*,
                                             Workspace&, cudaStream_t);

}  // namespace dmf::cuda
