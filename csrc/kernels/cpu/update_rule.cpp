#include "update_rule.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "lbfgs.h"

namespace dmf {
namespace {

template <class T>
double direction_squares(const Parameters<T>& parameters, double gradient_factor) {
  const StepKernels<T>& kernels = active_step_kernels<T>();
  return parameters.sum([&](const ParameterRows<T>& rows) {
    return kernels.sum_of_direction_squares(rows, static_cast<T>(gradient_factor));
  });
}

template <class T>
void descend(const Parameters<T>& parameters, const UpdateFactors<T>& factors) {
  const StepKernels<T>& kernels = active_step_kernels<T>();
  parameters.each([&](const ParameterRows<T>& rows) { kernels.descend(rows, factors); });
}

template <class T>
class GradientDescent final : public UpdateRule<T> {
 public:
  explicit GradientDescent(const Rule& rule) : rule_(rule) {}

  void update(const Parameters<T>& parameters, int64_t, double, double gradient_factor) override {
    UpdateFactors<T> factors;
    factors.gradient_factor = static_cast<T>(gradient_factor);
    factors.step_size = static_cast<T>(rule_.lr);
    factors.momentum = static_cast<T>(rule_.momentum);
    descend(parameters, factors);
  }

 private:
  const Rule rule_;
};

template <class T>
class GroupRmsprop final : public UpdateRule<T> {
 public:
  explicit GroupRmsprop(const Rule& rule) : rule_(rule) {}

  void update(const Parameters<T>& parameters, int64_t step, double, double gradient_factor) override {
    square_average_ =
        rule_.alpha * square_average_ + (1 - rule_.alpha) * direction_squares(parameters, gradient_factor);
    const double corrected = square_average_ / (1 - std::pow(rule_.alpha, static_cast<double>(step)));
    UpdateFactors<T> factors;
    factors.gradient_factor = static_cast<T>(gradient_factor);
    factors.step_size = static_cast<T>(rule_.lr / (std::sqrt(corrected) + rule_.eps));
    descend(parameters, factors);
  }

  std::vector<double> scalars() const override { return {square_average_}; }
  void set_scalars(const std::vector<double>& scalars) override { square_average_ = scalars[0]; }
  bool is_finite() const override { return std::isfinite(square_average_); }

 private:
  const Rule rule_;
  double square_average_ = 0;
};

template <class T>
class Adam final : public UpdateRule<T> {
 public:
  explicit Adam(const Rule& rule) : rule_(rule) {}

  void update(const Parameters<T>& parameters, int64_t step, double, double gradient_factor) override {
    const double steps = static_cast<double>(step);
    UpdateFactors<T> factors;
    factors.gradient_factor = static_cast<T>(gradient_factor);
    factors.step_size = static_cast<T>(rule_.lr / (1 - std::pow(rule_.beta1, steps)));
    factors.root_correction = static_cast<T>(std::sqrt(1 - std::pow(rule_.beta2, steps)));
    factors.one_less_beta1 = static_cast<T>(1 - rule_.beta1);
    factors.beta2 = static_cast<T>(rule_.beta2);
    factors.one_less_beta2 = static_cast<T>(1 - rule_.beta2);
    factors.eps = static_cast<T>(rule_.eps);
    const StepKernels<T>& kernels = active_step_kernels<T>();
    parameters.each([&](const ParameterRows<T>& rows) { kernels.adam(rows, factors); });
  }

 private:
  const Rule rule_;
};

// Steps as long as the curvature between the last two points allows: s ← min(sqrt(1 + q) · s, l / (2 · L)) for
// L = ‖d − d of the step before‖ and the last step's size s, length l and growth q. The first moment stores d.
// (Malitsky & Mishchenko, "Adaptive Gradient Descent without Descent", ICML 2020, algorithm 1.)
template <class T>
class AdaptiveGradientDescent final : public UpdateRule<T> {
 public:
  explicit AdaptiveGradientDescent(const Rule& rule) : rule_(rule) {}

  void update(const Parameters<T>& parameters, int64_t, double, double gradient_factor) override {
    const StepKernels<T>& kernels = active_step_kernels<T>();
    const TurnSums squares = parameters.sum(
        [&](const ParameterRows<T>& rows) { return kernels.turn(rows, static_cast<T>(gradient_factor)); });
    const double norm = std::sqrt(squares.direction);
    if (length_ == 0) {
      begin(parameters, norm);
    } else {
      adapt(std::sqrt(squares.turn));
    }
    length_ = rule_.lr * size_ * norm;
    const T step_size = static_cast<T>(rule_.lr * size_);
    parameters.each([&](const ParameterRows<T>& rows) { kernels.move(rows, step_size); });
  }

  std::vector<double> scalars() const override { return {size_, growth_, length_}; }
  void set_scalars(const std::vector<double>& scalars) override {
    size_ = scalars[0];
    growth_ = scalars[1];
    length_ = scalars[2];
  }

 private:
  // Length of the first step, from which the curvature is learned, compared with the norm of the parameters.
  static constexpr double first_length = 1e-3;

  void begin(const Parameters<T>& parameters, double norm) {
    size_ = 1;
    growth_ = std::numeric_limits<double>::infinity();
    if (!(norm > 0) || !std::isfinite(norm)) return;
    const StepKernels<T>& kernels = active_step_kernels<T>();
    const double of_parameters = std::sqrt(parameters.sum(kernels.sum_of_squares));
    size_ = first_length * (of_parameters == 0 ? 1 : of_parameters) / norm;
  }

  void adapt(double turned) {
    const double longest = std::sqrt(1 + growth_) * size_, before = size_;
    size_ = turned == 0 ? longest : std::min(longest, length_ / (2 * turned));
    if (!std::isfinite(size_)) size_ = before;
    growth_ = size_ / before;
  }

  const Rule rule_;
  double size_ = 1, growth_ = std::numeric_limits<double>::infinity(), length_ = 0;
};

}  // namespace

template <class T>
std::unique_ptr<UpdateRule<T>> make_update_rule(const Rule& rule, const Parameters<T>& parameters) {
  switch (rule.kind) {
    case RuleKind::gradient_descent:
      return std::make_unique<GradientDescent<T>>(rule);
    case RuleKind::group_rmsprop:
      return std::make_unique<GroupRmsprop<T>>(rule);
    case RuleKind::adam:
      return std::make_unique<Adam<T>>(rule);
    case RuleKind::adaptive_gradient_descent:
      return std::make_unique<AdaptiveGradientDescent<T>>(rule);
    case RuleKind::preconditioned_lbfgs:
      return std::make_unique<PreconditionedLbfgs<T>>(rule, parameters);
  }
  return nullptr;
}

template std::unique_ptr<UpdateRule<float>> make_update_rule(const Rule&, const Parameters<float>&);
template std::unique_ptr<UpdateRule<double>> make_update_rule(const Rule&, const Parameters<double>&);

}  // namespace dmf
