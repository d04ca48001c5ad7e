// Products of small matrices on the tensor cores of a warp (PTX ISA, "mma.sync.aligned.m16n8k8" and
// "m16n8k16"), and copies to shared memory that run beside them. Compute capability 8.0 and later.
//
// Thread `lane` has group = lane / 4 and member = lane % 4. Of the 16 × 8 result it holds
//   d[0], d[1]: row group, columns 2 member and 2 member + 1;   d[2], d[3]: the same of row group + 8.
#pragma once

#include "device.cuh"

#ifdef __CUDACC__

namespace dmf::cuda {

// d += a · b for a 16 × 8 and b 8 × 8 of TF32, whose lowest 13 bits are ignored.
//   a[0]: row group, column member; a[1]: row group + 8; a[2], a[3]: the same of column member + 4
//   b[0]: row member, column group; b[1]: row member + 4
__device__ __forceinline__ void mma_tf32(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// d += a · b for a 16 × 16 and b 16 × 8 of bfloat16, two in a word, the earlier in the lower half.
//   a[0]: row group, columns 2 member and 2 member + 1; a[1]: row group + 8; a[2], a[3]: the same 8 columns on
//   b[0]: rows 2 member and 2 member + 1, column group; b[1]: 8 rows on
__device__ __forceinline__ void mma_bfloat16(float (&d)[4], const uint32_t (&a)[4], const uint32_t (&b)[2]) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, "
      "{%0,%1,%2,%3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

// Starts to copy 16 bytes from global to shared memory, both at multiples of 16.
__device__ __forceinline__ void copy_16_bytes_async(void* shared, const void* global) {
  const unsigned address = static_cast<unsigned>(__cvta_generic_to_shared(shared));
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(address), "l"(global) : "memory");
}

// Ends the batch of copies that this thread has started since the last call.
__device__ __forceinline__ void end_copy_batch() {
  asm volatile("cp.async.commit_group;" ::: "memory");
}

// Waits for this thread's batches but the last `but`.
template <int but>
__device__ __forceinline__ void wait_for_copies() {
  asm volatile("cp.async.wait_group %0;" ::"n"(but) : "memory");
}

__device__ __forceinline__ uint32_t round_to_tf32(float number) {
  uint32_t bits;
  asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(bits) : "f"(number));
  return bits;
}

// Two numbers rounded to nearest in one word.
__device__ __forceinline__ uint32_t pack_bfloat16(float earlier, float later) {
  uint32_t bits;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(bits) : "f"(later), "f"(earlier));
  return bits;
}

}  // namespace dmf::cuda

#endif
