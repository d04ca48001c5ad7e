#include "descent.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

namespace dmf {
namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class T>
Sides<T> sides_of(const DescentProgram& program, const Chain<T>& chain, double mean) {
  Sides<T> sides;
  sides.a = chain.value(program.a);
  sides.gradient_a = chain.gradient(program.a);
  if (!program.forms_product()) {
    sides.b_transposed = chain.value(program.b_transposed);
    sides.gradient_b_transposed = chain.gradient(program.b_transposed);
  }
  sides.mean = mean;
  return sides;
}

// As long as gradients are not longer than `clip`, they stay what they are (torch.nn.utils.clip_grad_norm_).
double clipped(double clip, double norm) {
  return std::min(1.0, clip / (norm + 1e-6));
}

}  // namespace

template <class T>
Descent<T>::Descent(const DescentProgram& program, const ObservedEntries<T>& entries,
                    const DescentOptions& options, const std::vector<RowFacts<T>>& rows, Blas& blas,
                    Parallel& parallel)
    : entries_(entries),
      factors_(program.factors),
      loss_scale_(options.loss_scale),
      gradient_clip_(options.rule.gradient_clip),
      parallel_(parallel),
      chain_(program, blas, parallel),
      sides_(sides_of(program, chain_, options.mean)),
      parameters_(parallel) {
  const Rule& rule = options.rule;
  for (int factor = 0; factor < program.factors; ++factor) {
    parameters_.add(chain_.value(factor), chain_.gradient(factor), rows[factor], rule.weight_decay,
                    rule.moments());
  }
  if (options.biases || options.mean != 0) add_biases(options, rows);
  observed_pass_ = make_observed_pass(entries_, options.loss_scale, sides_, parallel);
  rule_ = make_update_rule(rule, parameters_);
}

template <class T>
void Descent<T>::add_biases(const DescentOptions& options, const std::vector<RowFacts<T>>& rows) {
  const int64_t lines[] = {entries_.layout.header->rows, entries_.layout.header->columns};
  for (int side = 0; side < 2; ++side) {
    AlignedNumbers<T>&bias = bias_memory_[side], &gradient = bias_gradient_memory_[side];
    bias = AlignedNumbers<T>(lines[side]);
    if (!options.biases) continue;
    gradient = AlignedNumbers<T>(lines[side]);
    parameters_.add({bias.data(), lines[side], 1, 1}, {gradient.data(), lines[side], 1, 1},
                    rows[factors_ + side], options.rule.bias_weight_decay, options.rule.moments());
  }
  sides_.row_bias = bias_memory_[0].data();
  sides_.column_bias = bias_memory_[1].data();
  sides_.gradient_row_bias = bias_gradient_memory_[0].data();
  sides_.gradient_column_bias = bias_gradient_memory_[1].data();
}

template <class T>
Outcome Descent<T>::run(int64_t until, const StopRules& stop, double most_seconds) {
  const double deadline = seconds_now() + most_seconds;
  const int64_t first = step_;
  for (;;) {
    if (!evaluate()) return Outcome::diverged;
    if (loss() <= stop.train_loss) return Outcome::train_loss_threshold;
    if (stop.gradient_norm >= 0 && gradient_norm() <= stop.gradient_norm) {
      return Outcome::gradient_norm_threshold;
    }
    if (step_ >= until) return Outcome::reached;
    if (step_ > first && seconds_now() > deadline) return Outcome::paused;
    update();
  }
}

// Products, loss and gradients of the present parameters; false where the next step cannot be finite.
template <class T>
bool Descent<T>::evaluate() {
  while (!evaluated_) {
    chain_.forward();
    loss_sum_ = observed_pass_->run();
    chain_.backward();
    evaluated_ = !rule_->retracts(parameters_, loss_scale_ * loss_sum_);
  }
  return std::isfinite(loss_sum_) && rule_->is_finite();
}

template <class T>
void Descent<T>::update() {
  ++step_;
  const double factor = gradient_clip_ > 0 ? clipped(gradient_clip_, gradient_norm()) : 1;
  rule_->update(parameters_, step_, loss_scale_ * loss_sum_, factor);
  evaluated_ = false;
}

template <class T>
double Descent<T>::gradient_norm() const {
  const StepKernels<T>& kernels = active_step_kernels<T>();
  return std::sqrt(parameters_.sum([&](ParameterRows<T> rows) {
    rows.weight_decay = 0;
    return kernels.sum_of_direction_squares(rows, 1);
  }));
}

template <class T>
double Descent<T>::mean_squared_error(const ObservedEntries<T>& entries) {
  if (!evaluated_) chain_.forward();
  return squared_error(entries, sides_, parallel_) / entries.total_weight;
}

template <class T>
Matrix Descent<T>::shape(int parameter) const {
  const DenseMatrix<T>& value = parameters_.part(Part::parameter, parameter);
  return {value.rows, value.columns};
}

template <class T>
void Descent<T>::read(Part part, int parameter, T* numbers) const {
  const DenseMatrix<T>& from = parameters_.part(part, parameter);
  for (int64_t row = 0; row < from.rows; ++row) {
    std::memcpy(numbers + row * from.columns, from.row(row), from.columns * sizeof(T));
  }
}

template <class T>
void Descent<T>::write(Part part, int parameter, const T* numbers) {
  const DenseMatrix<T>& to = parameters_.part(part, parameter);
  for (int64_t row = 0; row < to.rows; ++row) {
    std::memcpy(to.row(row), numbers + row * to.columns, to.columns * sizeof(T));
  }
  if (part == Part::parameter) evaluated_ = false;
}

template <class T>
void Descent<T>::go_on_from(int64_t step, const std::vector<double>& scalars) {
  step_ = step;
  rule_->set_scalars(scalars);
}

template class Descent<float>;
template class Descent<double>;

}  // namespace dmf
