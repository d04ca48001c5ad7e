// Products of small matrices on the tensor cores of a warp (PTX ISA, "mma.sync.aligned.m16n8k8"), and copies to
// shared memory that run concurrently. Compute capability 8.0 and later.
//
// Thread `lane` has group = lane / 4 and member = lane % 4. Of the 16 × 8 result it holds
//   d[0], d[1]: row group, columns 2 member and 2 member + 1;   d[2], d[3]: the same of row group + 8.
#pragma once

#include "device.cuh"

#ifdef __CUDACC__

namespace dmf::cuda {

// d += a · b for a 16 × 8 and b 8 × 8 in TF32, as one of the next two functions produces them.
//   a[0]: row group, column member; a[1]: row group + 8; a[2], a[3]: the same of column member + 4
//   b[0]: row member, column group; b[1]: row member + 4
__device__ __forceinline__ void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// To nearest.
__device__ __forceinline__ uint32_t round_to_tf32(float number) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(number));
  return bits;
}

// Toward zero. `volatile` keeps loop-invariant parts inside the loop: outside, they would fill the registers.
__device__ __forceinline__ uint32_t truncate_to_tf32(float number) {
  uint32_t bits;
  asm volatile("and.b32 %0, %1, 0xffffe000;" : "=r"(bits) : "r"(__float_as_uint(number)));
  return bits;
}

// Start copies from global to shared memory, both aligned to the size of the copy.
__device__ __forceinline__ void copy_16_bytes_async(void* shared, const void* global) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
}

__device__ __forceinline__ void copy_4_bytes_async(void* shared, const void* global) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(address), "l"(global) : "memory");
}

// Waits for all copies that this thread has started.
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_all;" ::: "memory");
}

}  // namespace dmf::cuda

#endif
