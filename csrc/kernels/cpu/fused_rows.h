// The row phase of loss and gradients for an h of a few vectors: the slices of Bᵀ that the dot products of a
// group read stay in registers until they are added to dA.
#pragma once

#include "groups.h"
#include "residuals.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

// Up to this number of vectors per slice, that is faster than reading Bᵀ twice.
#if defined(DMF_SANITIZED)  // for sanitizers, with which all widths take minutes to compile
constexpr int max_fused_vectors = 2;
#else
constexpr int max_fused_vectors = vector_registers / 4;
#endif

template <class Storage, int P, bool biased>
class FusedRows {
 public:
  using T = accumulator_t<Storage>;
  using V = Vector<T>;
  using Register = typename V::type;

  // Writes the tile's coefficients, adds to dA, returns the tile's part of the loss.
  static double run(const TileView<Storage>& tile) {
    const FusedRows rows(tile);
    const Storage* a = tile.a();
    T* gradient_a = tile.gradient_a();
    Residuals<Storage, biased> residuals(tile);
    EntryCursor<Storage> entries(tile);
    for_sized_groups(tile.row_bundles(), tile.row_bundles_end(), tile.row_of_group(),
                     [&](auto size, int64_t row) DMF_INLINED {
                       rows.group<size>(a + row * h, gradient_a + row * h, row, entries, residuals);
                     });
    return residuals.loss();
  }

 private:
  static constexpr int64_t h = P * V::width;
  // Entries whose slices fit in the registers together with A[i] and dA[i].
  static constexpr int at_once = P <= max_fused_vectors / 2 ? 4 : 2;

  DMF_INLINE explicit FusedRows(const TileView<Storage>& tile)
      : b_(tile.b()), gradient_row_bias_(tile.gradient_row_bias()) {}

  template <int E>
  DMF_INLINE void group(const Storage* a, T* gradient_a, int64_t row, EntryCursor<Storage>& entries,
                        Residuals<Storage, biased>& residuals) const {
    Register x[P], sum[P];
    Panel<T, P>::load(a, x);
    Panel<T, P>::load(gradient_a, sum);
    parts<E>(x, sum, row, entries, residuals);
    Panel<T, P>::store(gradient_a, sum);
  }

  template <int E>
  DMF_INLINE void parts(const Register (&x)[P], Register (&sum)[P], int64_t row, EntryCursor<Storage>& entries,
                        Residuals<Storage, biased>& residuals) const {
    part<(E < at_once ? E : at_once)>(x, sum, row, entries, residuals);
    if constexpr (E > at_once) parts<E - at_once>(x, sum, row, entries, residuals);
  }

  template <int E>
  DMF_INLINE void part(const Register (&x)[P], Register (&sum)[P], int64_t row, EntryCursor<Storage>& entries,
                       Residuals<Storage, biased>& residuals) const {
    Register b[E][P], dot[E];
    for (int e = 0; e < E; ++e) {
      Panel<T, P>::load(opaque(b_ + entries.column[e] * h), b[e]);
      dot[e] = V::multiply(x[0], b[e][0]);
      for (int p = 1; p < P; ++p) dot[e] = V::multiply_add(x[p], b[e][p], dot[e]);
    }
    T dots[sums_slack] = {};
    V::template sums<E>(dot, dots);
    const T* coefficient = residuals.template take<E>(dots, row, entries);
    if constexpr (biased) add_sum<E>(gradient_row_bias_, row, coefficient);
    for (int e = 0; e < E; ++e) {
      const Register factor = V::broadcast(coefficient[e]);
      for (int p = 0; p < P; ++p) sum[p] = V::multiply_add(factor, b[e][p], sum[p]);
    }
  }

  const Storage* b_;
  T* gradient_row_bias_;
};

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
