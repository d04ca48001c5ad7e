// Builds the layout of device_layout.h on the device.
#pragma once

#include <cuda_runtime_api.h>

#include "device_layout.h"
#include "workspace.h"

namespace dmf::cuda {

// Writes the layout of distinct pairs within range, given on the device as int32 or int64, to a buffer of
// shape.bytes bytes. Only enqueues work on `stream`.
template <class Index>
void build_layout(const DeviceLayoutShape& shape, const Index* row_of, const Index* column_of, void* buffer,
                  Workspace& workspace, cudaStream_t stream);

extern template void build_layout(const DeviceLayoutShape&, const int32_t*, const int32_t*, void*, Workspace&,
                                  cudaStream_t);
extern template void build_layout(const DeviceLayoutShape&, const int64_t*, const int64_t*, void*, Workspace&,
                                  cudaStream_t);

}  // namespace dmf::cuda
