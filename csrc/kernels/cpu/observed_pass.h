// The pass over Ω of a step of gradient descent: the loss and the gradients of A and Bᵀ (or W) and of the
// biases.
#pragma once

#include <memory>

#include "../descent/dense_matrix.h"
#include "../observed_layout.h"
#include "../parallel.h"

namespace dmf {

// The observed entries: a layout that passed entries_are_inside(), and values and weights in its order. A
// non-owning view.
template <class T>
struct ObservedEntries {
  LayoutView layout{};
  const T *values = nullptr, *weights = nullptr;  // weights null for ones
  double total_weight = 0;                        // Σ w

  int64_t nnz() const { return layout.header->nnz; }
};

template <class T>
ObservedEntries<T> observed_entries(const LayoutView& layout, const T* values, const T* weights);

// The operands of a prediction, A[i]·Bᵀ[j] + row_bias[i] + column_bias[j] + mean, and their gradients. If W is
// formed, it replaces A, and there is no Bᵀ.
template <class T>
struct Sides {
  DenseMatrix<T> a, b_transposed;
  DenseMatrix<T> gradient_a, gradient_b_transposed;
  // (m,) and (n,): both or neither, and no mean without them. They have gradients if they are learned.
  T *row_bias = nullptr, *column_bias = nullptr;
  T *gradient_row_bias = nullptr, *gradient_column_bias = nullptr;
  double mean = 0;

  bool form_product() const { return b_transposed.data == nullptr; }
  bool has_biases() const { return row_bias != nullptr; }
  bool learns_biases() const { return gradient_row_bias != nullptr; }
};

template <class T>
class ObservedPass {
 public:
  virtual ~ObservedPass() = default;

  // Sets the gradients of scale · Σ w (prediction − value)² and returns the sum without the scale.
  virtual double run() = 0;
};

// Chosen by sizes alone: by lines (line_pass.h), by tiles (sweep.h), or over a W that is formed. The gradient
// of W must be zero initially, since only observed entries are written. What `entries` points to and `parallel`
// must outlive the pass.
template <class T>
std::unique_ptr<ObservedPass<T>> make_observed_pass(const ObservedEntries<T>& entries, double scale,
                                                    const Sides<T>& sides, Parallel& parallel);

// Σ w (prediction − value)², without gradients.
template <class T>
double squared_error(const ObservedEntries<T>& entries, const Sides<T>& sides, Parallel& parallel);

}  // namespace dmf
