// What the instruction sets offer: one function per task and dtype that processes one tile of Ω.
#pragma once

#include <cstdint>

#include "../number_types.h"
#include "../observed_layout.h"

namespace dmf {

// What a pass over Ω computes. A is (m, h), Bᵀ is (n, h), both row-major and contiguous.
enum class Task : int {
  product = 0,         // products[position] = A[i]·B[:,j]
  loss = 1,            // Σ w (A[i]·B[:,j] − b)²
  loss_gradients = 2,  // the same, and the gradients of gradient_scale × loss
  gradients = 3,       // dA = G·Bᵀᵀ and dBᵀ = Gᵀ·A for coefficients G on Ω given in the caller's order
};
constexpr int task_count = 4;

inline bool writes_gradients(Task task) {
  return task == Task::loss_gradients || task == Task::gradients;
}

// Pointers to A, Bᵀ and values in the storage dtype, to everything else in its accumulator type.
struct Operands {
  const void* a = nullptr;
  const void* b_transposed = nullptr;
  int64_t h = 0;
  const void* values = nullptr;        // row order
  const void* weights = nullptr;       // row order; null for ones
  const void* coefficients = nullptr;  // caller's order
  void* products = nullptr;            // caller's order
  void* gradient_a = nullptr;
  void* gradient_b_transposed = nullptr;
  double gradient_scale = 1.0;
};

// Kernels write whole groups at the end of a tile's coefficients.
constexpr int64_t coefficient_slack = 8;

// Processes one tile and returns its part of the loss. `buffer` has room for one accumulator for every entry of
// the layout's largest tile, plus coefficient_slack. Gradients are added to.
using TileFunction = double (*)(const LayoutView& layout, int64_t tile, const Operands& operands, void* buffer);

// What a kernel expects of the rows of A and Bᵀ (prepared_operands.h): h is a multiple of width · vectors, and
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
