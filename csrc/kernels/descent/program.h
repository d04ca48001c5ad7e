// What one step of gradient descent on a chain W_N … W_1 computes, as data; the same on every device.
//
// Matrices are numbered: first the factors, then the products of them that a plan forms. To the left of the
// split a factor is stored as W_j, to the right as W_jᵀ, so that both sides end in matrices with h columns: A
// of shape (m, h) and Bᵀ of shape (n, h). Every product is then left · right of two stored matrices, without
// transposes, and every matrix but the last is an operand once, so gradients are set, never accumulated:
//
//   forward    X_result = X_left · X_right                         in the order of `products`
//   at Ω       loss, dA and dBᵀ from A and Bᵀ                      (kernels of the device)
//   backward   dX_left = dX_result · X_rightᵀ, dX_right = X_leftᵀ · dX_result      in the reverse order
//   update     X_factor from dX_factor, and biases from their gradients, by `Rule`
//
// If the matrix itself is formed, there is no Bᵀ, and A is W.
#pragma once

#include <cstdint>
#include <vector>

namespace dmf {

struct Matrix {
  int64_t rows, columns;
};

struct Product {
  int left, right, result;  // numbers of matrices
};

constexpr int no_matrix = -1;

struct DescentProgram {
  int factors = 0;               // matrices 0 … factors − 1
  std::vector<Matrix> matrices;  // factors + products
  std::vector<Product> products;
  int a = no_matrix;             // (m, h), or W of shape (m, n) if it is formed
  int b_transposed = no_matrix;  // (n, h)

  bool forms_product() const { return b_transposed == no_matrix; }

  // Which matrices have the rows of W: A and the left operands that it is computed from, including one factor.
  // The gradients of all others are sums over the rows.
  std::vector<bool> with_rows() const {
    std::vector<bool> with(matrices.size(), false);
    with[a] = true;
    for (auto product = products.rbegin(); product != products.rend(); ++product) {
      if (with[product->result]) with[product->left] = true;
    }
    return with;
  }
};

enum class RuleKind : int {
  gradient_descent = 0,
  group_rmsprop = 1,
  adam = 2,
  adaptive_gradient_descent = 3,
  preconditioned_lbfgs = 4
};

// How parameters x are updated with their gradients g. First, if ‖g‖, the norm over all parameters, exceeds
// gradient_clip, g is multiplied by gradient_clip / (‖g‖ + 1e-6); then d = g + weight_decay · x, with
// bias_weight_decay for biases:
//   gradient_descent            v ← momentum · v + d (v ← d in the first step);  x ← x − lr · v
//   group_rmsprop               s ← alpha · s + (1 − alpha) · ‖d‖²;
//                               x ← x − lr / (sqrt(s / (1 − alpha^t)) + eps) · d
//   adam                        u ← beta1 · u + (1 − beta1) · d;  v ← beta2 · v + (1 − beta2) · d²;
//                               x ← x − lr / (1 − beta1^t) · u / (sqrt(v) / sqrt(1 − beta2^t) + eps)
//   adaptive_gradient_descent   x ← x − lr · s · d, s from the curvature between the last two points
//                               (dmf_fast/optim/adaptive_gradient_descent.py)
//   preconditioned_lbfgs        with decay_rate, decay_after, concavity and knee, unclipped (cpu/lbfgs.h)
// where t counts steps from 1. Moments start at zero and have the type of the factors; s is a double.
struct Rule {
  RuleKind kind = RuleKind::gradient_descent;
  double lr = 0;
  double weight_decay = 0;
  double momentum = 0;
  double alpha = 0;
  double beta1 = 0, beta2 = 0;
  double eps = 0;
  double bias_weight_decay = 0;
  double gradient_clip = 0;  // 0: none
  double decay_rate = 1, decay_after = 0, concavity = 0, knee = 1;

  // How many arrays of the shape of the parameters the rule keeps from step to step.
  int moments() const {
    if (kind == RuleKind::adam || kind == RuleKind::preconditioned_lbfgs) return 2;
    return kind == RuleKind::adaptive_gradient_descent || (kind == RuleKind::gradient_descent && momentum != 0)
               ? 1
               : 0;
  }
};

// When a run ends before its last step; the loss is the weighted mean.
struct StopRules {
  double train_loss = -1;     // at most this; below 0 never
  double gradient_norm = -1;  // of all gradients together, at most this; below 0 never
};

enum class Outcome : int {
  reached = 0,
  paused = 1,
  train_loss_threshold = 2,
  gradient_norm_threshold = 3,
  diverged = 4
};

}  // namespace dmf
