// What passes read of an entry.
#pragma once

#include "device_layout.h"
#include "numbers.cuh"

namespace dmf::cuda {

// The gathered line of the entry at `place` of an order.
__device__ __forceinline__ int32_t gathered_line(const LineOrder& order, const Segment& segment,
                                                 int64_t place) {
  const uint32_t index = order.wide ? load_once(static_cast<const uint32_t*>(order.index) + place)
                                    : load_once(static_cast<const uint16_t*>(order.index) + place);
  return segment.first_line + static_cast<int32_t>(index);
}

// The number of the entry at `row_entry` of row order.
template <class Storage>
__device__ __forceinline__ accumulator_t<Storage> number_of(const void* numbers, int64_t row_entry) {
  return to_accumulator(static_cast<const Storage*>(numbers)[row_entry]);
}

// Its weight; 1 where there are none.
template <class Storage>
__device__ __forceinline__ accumulator_t<Storage> weight_of(const void* weights, int64_t row_entry) {
  return weights == nullptr ? accumulator_t<Storage>(1) : number_of<Storage>(weights, row_entry);
}

}  // namespace dmf::cuda
