#include "observed_pass.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "line_pass.h"
#include "sweep.h"

namespace dmf {
namespace {

template <class T>
class TilePass final : public ObservedPass<T> {
 public:
  TilePass(const ObservedEntries<T>& entries, double scale, const Sides<T>& sides, Parallel& parallel)
      : layout_(entries.layout), parallel_(parallel) {
    operands_.a = sides.a.data;
    operands_.b_transposed = sides.b_transposed.data;
    operands_.h = sides.a.stride;  // the zeros behind the last column change nothing and spare padded copies
    operands_.values = entries.layout_values;
    operands_.weights = entries.layout_weights;
    operands_.gradient_a = sides.gradient_a.data;
    operands_.gradient_b_transposed = sides.gradient_b_transposed.data;
    operands_.gradient_scale = scale;
  }

  double run() override {
    constexpr Dtype dtype = sizeof(T) == 8 ? Dtype::float64 : Dtype::float32;
    return sweep(layout_, Task::loss_gradients, dtype, operands_, parallel_);
  }

 private:
  const LayoutView layout_;
  Operands operands_;
  Parallel& parallel_;
};

template <class T>
class FormedPass final : public ObservedPass<T> {
 public:
  FormedPass(const ObservedEntries<T>& entries, double scale, const Sides<T>& sides, Parallel& parallel)
      : w_(sides.a.data),
        gradient_(sides.gradient_a.data),
        twice_scale_(static_cast<T>(2 * scale)),
        parallel_(parallel) {
    std::vector<int64_t> order(entries.nnz);
    std::iota(order.begin(), order.end(), int64_t{0});
    const auto place_of = [&](int64_t entry) {
      return entries.rows[entry] * sides.a.stride + entries.columns[entry];
    };
    std::sort(order.begin(), order.end(), [&](int64_t x, int64_t y) { return place_of(x) < place_of(y); });
    for (const int64_t entry : order) {
      places_.push_back(place_of(entry));
      values_.push_back(entries.values[entry]);
      if (entries.weights != nullptr) weights_.push_back(entries.weights[entry]);
    }
    losses_.resize((places_.size() + slice - 1) / slice);
  }

  double run() override {
    const auto work = [this](int, int64_t begin, int64_t end) {
      for (int64_t part = begin; part < end; ++part) losses_[part] = loss_of_slice(part);
    };
    for_slices(parallel_, static_cast<int64_t>(losses_.size()), work);
    return std::accumulate(losses_.begin(), losses_.end(), 0.0);
  }

 private:
  // Entries that are added up by themselves, so that the sum does not depend on the number of threads.
  static constexpr int64_t slice = 1 << 15;

  double loss_of_slice(int64_t part) const {
    const int64_t end = std::min<int64_t>((part + 1) * slice, places_.size());
    double loss = 0;
    for (int64_t entry = part * slice; entry < end; ++entry) {
      const T residual = w_[places_[entry]] - values_[entry];
      const T weighted = weights_.empty() ? residual : weights_[entry] * residual;
      gradient_[places_[entry]] = twice_scale_ * weighted;
      loss += static_cast<double>(weighted) * static_cast<double>(residual);
    }
    return loss;
  }

  const T* w_;
  T* gradient_;
  const T twice_scale_;
  Parallel& parallel_;
  std::vector<int64_t> places_;
  std::vector<T> values_, weights_;
  std::vector<double> losses_;
};

}  // namespace

template <class T>
std::unique_ptr<ObservedPass<T>> make_observed_pass(const ObservedEntries<T>& entries, double scale,
                                                    const Sides<T>& sides, Parallel& parallel) {
  if (sides.form_product()) return std::make_unique<FormedPass<T>>(entries, scale, sides, parallel);
  if (LinePass<T>::suits(entries.nnz, sides)) {
    return std::make_unique<LinePass<T>>(entries, scale, sides);
  }
  return std::make_unique<TilePass<T>>(entries, scale, sides, parallel);
}

template std::unique_ptr<ObservedPass<float>> make_observed_pass(const ObservedEntries<float>&, double,
                                                                 const Sides<float>&, Parallel&);
template std::unique_ptr<ObservedPass<double>> make_observed_pass(const ObservedEntries<double>&, double,
                                                                  const Sides<double>&, Parallel&);

}  // namespace dmf
