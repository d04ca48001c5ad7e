// The sweep for one storage type, DMF_STORAGE; CMakeLists.txt compiles it once for each.
#include "sweep.cuh"

namespace dmf::cuda {

template void sweep<DMF_STORAGE>(const DeviceLayout&, Task, const Operands&, void*, Workspace&, cudaStream_t,
                                 int64_t);

}  // namespace dmf::cuda
