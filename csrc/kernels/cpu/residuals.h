// From dot products to residuals, loss and coefficients: what happens to the entries of a group in between.
#pragma once

#include "lanes.h"
#include "tile_view.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

// Where the entries that come next, in row order, begin in the arrays of a tile.
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

template <class Storage>
class Residuals {
 public:
  using T = accumulator_t<Storage>;
  using L = Lanes<T>;

  DMF_INLINE explicit Residuals(const TileView<Storage>& tile)
      : twice_scale_(static_cast<T>(2.0 * tile.operands.gradient_scale)) {}

  // Takes the next E entries: adds their loss, writes their coefficients 2·scale·w·(dot − b), and returns
  // where. Zeros behind them are overwritten by the next entries, or lie in the buffer's slack.
  template <int E>
  DMF_INLINE const T* take(const T* dots, EntryCursor<Storage>& entries) {
    if constexpr (E > L::count) {
      const T* coefficients = take<L::count>(dots, entries);
      take<E - L::count>(dots + L::count, entries);
      return coefficients;
    } else {
      const typename L::type residual = L::template load<E>(dots) - L::template load<E>(entries.value);
      typename L::type coefficient = twice_scale_ * residual;
      if (entries.weight == nullptr) {
        L::add_products(residual, residual, loss_);
      } else {
        const typename L::type weight = L::template load<E>(entries.weight);
        L::add_products(weight * residual, residual, loss_);
        coefficient *= weight;
      }
      std::memcpy(entries.coefficient, &coefficient, sizeof coefficient);
      // Broadcasting a coefficient from memory is a load; from a register it would take the unit that
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
  const T twice_scale_;
  typename L::Doubles loss_{};
};

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
