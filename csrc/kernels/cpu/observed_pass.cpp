#include "observed_pass.h"

#include "formed_pass.h"
#include "line_pass.h"
#include "sweep.h"

namespace dmf {
namespace {

template <class T>
constexpr Dtype dtype_of = sizeof(T) == 8 ? Dtype::float64 : Dtype::float32;

template <class T>
Operands operands_of(const ObservedEntries<T>& entries, const Sides<T>& sides) {
  Operands operands;
  operands.a = sides.a.data;
  operands.b_transposed = sides.b_transposed.data;
  operands.h = sides.a.stride;  // the zeros past the last column change nothing and spare padded copies
  operands.values = entries.values;
  operands.weights = entries.weights;
  operands.row_bias = sides.row_bias;
  operands.column_bias = sides.column_bias;
  operands.offset = sides.mean;
  return operands;
}

template <class T>
class TilePass final : public ObservedPass<T> {
 public:
  TilePass(const ObservedEntries<T>& entries, double scale, const Sides<T>& sides, Parallel& parallel)
      : layout_(entries.layout), operands_(operands_of(entries, sides)), parallel_(parallel) {
    operands_.gradient_a = sides.gradient_a.data;
    operands_.gradient_b_transposed = sides.gradient_b_transposed.data;
    operands_.gradient_row_bias = sides.gradient_row_bias;
    operands_.gradient_column_bias = sides.gradient_column_bias;
    operands_.scale = scale;
  }

  double run() override {
    return sweep(layout_, Task::loss_gradients, dtype_of<T>, operands_, parallel_, true);
  }

 private:
  const LayoutView layout_;
  Operands operands_;
  Parallel& parallel_;
};

}  // namespace

template <class T>
ObservedEntries<T> observed_entries(const LayoutView& layout, const T* values, const T* weights) {
  ObservedEntries<T> entries{layout, values, weights, 0.0};
  if (weights == nullptr) {
    entries.total_weight = static_cast<double>(entries.nnz());
  } else {
    for (int64_t entry = 0; entry < entries.nnz(); ++entry) {
      entries.total_weight += static_cast<double>(weights[entry]);
    }
  }
  return entries;
}

template <class T>
std::unique_ptr<ObservedPass<T>> make_observed_pass(const ObservedEntries<T>& entries, double scale,
                                                    const Sides<T>& sides, Parallel& parallel) {
  if (sides.form_product()) return std::make_unique<FormedPass<T>>(entries, scale, sides, parallel);
  if (LinePass<T>::suits(entries.nnz(), sides)) return std::make_unique<LinePass<T>>(entries, scale, sides);
  return std::make_unique<TilePass<T>>(entries, scale, sides, parallel);
}

template <class T>
double squared_error(const ObservedEntries<T>& entries, const Sides<T>& sides, Parallel& parallel) {
  if (sides.form_product()) return squared_error_at_formed(entries, sides, parallel);
  return sweep(entries.layout, Task::loss, dtype_of<T>, operands_of(entries, sides), parallel, true);
}

#define DMF_INSTANTIATE(T)                                                                        \
  template ObservedEntries<T> observed_entries(const LayoutView&, const T*, const T*);            \
  template std::unique_ptr<ObservedPass<T>> make_observed_pass(const ObservedEntries<T>&, double, \
                                                               const Sides<T>&, Parallel&);       \
  template double squared_error(const ObservedEntries<T>&, const Sides<T>&, Parallel&);
DMF_INSTANTIATE(float)
DMF_INSTANTIATE(double)
#undef DMF_INSTANTIATE

}  // namespace dmf
