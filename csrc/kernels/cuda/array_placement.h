// Places the arrays of a block's run in shared memory or in the memory of the run. Arrays that are not live at
// the same time may share a place.
#pragma once

#include <cstdint>
#include <vector>

#include "descent_run.h"

namespace dmf::cuda {

// Where the next array may begin.
inline int64_t aligned(int64_t bytes) {
  return (bytes + 15) / 16 * 16;
}

// The use of an array within a step, whose parts are numbered.
struct ArrayUse {
  int64_t bytes;
  int first, last;         // the part that writes it first and the part that reads it last
  double reads;            // how often a step reads each number
  int64_t home = no_home;  // in the run's memory, for arrays that outlive a launch
};

struct Placement {
  std::vector<Place> places;
  int64_t shared_bytes, memory_bytes;
};

// Goes through the arrays from the most to the least read. Each gets the lowest place in shared memory, from
// `shared_begin` to `shared_limit`, that no other has at the same time. If there is none, it stays at home or
// gets the lowest such place in the run's memory, from `memory_begin`, past all homes. Places are multiples of
// 16 bytes.
Placement place_arrays(const std::vector<ArrayUse>& arrays, int64_t shared_begin, int64_t shared_limit,
                       int64_t memory_begin);

}  // namespace dmf::cuda
