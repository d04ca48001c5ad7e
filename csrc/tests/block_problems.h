// Problems for runs of CUDA blocks and their plans.
#pragma once

#include "descent_problems.h"

namespace dmf::test {

constexpr int64_t roomy = 227 * 1024;  // shared memory of a block, in bytes

inline Rule gradient_descent(double lr, double momentum = 0, double weight_decay = 0) {
  Rule rule;
  rule.lr = lr;
  rule.momentum = momentum;
  rule.weight_decay = weight_decay;
  return rule;
}

inline Rule group_rmsprop(double lr, double weight_decay = 0) {
  Rule rule = gradient_descent(lr, 0, weight_decay);
  rule.kind = RuleKind::group_rmsprop;
  rule.alpha = 0.9;
  rule.eps = 1e-6;
  return rule;
}

inline Rule adam(double lr, double weight_decay = 0) {
  Rule rule = gradient_descent(lr, 0, weight_decay);
  rule.kind = RuleKind::adam;
  rule.beta1 = 0.9;
  rule.beta2 = 0.99;
  rule.eps = 1e-6;
  return rule;
}

inline DescentProblem problem_of(int64_t rows, int64_t columns, int64_t nnz, const std::vector<int64_t>& hidden,
                                 Rule rule, bool weighted = false, unsigned seed = 1) {
  std::vector<int64_t> widths{columns};
  widths.insert(widths.end(), hidden.begin(), hidden.end());
  widths.push_back(rows);
  DescentProblem problem(random_pattern(rows, columns, nnz, 1.5, seed), widths, weighted, seed);
  problem.rule = rule;
  return problem;
}

}  // namespace dmf::test
