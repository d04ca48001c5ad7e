#include "descent.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>

namespace dmf {
namespace {

// Numbers whose squares are added up by themselves, so that sums do not depend on the number of threads.
constexpr int64_t slice = 1 << 15;

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class T>
Sides<T> sides_of(const DescentProgram& program, const Chain<T>& chain) {
  Sides<T> sides;
  sides.a = chain.value(program.a);
  sides.gradient_a = chain.gradient(program.a);
  if (!program.forms_product()) {
    sides.b_transposed = chain.value(program.b_transposed);
    sides.gradient_b_transposed = chain.gradient(program.b_transposed);
  }
  return sides;
}

}  // namespace

template <class T>
Descent<T>::Descent(const DescentProgram& program, const ObservedEntries<T>& entries, double scale,
                    double total_weight, const Rule& rule, Blas& blas, Parallel& parallel)
    : factors_(program.factors),
      rule_(rule),
      total_weight_(total_weight),
      kernels_(active_step_kernels<T>()),
      parallel_(parallel),
      chain_(program, blas),
      observed_pass_(make_observed_pass(entries, scale, sides_of(program, chain_), parallel)) {
  for (int moment = 0; moment < rule.moments(); ++moment) {
    for (int factor = 0; factor < factors_; ++factor) {
      DenseMatrix<T> matrix = chain_.value(factor);
      moment_memory_.emplace_back(matrix.numbers());
      matrix.data = moment_memory_.back().data();
      moments_[moment].push_back(matrix);
    }
  }
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

// Loss and gradients of the present factors; false where they are not finite.
template <class T>
bool Descent<T>::evaluate() {
  if (!evaluated_) {
    chain_.forward();
    loss_sum_ = observed_pass_->run();
    chain_.backward();
    evaluated_ = true;
  }
  return std::isfinite(loss_sum_) && std::isfinite(square_average_);
}

template <class T>
void Descent<T>::update() {
  ++step_;
  const UpdateFactors<T> factors = update_factors();
  for (int factor = 0; factor < factors_; ++factor) {
    const DenseMatrix<T>&w = chain_.value(factor), &g = chain_.gradient(factor);
    T* u = rule_.moments() > 0 ? moments_[0][factor].data : nullptr;
    T* v = rule_.moments() > 1 ? moments_[1][factor].data : nullptr;
    for_parts(w.numbers(), [&](int64_t begin, int64_t count) {
      if (v != nullptr) {
        kernels_.adam(w.data + begin, g.data + begin, u + begin, v + begin, count, factors);
      } else {
        kernels_.descend(w.data + begin, g.data + begin, u == nullptr ? u : u + begin, count, factors);
      }
    });
  }
  evaluated_ = false;
}

// What the rule makes of its options in step `step_`, counted from 1.
template <class T>
UpdateFactors<T> Descent<T>::update_factors() {
  UpdateFactors<T> factors;
  double step_size = rule_.lr;
  const double steps = static_cast<double>(step_);
  if (rule_.kind == RuleKind::group_rmsprop) {
    square_average_ =
        rule_.alpha * square_average_ + (1 - rule_.alpha) * square_sum_of_gradients(rule_.weight_decay);
    step_size /= std::sqrt(square_average_ / (1 - std::pow(rule_.alpha, steps))) + rule_.eps;
  } else if (rule_.kind == RuleKind::adam) {
    step_size /= 1 - std::pow(rule_.beta1, steps);
    factors.root_correction = static_cast<T>(std::sqrt(1 - std::pow(rule_.beta2, steps)));
  }
  factors.weight_decay = static_cast<T>(rule_.weight_decay);
  factors.step_size = static_cast<T>(step_size);
  factors.momentum = static_cast<T>(rule_.momentum);
  factors.one_less_beta1 = static_cast<T>(1 - rule_.beta1);
  factors.beta2 = static_cast<T>(rule_.beta2);
  factors.one_less_beta2 = static_cast<T>(1 - rule_.beta2);
  factors.eps = static_cast<T>(rule_.eps);
  return factors;
}

template <class T>
double Descent<T>::gradient_norm() const {
  return std::sqrt(square_sum_of_gradients(0));
}

template <class T>
double Descent<T>::square_sum_of_gradients(double weight_decay) const {
  double sum = 0;
  for (int factor = 0; factor < factors_; ++factor) {
    const DenseMatrix<T>&w = chain_.value(factor), &g = chain_.gradient(factor);
    for (int64_t begin = 0; begin < g.numbers(); begin += slice) {
      const int64_t count = std::min(slice, g.numbers() - begin);
      sum += weight_decay == 0 ? kernels_.sum_of_squares(g.data + begin, count)
                               : kernels_.sum_of_decayed_squares(g.data + begin, w.data + begin, count,
                                                                 static_cast<T>(weight_decay));
    }
  }
  return sum;
}

// body(begin, count) for parts of an array; what it does must not depend on the parts.
template <class T>
template <class Body>
void Descent<T>::for_parts(int64_t numbers, const Body& body) const {
  if (numbers <= 4 * slice) return body(0, numbers);
  const int64_t slices = (numbers + slice - 1) / slice;
  for_slices(parallel_, slices, [&](int, int64_t begin, int64_t end) {
    body(begin * slice, std::min(end * slice, numbers) - begin * slice);
  });
}

template <class T>
const DenseMatrix<T>& Descent<T>::matrix(Part part, int factor) const {
  return part == Part::factor ? chain_.value(factor) : moments_[static_cast<int>(part) - 1][factor];
}

template <class T>
void Descent<T>::read(Part part, int factor, T* numbers) const {
  const DenseMatrix<T>& from = matrix(part, factor);
  for (int64_t row = 0; row < from.rows; ++row) {
    std::memcpy(numbers + row * from.columns, from.row(row), from.columns * sizeof(T));
  }
}

template <class T>
void Descent<T>::write(Part part, int factor, const T* numbers) {
  const DenseMatrix<T>& to = matrix(part, factor);
  for (int64_t row = 0; row < to.rows; ++row) {
    std::memcpy(to.row(row), numbers + row * to.columns, to.columns * sizeof(T));
  }
  evaluated_ = false;
}

template <class T>
void Descent<T>::go_on_from(int64_t step, double square_average) {
  step_ = step;
  square_average_ = square_average;
}

template class Descent<float>;
template class Descent<double>;

}  // namespace dmf
