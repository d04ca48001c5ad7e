// The row phase of loss and gradients in one pass, for an h of a few vectors: the slices of Bᵀ that a dot
// product reads stay in registers until dA has had them.
//
// A[i] and dA[i] are held in registers along a row. Its entries come in groups: dot products, one transposed
// reduction, residuals, then dA. With one or two vectors a slice, the next group's dot products start before
// dA takes the last group, which hides the latency of the reduction; more would not fit the registers.
#pragma once

#include "lanes.h"
#include "panel.h"
#include "tile_view.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

// Vectors of a slice up to which one pass is faster than two.
constexpr int max_fused_vectors = vector_registers / 4;

template <class Storage, int P, bool Partial>
class FusedRows {
 public:
  using T = accumulator_t<Storage>;
  using V = Vector<T>;
  using Register = typename V::type;

  // Writes the tile's coefficients, adds to dA, returns the tile's part of the loss.
  static double run(const TileView<Storage>& tile) { return FusedRows(tile).all_rows(tile); }

 private:
  DMF_INLINE explicit FusedRows(const TileView<Storage>& tile)
      : runtime_h_(tile.h()),
        panel_{static_cast<int>(tile.h() % V::width)},
        b_(tile.b()),
        twice_scale_(static_cast<T>(2.0 * tile.operands.gradient_scale)) {}

  DMF_INLINE double all_rows(const TileView<Storage>& tile) const {
    Entries entries{tile.columns(), tile.values(), tile.weights(), tile.residuals};
    typename L::Doubles loss{};
    for (int64_t s = tile.begin.row_segment_start; s < tile.end.row_segment_start; ++s) {
      const Segment segment = tile.layout.row_segments[s];
      row(tile.a() + segment.index * h(), tile.gradient_a() + segment.index * h(), entries, segment.count,
          loss);
    }
    double sum = 0;
    for (int e = 0; e < E; ++e) sum += loss[e];
    return sum;
  }

  DMF_INLINE int64_t h() const { return Partial ? runtime_h_ : P * V::width; }

  static constexpr bool pipelined = P <= 2;
  static constexpr int E = P <= max_fused_vectors / 2 ? 4 : 2;  // entries in a group
  static constexpr int side = P >= 4 ? 1 : 4 / P;  // independent sums that keep the multiply-add units busy
  using L = Lanes<T, E>;

  // Where a row's entries begin in the arrays of the tile.
  struct Entries {
    const uint16_t* column;
    const Storage* value;
    const Storage* weight;  // null for ones
    T* coefficient;

    DMF_INLINE void advance(int count) {
      column += count;
      value += count;
      if (weight != nullptr) weight += count;
      coefficient += count;
    }
  };

  struct Group {
    Register b[E][P];
    typename L::type coefficient;
  };

  DMF_INLINE void row(const Storage* a, T* gradient_a, Entries& entries, int count,
                      typename L::Doubles& loss) const {
    Register x[P], sum[side][P];
    panel_.load(a, x);
    panel_.load(gradient_a, sum[0]);
    for (int s = 1; s < side; ++s) {
      for (int p = 0; p < P; ++p) sum[s][p] = V::zero();
    }
    const int left = full_groups(x, sum, entries, count, loss);
    Group group;
    residuals<false>(x, entries, left, group, loss);
    add(group, sum);
    for (int s = 1; s < side; ++s) {
      for (int p = 0; p < P; ++p) sum[0][p] = V::add(sum[0][p], sum[s][p]);
    }
    panel_.store(gradient_a, sum[0]);
  }

  // Leaves the last one to E entries of a row, and returns how many.
  DMF_INLINE int full_groups(const Register (&x)[P], Register (&sum)[side][P], Entries& entries, int left,
                             typename L::Doubles& loss) const {
    if (!pipelined) {
      for (; left > E; left -= E) {
        Group group;
        residuals<true>(x, entries, E, group, loss);
        add(group, sum);
      }
    } else if (left > E) {
      Group last;
      residuals<true>(x, entries, E, last, loss);
      for (left -= E; left > E; left -= E) {
        Group next;
        residuals<true>(x, entries, E, next, loss);
        add(last, sum);
        last = next;
      }
      add(last, sum);
    }
    return left;
  }

  // Takes the next E entries, or, when not Full, the last `count` <= E of a row: copies of the first fill
  // their group, with coefficients of zero. That costs less than a branch that is missed in every row.
  template <bool Full>
  DMF_INLINE void residuals(const Register (&x)[P], Entries& entries, int count, Group& group,
                            typename L::Doubles& loss) const {
    const auto at = [count](int e) { return Full ? e : e * (e < count); };
    Register dot[E];
    for (int e = 0; e < E; ++e) {
      panel_.load(b_ + entries.column[at(e)] * h(), group.b[e]);
      dot[e] = V::multiply(x[0], group.b[e][0]);
      for (int p = 1; p < P; ++p) dot[e] = V::multiply_add(x[p], group.b[e][p], dot[e]);
    }
    T dots[residual_slack];
    V::template sums<E>(dot, dots);
    typename L::type residual;
    std::memcpy(&residual, dots, sizeof residual);
    residual -= Full ? L::load(entries.value) : L::load_first(entries.value, count);
    if (!Full) residual = L::keep_first(residual, count);
    typename L::type weighted = residual;
    if (entries.weight != nullptr) {
      weighted *= Full ? L::load(entries.weight) : L::load_first(entries.weight, count);
    }
    L::add_products(weighted, residual, loss);
    const typename L::type coefficient = twice_scale_ * weighted;
    group.coefficient = coefficient;
    // Zeros behind a row's end are overwritten by the next row, or lie in the buffer's slack.
    std::memcpy(entries.coefficient, &coefficient, sizeof coefficient);
    entries.advance(count);
  }

  static DMF_INLINE void add(const Group& group, Register (&sum)[side][P]) {
    for (int e = 0; e < E; ++e) {
      const Register factor = V::broadcast(group.coefficient[e]);
      for (int p = 0; p < P; ++p) {
        sum[e % side][p] = V::multiply_add(factor, group.b[e][p], sum[e % side][p]);
      }
    }
  }

  const int64_t runtime_h_;
  const Panel<T, P, Partial> panel_;
  const Storage* b_;
  const T twice_scale_;
};

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
