// Sorting and running sums on the device, by CUB.
//
// The C++ tests have their own versions in csrc/tests/simt_shim.h.
#pragma once

#include "device.cuh"
#include "workspace.h"

namespace dmf::cuda {

// Keys with a number each, and a second buffer of the same size.
struct PairBuffers {
  uint64_t *keys, *other_keys;
  uint32_t *numbers, *other_numbers;
};

}  // namespace dmf::cuda

#ifdef __CUDACC__

#include <cub/device/device_radix_sort.cuh>
#include <cub/device/device_scan.cuh>

namespace dmf::cuda {

// Sorts the pairs by the lowest `bits` bits of their keys; afterwards they are in keys and numbers again.
inline void sort_pairs(PairBuffers& pairs, int64_t count, int bits, Workspace& workspace, cudaStream_t stream) {
  cub::DoubleBuffer<uint64_t> keys(pairs.keys, pairs.other_keys);
  cub::DoubleBuffer<uint32_t> numbers(pairs.numbers, pairs.other_numbers);
  size_t bytes = 0;
  check(cub::DeviceRadixSort::SortPairs(nullptr, bytes, keys, numbers, count, 0, bits, stream),
        "planning a sort");
  void* scratch = workspace.take(static_cast<int64_t>(bytes));
  check(cub::DeviceRadixSort::SortPairs(scratch, bytes, keys, numbers, count, 0, bits, stream), "sorting");
  pairs = {keys.Current(), keys.Alternate(), numbers.Current(), numbers.Alternate()};
}

// Replaces every number with the sum of those before it.
inline void exclusive_sums(int64_t* numbers, int64_t count, Workspace& workspace, cudaStream_t stream) {
  size_t bytes = 0;
  check(cub::DeviceScan::ExclusiveSum(nullptr, bytes, numbers, numbers, count, stream),
        "planning running sums");
  void* scratch = workspace.take(static_cast<int64_t>(bytes));
  check(cub::DeviceScan::ExclusiveSum(scratch, bytes, numbers, numbers, count, stream), "running sums");
}

}  // namespace dmf::cuda

#endif
