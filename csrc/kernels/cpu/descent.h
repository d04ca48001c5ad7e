// A whole run of gradient descent on the CPU: its state, and the loop over its steps.
//
// The loop allocates nothing and takes no lock, as long as the matrices are small enough for the kernels here;
// a step of a 100 × 100 problem of depth 3 then works on 0.4 MB, which stay in L2.
#pragma once

#include <memory>
#include <vector>

#include "../descent/program.h"
#include "blas.h"
#include "chain.h"
#include "observed_pass.h"

namespace dmf {

// What of a factor is read or written: itself, or a moment that the rule keeps (Rule::moments).
enum class Part : int { factor = 0, first_moment = 1, second_moment = 2 };

template <class T>
class Descent {
 public:
  // Minimises scale · Σ w (W − value)²; `total_weight` = Σ w. Factors are zero until they are written. What
  // `entries` points to, except for the layout, is copied; the layout, `blas` and `parallel` must outlive the
  // run.
  Descent(const DescentProgram& program, const ObservedEntries<T>& entries, double scale, double total_weight,
          const Rule& rule, Blas& blas, Parallel& parallel);

  // Makes steps until `until` of them are made in all, a stop rule holds, the loss is not finite, or
  // `most_seconds` are over, but one step in any case. Afterwards loss() is that of the present factors, unless
  // the outcome is paused.
  Outcome run(int64_t until, const StopRules& stop, double most_seconds);

  double loss() const { return loss_sum_ / total_weight_; }  // the weighted mean
  // Of all factors together, at the state whose loss is known.
  double gradient_norm() const;

  // As the program keeps a factor: on the right of the split W_jᵀ. Row-major, without gaps.
  void read(Part part, int factor, T* numbers) const;
  void write(Part part, int factor, const T* numbers);

  int64_t step() const { return step_; }
  double square_average() const { return square_average_; }
  void go_on_from(int64_t step, double square_average);

 private:
  bool evaluate();
  void update();
  // Of the gradients with weight_decay · W added.
  double square_sum_of_gradients(double weight_decay) const;
  UpdateFactors<T> update_factors();
  template <class Body>
  void for_parts(int64_t numbers, const Body& body) const;
  const DenseMatrix<T>& matrix(Part part, int factor) const;

  const int factors_;
  const Rule rule_;
  const double total_weight_;
  const StepKernels<T>& kernels_;
  Parallel& parallel_;
  Chain<T> chain_;
  std::unique_ptr<ObservedPass<T>> observed_pass_;
  std::vector<AlignedNumbers<T>> moment_memory_;
  std::vector<DenseMatrix<T>> moments_[2];
  int64_t step_ = 0;
  double square_average_ = 0;
  bool evaluated_ = false;  // loss and gradients are those of the present factors
  double loss_sum_ = 0;
};

}  // namespace dmf
