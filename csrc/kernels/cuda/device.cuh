// Device functions that kernels need in addition to CUDA's own, and `launch`, which starts kernels.
//
// The C++ tests compile the kernels for the CPU: csrc/tests/simt_shim.h, included first, defines everything
// here and the names of CUDA that kernels use.
#pragma once

#include <cstdint>

#ifdef __CUDACC__

#include <cuda_fp16.h>
#include <cuda_runtime.h>

#include <stdexcept>
#include <string>

namespace dmf::cuda {

inline void check(cudaError_t error, const char* what) {
  if (error == cudaSuccess) return;
  std::string reason = cudaGetErrorString(error);
  if (error == cudaErrorNoKernelImageForDevice) {
    reason += "; build dmf_fast again with DMF_FAST_CUDA_ARCHITECTURES set to this GPU's compute capability";
  }
  throw std::runtime_error(std::string("dmf_fast: ") + what + " failed: " + reason);
}

inline int64_t attribute_of_device(cudaDeviceAttr attribute) {
  int device = 0, value = 0;
  check(cudaGetDevice(&device), "getting the device");
  check(cudaDeviceGetAttribute(&value, attribute, device), "getting a device attribute");
  return value;
}

// Shared memory that a block can have on the current device, in bytes.
inline int64_t shared_memory_limit() {
  return attribute_of_device(cudaDevAttrMaxSharedMemoryPerBlockOptin);
}

// Raises the shared memory limit of a kernel above the default. There is one limit per kernel and device, and
// threads may launch the kernel with different sizes concurrently, so the limit is raised to the maximum at
// once and never lowered.
template <class... Parameters>
void allow_shared_memory(void (*kernel)(Parameters...), int64_t bytes) {
  if (bytes <= 48 * 1024) return;
  cudaFuncAttributes kernel_has;
  check(cudaFuncGetAttributes(&kernel_has, kernel), "getting the shared memory of a kernel");
  if (bytes <= kernel_has.maxDynamicSharedSizeBytes) return;
  const int64_t rest = shared_memory_limit() - static_cast<int64_t>(kernel_has.sharedSizeBytes);
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, static_cast<int>(rest)),
        "setting the shared memory of a kernel");
}

// Starts `blocks` blocks of `threads` threads on `stream`; none where `blocks` is 0.
template <class... Parameters, class... Arguments>
void launch(void (*kernel)(Parameters...), int64_t blocks, int threads, int64_t shared_bytes,
            cudaStream_t stream, Arguments... arguments) {
  if (blocks == 0) return;
  if (blocks > 2147483647) throw std::runtime_error("dmf_fast: a kernel needs more than 2**31 - 1 blocks");
  allow_shared_memory(kernel, shared_bytes);
  kernel<<<static_cast<unsigned>(blocks), threads, shared_bytes, stream>>>(arguments...);
  check(cudaGetLastError(), "launching a kernel");
}

// The number of blocks of a kernel that the current device runs at once.
template <class... Parameters>
int64_t blocks_at_once(void (*kernel)(Parameters...), int threads, int64_t shared_bytes) {
  allow_shared_memory(kernel, shared_bytes);
  int blocks = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared_bytes),
        "getting the occupancy of a kernel");
  return blocks * attribute_of_device(cudaDevAttrMultiProcessorCount);
}

inline void fill_bytes(void* target, int byte, int64_t size, cudaStream_t stream) {
  if (size > 0) check(cudaMemsetAsync(target, byte, size, stream), "filling memory");
}

__device__ __forceinline__ unsigned char* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char dynamic_shared_bytes[];
  return dynamic_shared_bytes;
}

// An array in the block's shared memory; a kernel has one.
template <class T, int count>
__device__ __forceinline__ T* shared_array() {
  __shared__ T array[count];
  return array;
}

// 16 bytes at a multiple of 16, in memory that no kernel writes while this one runs.
__device__ __forceinline__ uint4 load_16_bytes(const void* source) {
  return __ldg(static_cast<const uint4*>(source));
}

// first + row · row_bytes in one instruction. The empty instruction stays in its loop and hides that row_bytes
// is loop-invariant: otherwise compilers widen it outside the loop and multiply its 64 bits with three
// instructions.
__device__ __forceinline__ const void* row_at(const void* first, uint32_t row, uint32_t row_bytes) {
  asm volatile("" : "+r"(row_bytes));
  return static_cast<const unsigned char*>(first) + static_cast<uint64_t>(row) * row_bytes;
}

// A number that is read once, so it should not evict others from the caches.
template <class T>
__device__ __forceinline__ T load_once(const T* source) {
  return __ldcs(source);
}

__device__ __forceinline__ float half_to_float(uint16_t bits) {
  return __half2float(__ushort_as_half(bits));
}

}  // namespace dmf::cuda

#endif

namespace dmf::cuda {

// The item of a thread, in kernels with one thread per item.
__device__ __forceinline__ int64_t global_thread() {
  return static_cast<int64_t>(blockIdx.x) * blockDim.x + threadIdx.x;
}

template <class... Parameters, class... Arguments>
void launch_per_item(void (*kernel)(Parameters...), int64_t items, cudaStream_t stream,
                     Arguments... arguments) {
  launch(kernel, (items + 255) / 256, 256, 0, stream, arguments...);
}

}  // namespace dmf::cuda
