// A whole run of gradient descent on the CPU: its state, and the loop over its steps.
//
// A step is the products of the chain (chain.h), one pass over Ω (observed_pass.h) and one or two over the
// parameters (parameters.h, update_rule.h). Large ones are shared out to threads, small ones are done in the
// calling thread. The loop takes no lock and allocates nothing as long as the matrices are small enough for the
// kernels here; a step of a 100 × 100 problem of depth 3 then works on 0.4 MB, which stay in L2.
#pragma once

#include <memory>
#include <vector>

#include "../descent/program.h"
#include "blas.h"
#include "chain.h"
#include "observed_pass.h"
#include "parameters.h"
#include "update_rule.h"

namespace dmf {

struct DescentOptions {
  double loss_scale = 1;
  Rule rule;
  double mean = 0;      // added to every prediction
  bool biases = false;  // one of every row and one of every column are learned, too
};

template <class T>
class Descent {
 public:
  // Minimizes loss_scale · Σ w (prediction − value)². Parameters are the factors, then, with biases, those of
  // the rows and those of the columns; they are zero until they are written. `rows`: of every parameter. What
  // `entries` points to, `blas` and `parallel` must outlive the run.
  Descent(const DescentProgram& program, const ObservedEntries<T>& entries, const DescentOptions& options,
          const std::vector<RowFacts<T>>& rows, Blas& blas, Parallel& parallel);

  // Makes steps until `until` of them are made in all, a stop rule holds, the loss is not finite, or
  // `most_seconds` are over, but one step in any case. Afterwards loss() is that of the present parameters.
  Outcome run(int64_t until, const StopRules& stop, double most_seconds);

  double loss() const { return loss_sum_ / entries_.total_weight; }  // the weighted mean
  // Of all parameters together, before they are clipped and decayed, at the state whose loss is known.
  double gradient_norm() const;
  // Weighted mean over `entries`, of a matrix of the same shape, for the present parameters.
  double mean_squared_error(const ObservedEntries<T>& entries);

  // Copies the present parameters to Part::kept.
  void keep() { parameters_.keep(); }

  int parameters() const { return parameters_.count(); }
  bool has(Part part, int parameter) const { return parameters_.part(part, parameter).data != nullptr; }
  bool is_bias(int parameter) const { return parameter >= factors_; }
  Matrix shape(int parameter) const;  // of a bias: one column
  // As the program keeps a factor: on the right of the split W_jᵀ. Row-major, without gaps; for parts that are
  // there.
  void read(Part part, int parameter, T* numbers) const;
  void write(Part part, int parameter, const T* numbers);

  int64_t step() const { return step_; }
  // What the rule keeps from step to step besides moments.
  std::vector<double> scalars() const { return rule_->scalars(); }
  void go_on_from(int64_t step, const std::vector<double>& scalars);

 private:
  void add_biases(const DescentOptions& options, const std::vector<RowFacts<T>>& rows);
  bool evaluate();
  void update();

  const ObservedEntries<T> entries_;
  const int factors_;
  const double loss_scale_, gradient_clip_;
  Parallel& parallel_;
  Chain<T> chain_;
  // Of rows and columns: biases, zero where a mean stands without them, and their gradients.
  AlignedNumbers<T> bias_memory_[2], bias_gradient_memory_[2];
  Sides<T> sides_;
  std::unique_ptr<ObservedPass<T>> observed_pass_;
  Parameters<T> parameters_;
  std::unique_ptr<UpdateRule<T>> rule_;
  int64_t step_ = 0;
  bool evaluated_ = false;  // products, loss and gradients are those of the present parameters
  double loss_sum_ = 0;
};

}  // namespace dmf
