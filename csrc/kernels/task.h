// What a pass over Ω computes, and its operands; on every device.
#pragma once

#include <cstdint>

namespace dmf {

// What a pass over Ω computes. A is (m, h), Bᵀ is (n, h), both row-major and contiguous.
enum class Task : int {
  product = 0,         // products[position] = A[i]·B[:,j]
  loss = 1,            // loss_scale · Σ w (A[i]·B[:,j] + biases − b)²
  loss_gradients = 2,  // the same, and the gradients of scale · Σ
  gradients = 3,       // dA = G·Bᵀᵀ and dBᵀ = Gᵀ·A for coefficients G on Ω given in the caller's order
};
constexpr int task_count = 4;

inline bool writes_gradients(Task task) {
  return task == Task::loss_gradients || task == Task::gradients;
}

inline bool reads_positions(Task task) {
  return task == Task::product || task == Task::gradients;
}

// A, Bᵀ, values and weights have the storage dtype, everything else its accumulator type.
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
  double scale = 1.0;       // of the gradients of the loss
  double loss_scale = 1.0;  // of the loss itself: 1 in native runs, which report Σ and minimize scale · Σ

  // The biases of a prediction are row_bias[i] + column_bias[j] + offset, in tasks with a loss and on the CPU
  // only. Both vectors or neither, and no offset without them. Their gradients, sums of the coefficients of a
  // row or column, are set with the others if they are not null.
  const void* row_bias = nullptr;     // (m,)
  const void* column_bias = nullptr;  // (n,)
  double offset = 0.0;
  void* gradient_row_bias = nullptr;
  void* gradient_column_bias = nullptr;
};

// The matrix (row-major), values and weights have the storage dtype, the gradient its accumulator type. Values
// and weights are in row order.
struct DenseOperands {
  const void* dense = nullptr;
  const void* values = nullptr;
  const void* weights = nullptr;  // null for ones
  void* gradient = nullptr;       // m × n; null if not wanted
  double scale = 1.0;             // of the loss and its gradient
};

}  // namespace dmf
