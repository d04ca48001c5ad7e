// Preconditioned L-BFGS with a memory of one step, for W = W_2 · W_1 with biases or without.
//
// It minimizes loss + Σ_k φ(t_k) + bias_weight_decay / 2 · ‖biases‖², where t_k = (‖a_k‖² + ‖b_k‖²) / 2 is the
// size of column k of W_2 and row k of W_1, and φ a concave decay:
//
//   φ'(t) = weight_decay · decay_rate^max(0, step − decay_after) · (1 + t / knee)^(−concavity)
//
// With a concavity of 0 this is the usual L2 decay.
//
// The preconditioner is the diagonal of the Gauss-Newton matrix. If c_i is the curvature of row i of a side
// (ParameterRows), that of the number (i, k) is c_i · Σ_j c_j θ_jk² + φ'(t_k), where j runs over the rows of
// the other side; that of a bias is c_i + bias_weight_decay. The sum over the entries of row i is approximated
// by a scaled sum over all rows, which is exact if the columns of entries do not depend on their row.
//
// The first trial of a step has length 1, or ½ if there is no previous step. Backtracking with quadratic
// interpolation shortens it until the objective has decreased enough (Armijo rule), so a step of the run may
// evaluate loss and gradients several times. docs/theory.md derives all of this;
// dmf_fast/optim/preconditioned_lbfgs.py is the same rule in Python.
#pragma once

#include <vector>

#include "update_rule.h"

namespace dmf {

template <class T>
class PreconditionedLbfgs final : public UpdateRule<T> {
 public:
  PreconditionedLbfgs(const Rule& rule, const Parameters<T>& parameters);

  void update(const Parameters<T>& parameters, int64_t step, double loss, double gradient_factor) override;

  bool retracts(const Parameters<T>& parameters, double loss) override;

  // 1 after the first step, and t_k at the point where the last step began.
  std::vector<double> scalars() const override;
  void set_scalars(const std::vector<double>& scalars) override;

 private:
  // Σ θ² and Σ curvature · θ² for the columns of every parameter, over the rows of all ranks.
  struct Totals {
    std::vector<std::vector<double>> squares, curvatures;
  };

  Totals totals(const Parameters<T>& parameters) const;
  std::vector<double> sizes(const Totals& totals) const;
  double objective(double loss, const Totals& totals) const;
  double slope_of_penalty(double size) const;
  void set_columns(const Totals& totals, const std::vector<double>& sizes);
  ColumnFacts<T> columns_of(int parameter) const;
  void advance(const Parameters<T>& parameters);

  const Rule rule_;
  bool has_step_ = false;      // there is a last step to learn from
  std::vector<double> sizes_;  // t_k of where it began
  // Of the line search along the current direction; between two steps there is none.
  int trials_ = 0;
  double rate_ = 1, objective_ = 0, slope_ = 0, size_ = 0;
  // Of all parameters, concatenated; they start at begins_.
  std::vector<int64_t> begins_;
  std::vector<T> decay_, decay_before_, curvature_;
};

}  // namespace dmf
