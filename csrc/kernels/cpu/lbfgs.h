// Preconditioned L-BFGS with a memory of one step, for W = W_2 · W_1 with biases or without.
//
// It minimizes loss + Σ_k φ(t_k) + bias_weight_decay / 2 · ‖biases‖², where t_k = (‖a_k‖² + ‖b_k‖²) / 2 is the
// size of column k of W_2 and row k of W_1, and φ a concave decay: φ'(t) = weight_decay · decay_rate^step · (1
// + t / knee)^(−concavity). With a concavity of 0 that is the usual L2 decay.
//
// The preconditioner is the diagonal of the Gauss-Newton matrix. With c_i the curvature of row i of a side
// (ParameterRows) that of the number (i, k) is c_i · Σ_j c_j θ_jk² + φ'(t_k), the sum being over the rows of
// the other side; that of a bias is c_i + bias_weight_decay. A sum over the entries of row i is taken for one
// over all rows, in proportion: exact where the columns of an entry do not depend on its row.
//
// A direction is tried with length 1, or ½ without a step to learn from, and shortened as long as the objective
// does not fall (Armijo's rule, by a parabola). A trial is a step of the run. The decay falls from step to
// step; during a search it stays what it was. docs/fast.md derives all of it;
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

  // rate, objective, slope, size, trials, and t_k of where the present search began.
  std::vector<double> scalars() const override;
  void set_scalars(const std::vector<double>& scalars) override;

 private:
  // Of the columns of every parameter: Σ θ² and Σ curvature · θ².
  struct Totals {
    std::vector<std::vector<double>> squares, curvatures;
  };

  bool has_begun() const { return trials_ > 0; }
  Totals totals(const Parameters<T>& parameters) const;
  std::vector<double> sizes(const Totals& totals) const;
  double objective(double loss, const Totals& totals) const;
  double slope_of_penalty(double size) const;
  void set_columns(const Totals& totals, const std::vector<double>& sizes);
  ColumnFacts<T> columns_of(int parameter) const;
  void shorten(const Parameters<T>& parameters, double objective);
  void begin_search(const Parameters<T>& parameters);

  const Rule rule_;
  double rate_ = 1;  // decay_rate^step, of the present search
  double objective_ = 0, slope_ = 0, size_ = 0;
  int trials_ = 0;             // of the present search; 0 before the first
  std::vector<double> sizes_;  // t_k of where it began
  // Of all parameters, one after the other; begins_ says where.
  std::vector<int64_t> begins_;
  std::vector<T> decay_, decay_before_, curvature_;
};

}  // namespace dmf
