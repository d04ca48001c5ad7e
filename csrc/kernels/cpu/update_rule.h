// Update rules of the parameters (descent/program.h: Rule). A rule is an exchangeable part of a run: its state
// consists of moments, which the parameters hold, and scalars.
#pragma once

#include <memory>
#include <vector>

#include "../descent/program.h"
#include "parameters.h"

namespace dmf {

template <class T>
class UpdateRule {
 public:
  virtual ~UpdateRule() = default;

  // Makes step `step`, counted from 1, along the gradients of `loss` times `gradient_factor`.
  virtual void update(const Parameters<T>& parameters, int64_t step, double loss, double gradient_factor) = 0;

  // Called when loss and gradients after a step are known: true if the rule has undone part of the step, so
  // that they must be computed again.
  virtual bool retracts(const Parameters<T>&, double) { return false; }

  virtual std::vector<double> scalars() const { return {}; }
  // As many values as scalars() returns.
  virtual void set_scalars(const std::vector<double>&) {}
  // False if the next step cannot be finite.
  virtual bool is_finite() const { return true; }
};

template <class T>
std::unique_ptr<UpdateRule<T>> make_update_rule(const Rule& rule, const Parameters<T>& parameters);

}  // namespace dmf
