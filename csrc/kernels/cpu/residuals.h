// From dot products to residuals, loss and coefficients of the entries of a group.
#pragma once

#include "lanes.h"
#include "tile_view.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

// Where the next entries, in row order, begin in the arrays of a tile.
template <class Storage>
struct EntryCursor {
  using T = accumulator_t<Storage>;

  const uint16_t* column;
  const Storage* value;
  const Storage* weight;  // null for ones
  T* coefficient;

  explicit EntryCursor(const TileView<Storage>& tile)
      : column(tile.columns()), value(tile.values()), weight(tile.weights()), coefficient(tile.coefficients) {}

  DMF_INLINE void advance(int count) {
    column += count;
    value += count;
    if (weight != nullptr) weight += count;
    coefficient += count;
  }
};

// `biased` is a compile-time constant, since at h = 64 without biases a check in each group would cost 5%.
template <class Storage, bool biased>
class Residuals {
 public:
  using T = accumulator_t<Storage>;
  using L = Lanes<T>;

  DMF_INLINE explicit Residuals(const TileView<Storage>& tile)
      : twice_scale_(static_cast<T>(2.0 * tile.operands.scale)),
        offset_(static_cast<T>(tile.operands.offset)),
        row_bias_(tile.row_bias()),
        column_bias_(tile.column_bias()) {}

  // Processes the next E entries of a row: adds their loss, writes their coefficients, 2·scale·w·(dot + biases
  // − b), and returns the address of these. Zeros past them are overwritten by the next entries, or are in the
  // buffer's slack.
  template <int E>
  DMF_INLINE const T* take(const T* dots, int64_t row, EntryCursor<Storage>& entries) {
    if constexpr (E > L::count) {
      const T* coefficients = take<L::count>(dots, row, entries);
      take<E - L::count>(dots + L::count, row, entries);
      return coefficients;
    } else {
      typename L::type residual = L::template load<E>(dots) - L::template load<E>(entries.value);
      if constexpr (biased) residual += biases<E>(row_bias_[row] + offset_, entries.column);
      typename L::type coefficient = twice_scale_ * residual;
      if (entries.weight == nullptr) {
        L::add_products(residual, residual, loss_);
      } else {
        const typename L::type weight = L::template load<E>(entries.weight);
        L::add_products(weight * residual, residual, loss_);
        coefficient *= weight;
      }
      std::memcpy(entries.coefficient, &coefficient, sizeof coefficient);
      // Broadcasting a coefficient from memory is a load; from a register it would occupy the unit that
      // multiplies.
      const T* coefficients = opaque(entries.coefficient);
      entries.advance(E);
      return coefficients;
    }
  }

  DMF_INLINE double loss() const {
    double sum = 0;
    for (int lane = 0; lane < L::count; ++lane) sum += loss_[lane];
    return sum;
  }

 private:
  // Zeros past the E entries, as in what they are added to.
  template <int E>
  DMF_INLINE typename L::type biases(T of_row, const uint16_t* column) const {
    typename L::type x{};
    for (int e = 0; e < E; ++e) x[e] = of_row + column_bias_[column[e]];
    return x;
  }

  const T twice_scale_, offset_;
  const T *row_bias_, *column_bias_;
  typename L::Doubles loss_{};
};

// sums[line] += Σ_e coefficient[e], where sums are wanted: the gradient of a bias.
template <int E, class T>
DMF_INLINE void add_sum(T* sums, int64_t line, const T* coefficient) {
  if (sums == nullptr) return;
  T sum = coefficient[0];
  for (int e = 1; e < E; ++e) sum += coefficient[e];
  sums[line] += sum;
}

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
