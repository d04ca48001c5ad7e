// The two operations on gathered rows that the phases are made of: dot products and weighted sums.
#pragma once

#include "panel.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

constexpr int entries_at_once = 8;
constexpr int panel_vectors = 8;

template <class Storage>
struct Rows {
  using T = accumulator_t<Storage>;
  using V = Vector<T>;
  using Register = typename V::type;

  // out[e] = a · b[columns[e]] for E columns.
  template <int E>
  static DMF_INLINE void dots_of(const Storage* a, const Storage* b, const uint16_t* columns, int64_t h,
                                 T* out) {
    const Storage* row[E];
    Register sum[E];
    for (int e = 0; e < E; ++e) {
      row[e] = b + columns[e] * h;
      sum[e] = V::zero();
    }
    int64_t v = 0;
    for (; v + V::width <= h; v += V::width) {
      const Register x = V::load(a + v);
      for (int e = 0; e < E; ++e) sum[e] = V::multiply_add(x, V::load(row[e] + v), sum[e]);
    }
    if (v < h) {
      const int rest = static_cast<int>(h - v);
      const Register x = V::load_some(a + v, rest);
      for (int e = 0; e < E; ++e) sum[e] = V::multiply_add(x, V::load_some(row[e] + v, rest), sum[e]);
    }
    V::template sums<E>(sum, out);
  }

  // out[k] = a · b[columns[k]] for all k < count; may write up to residual_slack values more.
  static DMF_INLINE void dots(const Storage* a, const Storage* b, const uint16_t* columns, int count, int64_t h,
                              T* out) {
    int k = 0;
    for (; k + entries_at_once <= count; k += entries_at_once) {
      dots_of<entries_at_once>(a, b, columns + k, h, out + k);
    }
    switch (count - k) {
      case 7:
        return dots_of<7>(a, b, columns + k, h, out + k);
      case 6:
        return dots_of<6>(a, b, columns + k, h, out + k);
      case 5:
        return dots_of<5>(a, b, columns + k, h, out + k);
      case 4:
        return dots_of<4>(a, b, columns + k, h, out + k);
      case 3:
        return dots_of<3>(a, b, columns + k, h, out + k);
      case 2:
        return dots_of<2>(a, b, columns + k, h, out + k);
      case 1:
        return dots_of<1>(a, b, columns + k, h, out + k);
      default:
        return;
    }
  }

  // target[0 : P·width] += Σ_k coefficient(k) · source[index[k]]; the last vector has `rest` lanes when
  // Partial. Few vectors leave the multiply-add units waiting for each other: those take several
  // entries side by side.
  template <int P, bool Partial, class Coefficient>
  static DMF_INLINE void add_panel(T* target, const Storage* source, const uint16_t* index, int count,
                                   int64_t h, int rest, const Coefficient& coefficient) {
    constexpr int side = P > 4 ? 1 : P > 2 ? 2 : 4 / P;
    const Panel<T, P, Partial> panel{rest};
    Register sum[side][P];
    panel.load(target, sum[0]);
    for (int s = 1; s < side; ++s) {
      for (int p = 0; p < P; ++p) sum[s][p] = V::zero();
    }
    const auto add_entry = [&](int k, Register(&to)[P]) __attribute__((always_inline)) {
      const Register factor = V::broadcast(coefficient(k));
      const Storage* row = source + index[k] * h;
      for (int p = 0; p < P; ++p) to[p] = V::multiply_add(factor, panel.load(row, p), to[p]);
    };
    int k = 0;
    for (; k + side <= count; k += side) {
      for (int s = 0; s < side; ++s) add_entry(k + s, sum[s]);
    }
    for (; k < count; ++k) add_entry(k, sum[0]);
    for (int s = 1; s < side; ++s) {
      for (int p = 0; p < P; ++p) sum[0][p] = V::add(sum[0][p], sum[s][p]);
    }
    panel.store(target, sum[0]);
  }

  template <int P, class Coefficient>
  static DMF_INLINE void add_last_panel(T* target, const Storage* source, const uint16_t* index, int count,
                                        int64_t h, int rest, const Coefficient& coefficient) {
    if (rest == 0) {
      add_panel<P, false>(target, source, index, count, h, rest, coefficient);
    } else {
      add_panel<P, true>(target, source, index, count, h, rest, coefficient);
    }
  }

  // target[0:h] += Σ_k coefficient(k) · source[index[k]][0:h].
  template <class Coefficient>
  static DMF_INLINE void add(T* target, const Storage* source, const uint16_t* index, int count, int64_t h,
                             const Coefficient& coefficient) {
    constexpr int64_t panel = panel_vectors * V::width;
    int64_t v = 0;
    for (; v + panel <= h; v += panel) {
      add_panel<panel_vectors, false>(target + v, source + v, index, count, h, 0, coefficient);
    }
    const int rest = static_cast<int>((h - v) % V::width);
    const int vectors = static_cast<int>((h - v + V::width - 1) / V::width);
    target += v;
    source += v;
    switch (vectors) {
      case 8:
        return add_last_panel<8>(target, source, index, count, h, rest, coefficient);
      case 7:
        return add_last_panel<7>(target, source, index, count, h, rest, coefficient);
      case 6:
        return add_last_panel<6>(target, source, index, count, h, rest, coefficient);
      case 5:
        return add_last_panel<5>(target, source, index, count, h, rest, coefficient);
      case 4:
        return add_last_panel<4>(target, source, index, count, h, rest, coefficient);
      case 3:
        return add_last_panel<3>(target, source, index, count, h, rest, coefficient);
      case 2:
        return add_last_panel<2>(target, source, index, count, h, rest, coefficient);
      case 1:
        return add_last_panel<1>(target, source, index, count, h, rest, coefficient);
      default:
        return;
    }
  }
};

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
