// What passes read of an entry.
#pragma once

#include "device_layout.h"
#include "numbers.cuh"

namespace dmf::cuda {

// The gathered line of the entry at `place` of an order, less the first of its block.
__device__ __forceinline__ uint32_t index_of(const LineOrder& order, int64_t place) {
  return order.wide ? load_once(static_cast<const uint32_t*>(order.index) + place)
                    : load_once(static_cast<const uint16_t*>(order.index) + place);
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
