// Prepares runs for descent.cuh on the host: where every array lies, and Ω in the form that blocks read. No
// CUDA.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <vector>

#include "../descent/observed_lines.h"
#include "descent_run.h"

namespace dmf::cuda {

// An array in the course of a step, whose parts are numbered.
struct ArrayUse {
  int64_t bytes;
  int first, last;         // the parts in which it is written first and read last
  double reads;            // how often a step reads each of its numbers
  int64_t home = no_home;  // in the run's memory, for arrays that outlive a launch
};

struct Placement {
  std::vector<Place> places;
  int64_t shared_bytes, memory_bytes;
};

// Goes through the arrays from the most to the least read. Each comes to the lowest place in shared memory,
// from `shared_begin` to `shared_limit`, that no other has at the same time; where there is none, it stays at
// home or comes to the lowest such place in the run's memory from `memory_begin` on, behind all homes. Places
// are multiples of 16 bytes.
Placement place_arrays(const std::vector<ArrayUse>& arrays, int64_t shared_begin, int64_t shared_limit,
                       int64_t memory_begin);

struct RunOptions {
  Rule rule;
  StopRules stop;
  double scale = 1;
  double total_weight = 0;
};

struct BlockPlan {
  BlockRun run;
  int64_t shared_bytes, memory_bytes;
  double cycles;  // of a step, by count (descent.cuh)
};

// Another engine must make the run.
class TooLargeForBlock : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

// Throws TooLargeForBlock, and std::invalid_argument where something is wrong. `number_bytes` is 4 or 8.
BlockPlan plan_block_run(const DescentProgram& program, const RunOptions& options, int64_t nnz, bool weighted,
                         int number_bytes, int64_t shared_limit);

// Writes the run to its memory, and Ω to its homes there. Values and weights, null for none, are in the
// caller's order.
template <class T>
void write_run(const BlockRun& run, const ObservedLines& lines, const T* values, const T* weights,
               unsigned char* memory);

}  // namespace dmf::cuda
