// What a step of gradient descent does at Ω: from A and Bᵀ (or W) to the loss and their gradients.
#pragma once

#include <memory>

#include "../descent/dense_matrix.h"
#include "../observed_layout.h"
#include "../parallel.h"

namespace dmf {

// The observed entries in the caller's order, and their tiled layout with values and weights in its order.
template <class T>
struct ObservedEntries {
  int64_t nnz = 0;
  const int64_t *rows = nullptr, *columns = nullptr;
  const T *values = nullptr, *weights = nullptr;  // weights null for ones
  LayoutView layout{};
  const T *layout_values = nullptr, *layout_weights = nullptr;
};

// The two sides of the split, or W alone where it is formed.
template <class T>
struct Sides {
  DenseMatrix<T> a, b_transposed;
  DenseMatrix<T> gradient_a, gradient_b_transposed;

  bool form_product() const { return b_transposed.data == nullptr; }
};

template <class T>
class ObservedPass {
 public:
  virtual ~ObservedPass() = default;

  // Sets the gradients of scale · Σ w (A·Bᵀᵀ − value)² and returns the sum without the scale.
  virtual double run() = 0;
};

// Chosen by sizes alone: by lines (line_pass.h), by tiles (sweep.h), or over a W that is formed. The gradient
// of W must be zero at first, since only what is observed is written. The layout and `parallel` must live as
// long as the pass; everything else is copied.
template <class T>
std::unique_ptr<ObservedPass<T>> make_observed_pass(const ObservedEntries<T>& entries, double scale,
                                                    const Sides<T>& sides, Parallel& parallel);

}  // namespace dmf
