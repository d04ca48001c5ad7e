// The processes that share the rows of a matrix, as seen by one of them. Rows are distributed in blocks; all
// else is replicated bit-identically on every rank.
#pragma once

#include <cstdint>
#include <vector>

#include "number_types.h"

namespace dmf {

// Numbers that every rank has, each its own: float32 or float64.
struct RankVector {
  void* numbers;
  int64_t count;
  Dtype dtype;
};

class Ranks {
 public:
  virtual ~Ranks() = default;

  // Replaces every number by its sum over the ranks, which must be bitwise the same on all of them. All ranks
  // make the same calls in the same order, with as many vectors of the same lengths and types, from the thread
  // that called the run. Those of a run lie where they are as long as the run. May throw: the run is then of no
  // more use.
  virtual void sum(const std::vector<RankVector>& vectors) = 0;
};

}  // namespace dmf
