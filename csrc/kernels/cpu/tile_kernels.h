// Kernels of each instruction set: one function per task and dtype, which processes one tile of Ω.
#pragma once

#include <cstdint>

#include "../number_types.h"
#include "../observed_layout.h"
#include "../task.h"

namespace dmf {

// Kernels write whole groups at the end of a tile's coefficients.
constexpr int64_t coefficient_slack = 8;

// Processes one tile and returns its part of the loss. `buffer` has room for one accumulator for every entry of
// the layout's largest tile, plus coefficient_slack. Gradients are accumulated.
using TileFunction = double (*)(const LayoutView& layout, int64_t tile, const Operands& operands, void* buffer);

// The format of the rows of A and Bᵀ (prepared_operands.h): h is a multiple of width · vectors, and
// the numbers of a unit of `vectors` vectors alternate: the first of each, the second of each, and so on.
struct SliceShape {
  int width, vectors;
};

struct TileKernels {
  SliceShape shape[dtype_count];
  TileFunction function[task_count][dtype_count];
};

namespace generic {
extern const TileKernels tile_kernels;
}
namespace avx2 {
extern const TileKernels tile_kernels;
}
namespace avx512 {
extern const TileKernels tile_kernels;
}

}  // namespace dmf
