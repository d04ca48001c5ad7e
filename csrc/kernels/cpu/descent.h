// A whole run of gradient descent on the CPU: its state, and the loop over its steps.
//
// A step consists of the products of the chain (chain.h), one pass over Ω (observed_pass.h) and one or two over
// the parameters (parameters.h, update_rule.h). Large ones are divided among threads, small ones run in the
// calling thread. The loop takes no locks and allocates nothing if the matrices are small enough for the
// kernels here; a step of a 100 × 100 problem of depth 3 then works on 0.4 MB, which stay in L2.
//
// Several processes may share the rows (ranks.h): each has a run of its own rows, and identical copies of all
// parameters without rows. All sums over rows include all ranks: gradients of such parameters, the loss and
// norms. All ranks call the same methods in the same order, and reach the same step with the same outcome.
//
// The rows of a rank may be divided into blocks of equal size. The pass over Ω and the products of a block do
// not depend on the number of blocks of a rank, and sums over blocks are computed in a fixed tree
// (block_tree.h). So results do not depend on the distribution of the blocks, if each rank has the same number
// of them, a power of two, and `Ranks` continues the tree.
#pragma once

#include <array>
#include <memory>
#include <vector>

#include "../descent/program.h"
#include "../ranks.h"
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
  bool biases = false;  // a bias of each row and each column is learned as well
};

template <class T>
class Descent {
 public:
  // Minimizes loss_scale · Σ w (prediction − value)². Parameters are the factors, then, with biases, those of
  // the rows and those of the columns; they are zero until they are written. `train` has one element per block
  // of rows, all of one shape; throws std::invalid_argument unless the sum of all weights, over all ranks, is
  // above 0. `rows` has one element per parameter. What `train` points to, `blas`, `parallel` and `ranks` must
  // outlive the run.
  Descent(const DescentProgram& program, const std::vector<ObservedEntries<T>>& train,
          const DescentOptions& options, const std::vector<RowFacts<T>>& rows, Blas& blas, Parallel& parallel,
          Ranks* ranks = nullptr);

  // Makes at least one step, and stops when the run has made `until` steps in total, a stop rule holds, the
  // loss is not finite, or `most_seconds` have passed on any rank. Afterwards loss() is that of the current
  // parameters.
  Outcome run(int64_t until, const StopRules& stop, double most_seconds);

  double loss() const { return loss_sum_ / total_weight_; }  // the weighted mean
  // Over all parameters, before clipping and weight decay, at the state whose loss is known.
  double gradient_norm() const;
  // Weighted mean over `entries`, which have the shapes of `train`, at the current parameters. Throws
  // std::invalid_argument unless the sum of their weights, over all ranks, is above 0.
  double mean_squared_error(const std::vector<ObservedEntries<T>>& entries);

  // Copies the current parameters to Part::kept.
  void keep() { parameters_.keep(); }

  int parameters() const { return parameters_.count(); }
  bool has(Part part, int parameter) const { return parameters_.part(part, parameter).data != nullptr; }
  bool is_bias(int parameter) const { return parameter >= factors_; }
  Matrix shape(int parameter) const;  // of a bias: one column
  // A factor as the program stores it: W_jᵀ to the right of the split. Row-major, without gaps; only for parts
  // that exist.
  void read(Part part, int parameter, T* numbers) const;
  void write(Part part, int parameter, const T* numbers);

  int64_t step() const { return step_; }
  // The state of the rule other than moments.
  std::vector<double> scalars() const { return rule_->scalars(); }
  void resume_from(int64_t step, const std::vector<double>& scalars);

 private:
  // The gradients that are sums over rows, on a level of the tree.
  struct Level {
    DenseMatrix<T> b_transposed;
    AlignedNumbers<T> column_bias;
    std::vector<RankVector> vectors;  // all of them
  };

  using TwoSums = std::array<double, 2>;

  void add_levels(const DescentProgram& program, bool biases);
  void add_biases(const DescentOptions& options, const std::vector<RowFacts<T>>& rows);
  int64_t blocks() const { return static_cast<int64_t>(train_.size()); }
  Sides<T> sides_of(int64_t block, int level) const;
  bool evaluate(double deadline);
  double evaluate_rows();
  void add_next_level(int level);
  TwoSums sum_over_ranks(const TwoSums& sums, const std::vector<RankVector>& vectors = {});
  void update();

  const std::vector<ObservedEntries<T>> train_;
  const int factors_;
  const double loss_scale_, gradient_clip_;
  Parallel& parallel_;
  Ranks* const ranks_;
  Chain<T> chain_;
  // Biases of rows and columns, zero if there is a mean but no biases; gradients of the row biases.
  AlignedNumbers<T> bias_memory_[2], row_bias_gradient_memory_;
  std::vector<Level> levels_;
  Sides<T> sides_;                                        // of all blocks
  std::vector<std::unique_ptr<ObservedPass<T>>> passes_;  // of each block
  Parameters<T> parameters_;
  std::unique_ptr<UpdateRule<T>> rule_;
  int64_t step_ = 0;
  bool evaluated_ = false;  // products, loss and gradients are those of the current parameters
  double total_weight_ = 0, loss_sum_ = 0;
  bool time_is_over_ = false;  // on any rank, when the loss was computed
  TwoSums shared_{};           // what ranks add up
};

}  // namespace dmf
