#include "lbfgs.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>

namespace dmf {
namespace {

// The factors are the first parameters; their columns correspond.
constexpr int factors = 2;
constexpr int most_trials = 8;                   // per direction; the last one is always accepted
constexpr double armijo = 1e-4;                  // fraction of the decrease that the slope predicts
constexpr double first_length = 0.5;             // of a direction without a step to learn from
constexpr double shortest = 0.1, longest = 0.5;  // relative to the previous trial, when it is shortened
constexpr double least_curvature = 1e-4;         // along a step to learn from, of that of the preconditioner
constexpr double least_decay = 1e-30;            // keeps denominators above zero

// Two sums for each column of every parameter.
struct ColumnSums {
  std::vector<double> sums;

  std::span<double> doubles() { return sums; }
  ColumnSums& operator+=(const ColumnSums& other) {
    for (size_t place = 0; place < sums.size(); ++place) sums[place] += other.sums[place];
    return *this;
  }
};

}  // namespace

template <class T>
PreconditionedLbfgs<T>::PreconditionedLbfgs(const Rule& rule, const Parameters<T>& parameters) : rule_(rule) {
  int64_t end = 0;
  for (int parameter = 0; parameter < parameters.count(); ++parameter) {
    begins_.push_back(end);
    end += parameters.part(Part::parameter, parameter).stride;
  }
  decay_.assign(end, T(1));
  decay_before_.assign(end, T(1));
  curvature_.assign(end, T(1));
  sizes_.assign(parameters.part(Part::parameter, 0).stride, 0.0);
}

template <class T>
void PreconditionedLbfgs<T>::update(const Parameters<T>& parameters, int64_t step, double loss, double) {
  rate_ = std::pow(rule_.decay_rate, std::max(0.0, static_cast<double>(step - 1) - rule_.decay_after));
  const Totals now = totals(parameters);
  const std::vector<double> sizes_now = sizes(now);
  set_columns(now, sizes_now);
  objective_ = objective(loss, now);
  advance(parameters);
  sizes_ = sizes_now;
  has_step_ = true;
  trials_ = 1;
}

template <class T>
void PreconditionedLbfgs<T>::advance(const Parameters<T>& parameters) {
  const StepKernels<T>& kernels = active_step_kernels<T>();
  const SecantSums sums = parameters.sum(
      [&](const ParameterRows<T>& rows) { return kernels.secant(rows, columns_of(rows.parameter)); });
  SecantFactors<T> next;
  slope_ = -sums.gradient;
  size_ = first_length * rule_.lr;
  if (has_step_ && sums.step_turn > least_curvature * sums.step) {
    const double turn = sums.step_gradient / sums.step_turn;
    const double step = (sums.turn_gradient - turn * sums.turn_turn) / sums.step_turn - turn;
    const double slope = -sums.gradient + turn * sums.turn_gradient + step * sums.step_gradient;
    if (slope < 0) {
      next.turn = static_cast<T>(turn);
      next.step = static_cast<T>(step);
      slope_ = slope;
      size_ = rule_.lr;
    }
  }
  next.size = static_cast<T>(size_);
  parameters.each(
      [&](const ParameterRows<T>& rows) { kernels.advance(rows, columns_of(rows.parameter), next); });
}

template <class T>
bool PreconditionedLbfgs<T>::retracts(const Parameters<T>& parameters, double loss) {
  if (trials_ == 0) return false;
  const double reached = objective(loss, totals(parameters));
  const double rounding = static_cast<double>(std::numeric_limits<T>::epsilon()) * std::fabs(objective_);
  if (reached <= objective_ + armijo * size_ * slope_ + rounding || trials_ == most_trials) {
    trials_ = 0;
    return false;
  }
  // The minimum of the parabola through both objectives and the slope.
  const double least = -slope_ * size_ / (2 * (reached - objective_ - slope_ * size_));
  const double ratio = std::isfinite(least) ? std::clamp(least, shortest, longest) : shortest;
  const StepKernels<T>& kernels = active_step_kernels<T>();
  parameters.each([&](const ParameterRows<T>& rows) { kernels.shorten(rows, static_cast<T>(ratio)); });
  size_ *= ratio;
  ++trials_;
  return true;
}

template <class T>
typename PreconditionedLbfgs<T>::Totals PreconditionedLbfgs<T>::totals(const Parameters<T>& parameters) const {
  int64_t widest = 0, columns = 0;
  std::vector<int64_t> strides;
  for (int parameter = 0; parameter < parameters.count(); ++parameter) {
    strides.push_back(parameters.part(Part::parameter, parameter).stride);
    widest = std::max(widest, strides.back());
    columns += strides.back();
  }
  const StepKernels<T>& kernels = active_step_kernels<T>();
  std::vector<double> parts(parameters.slices() * 2 * widest, 0.0);
  std::vector<int> parameter_of(parameters.slices());
  parameters.each([&](const ParameterRows<T>& rows) {
    double* part = parts.data() + rows.slice * 2 * widest;
    kernels.column_sums(rows, part, part + rows.stride);
    parameter_of[rows.slice] = rows.parameter;
  });
  const ColumnSums all = parameters.add_up(
      ColumnSums{std::vector<double>(2 * columns, 0.0)}, [&](ColumnSums& sums, int64_t slice) {
        const double* part = parts.data() + slice * 2 * widest;
        double* of_parameter = sums.sums.data() + 2 * begins_[parameter_of[slice]];
        for (int64_t place = 0; place < 2 * strides[parameter_of[slice]]; ++place)
          of_parameter[place] += part[place];
      });
  Totals totals;
  for (size_t parameter = 0; parameter < strides.size(); ++parameter) {
    const auto begin = all.sums.begin() + 2 * begins_[parameter], middle = begin + strides[parameter];
    totals.squares.emplace_back(begin, middle);
    totals.curvatures.emplace_back(middle, middle + strides[parameter]);
  }
  return totals;
}

template <class T>
std::vector<double> PreconditionedLbfgs<T>::sizes(const Totals& totals) const {
  std::vector<double> sizes(totals.squares[0].size());
  for (size_t column = 0; column < sizes.size(); ++column) {
    sizes[column] = (totals.squares[0][column] + totals.squares[1][column]) / 2;
  }
  return sizes;
}

template <class T>
double PreconditionedLbfgs<T>::slope_of_penalty(double size) const {
  return rule_.weight_decay * rate_ * std::pow(1 + size / rule_.knee, -rule_.concavity);
}

template <class T>
double PreconditionedLbfgs<T>::objective(double loss, const Totals& totals) const {
  double penalty = 0, biases = 0;
  const double power = 1 - rule_.concavity;
  for (const double size : sizes(totals)) {
    penalty += rule_.concavity == 0 ? size : rule_.knee * (std::pow(1 + size / rule_.knee, power) - 1) / power;
  }
  for (size_t parameter = factors; parameter < totals.squares.size(); ++parameter) {
    for (const double square : totals.squares[parameter]) biases += square;
  }
  return loss + rule_.weight_decay * rate_ * penalty + rule_.bias_weight_decay / 2 * biases;
}

template <class T>
void PreconditionedLbfgs<T>::set_columns(const Totals& totals, const std::vector<double>& sizes) {
  for (int factor = 0; factor < factors; ++factor) {
    const std::vector<double>& other = totals.curvatures[1 - factor];
    for (size_t column = 0; column < sizes.size(); ++column) {
      const int64_t place = begins_[factor] + static_cast<int64_t>(column);
      decay_[place] = static_cast<T>(std::max(least_decay, slope_of_penalty(sizes[column])));
      curvature_[place] = static_cast<T>(other[column]);
      if (has_step_) {
        decay_before_[place] = static_cast<T>(std::max(least_decay, slope_of_penalty(sizes_[column])));
      }
    }
  }
  for (size_t parameter = factors; parameter < begins_.size(); ++parameter) {
    const T decay = static_cast<T>(std::max(least_decay, rule_.bias_weight_decay));
    decay_[begins_[parameter]] = decay_before_[begins_[parameter]] = decay;
  }
}

template <class T>
ColumnFacts<T> PreconditionedLbfgs<T>::columns_of(int parameter) const {
  const int64_t begin = begins_[parameter];
  return {decay_.data() + begin, decay_before_.data() + begin, curvature_.data() + begin};
}

template <class T>
std::vector<double> PreconditionedLbfgs<T>::scalars() const {
  std::vector<double> scalars = {has_step_ ? 1.0 : 0.0};
  scalars.insert(scalars.end(), sizes_.begin(), sizes_.end());
  return scalars;
}

template <class T>
void PreconditionedLbfgs<T>::set_scalars(const std::vector<double>& scalars) {
  has_step_ = scalars[0] != 0;
  sizes_.assign(scalars.begin() + 1, scalars.end());
}

template class PreconditionedLbfgs<float>;
template class PreconditionedLbfgs<double>;

}  // namespace dmf
