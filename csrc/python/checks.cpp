#include "checks.h"

#include <cmath>

namespace py = pybind11;

namespace dmf::python {

LayoutView checked_layout(const Array<uint8_t>& buffer, const std::string& name) {
  const LayoutView view = buffer.ndim() == 1 ? view_layout(buffer.data(), buffer.size()) : LayoutView{};
  require(view.header != nullptr, name + " must hold a layout of observed entries");
  return view;
}

void require_sound(const LayoutView& layout, Parallel& parallel, const std::string& name) {
  require(entries_are_sound(layout, parallel), name + " must hold a layout of observed entries");
}

void check(const Rule& rule) {
  check_range(static_cast<int>(rule.kind), 0, static_cast<int>(RuleKind::preconditioned_lbfgs), "kind");
  const auto not_negative = [](double number, const char* name) {
    require(std::isfinite(number) && number >= 0, std::string(name) + " must be at least 0 and finite");
  };
  not_negative(rule.lr, "lr");
  not_negative(rule.weight_decay, "weight_decay");
  not_negative(rule.bias_weight_decay, "bias_weight_decay");
  not_negative(rule.eps, "eps");
  not_negative(rule.gradient_clip, "gradient_clip");
  not_negative(rule.decay_after, "decay_after");
  require(std::isfinite(rule.decay_rate) && rule.decay_rate > 0 && rule.decay_rate <= 1,
          "decay_rate must be above 0 and at most 1");
  require(rule.concavity >= 0 && rule.concavity < 1, "concavity must be at least 0 and below 1");
  require(std::isfinite(rule.knee) && rule.knee > 0, "knee must be above 0 and finite");
  for (const double decay : {rule.momentum, rule.alpha, rule.beta1, rule.beta2}) {
    require(decay >= 0 && decay < 1, "momentum, alpha, beta1 and beta2 must be at least 0 and below 1");
  }
}

void check(const StopRules& stop) {
  require(!std::isnan(stop.train_loss) && !std::isnan(stop.gradient_norm),
          "train_loss and gradient_norm must be numbers, got nan");
}

void check(Part part) {
  check_range(static_cast<int>(part), 0, part_count - 1, "part");
}

void refuse_unfinished_objects(const py::module_& module) {
  for (const auto& [name, value] : module.attr("__dict__").cast<py::dict>()) {
    if (!PyType_Check(value.ptr())) continue;
    auto* info = py::detail::get_type_info(reinterpret_cast<PyTypeObject*>(value.ptr()));
    if (info == nullptr) continue;
    info->operator_new = [](size_t) -> void* { throw py::type_error("__init__ has not succeeded"); };
  }
}

}  // namespace dmf::python
