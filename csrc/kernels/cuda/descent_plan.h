// Prepares runs for descent.cuh on the host: the places of all arrays, and Ω in the format of blocks. Contains
// no CUDA.
#pragma once

#include <cstdint>
#include <stdexcept>

#include "../descent/observed_lines.h"
#include "descent_run.h"

namespace dmf::cuda {

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

// The run needs another engine.
class TooLargeForBlock : public std::invalid_argument {
 public:
  using std::invalid_argument::invalid_argument;
};

// Throws TooLargeForBlock, and std::invalid_argument for invalid arguments. `number_bytes` is 4 or 8.
BlockPlan plan_block_run(const DescentProgram& program, const RunOptions& options, int64_t nnz, bool weighted,
                         int number_bytes, int64_t shared_limit);

// Writes the run and Ω to the run's memory. Values and weights, null for none, are in the caller's order.
template <class T>
void write_run(const BlockRun& run, const ObservedLines& lines, const T* values, const T* weights,
               unsigned char* memory);

}  // namespace dmf::cuda
