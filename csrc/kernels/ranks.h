// The processes that share the rows of a matrix, as seen by one of them. Rows are distributed in blocks;
// everything else is replicated bit-identically on every rank.
#pragma once

#include <cstdint>
#include <vector>

#include "number_types.h"

namespace dmf {

// A vector of which every rank has its own: float32 or float64.
struct RankVector {
  void* numbers;
  int64_t count;
  Dtype dtype;
};

class Ranks {
 public:
  virtual ~Ranks() = default;

  // Replaces every number with its sum over the ranks, which must be bit-identical on all of them. All ranks
  // make the same calls in the same order, with the same number of vectors of the same lengths and types, from
  // the thread that called the run. The vectors keep their addresses for the whole run. May throw; the run is
  // then unusable.
  virtual void sum(const std::vector<RankVector>& vectors) = 0;
};

}  // namespace dmf
