// The layout builder for 32-bit and 64-bit indices.
#include "layout_build.cuh"

#include "layout_build.h"

namespace dmf::cuda {

template <class Index>
void build_layout(const DeviceLayoutShape& shape, const Index* row_of, const Index* column_of, void* buffer,
                  Workspace& workspace, cudaStream_t stream) {
  LayoutBuild(shape, buffer, workspace, stream).run(row_of, column_of);
}

template void build_layout(const DeviceLayoutShape&, const int32_t*, const int32_t*, void*, Workspace&,
                           cudaStream_t);
template void build_layout(const DeviceLayoutShape&, const int64_t*, const int64_t*, void*, Workspace&,
                           cudaStream_t);

}  // namespace dmf::cuda
