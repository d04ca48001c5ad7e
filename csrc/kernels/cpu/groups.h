// What the phases compute for the groups of a tile: dot products of one slice with a few others, and sums of a
// few slices. A slice is a row of A or Bᵀ: h numbers, or P vectors. P is known at compile time; 0 stands for
// any number.
#pragma once

#include <type_traits>

#include "../observed_layout.h"
#include "panel.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

template <int kind, class Body>
DMF_INLINE void for_groups_of_kind(const Bundle& bundle, const uint16_t*& line, const Body& body) {
  const int count = bundle.groups[kind];
  for (int group = 0; group < count; ++group) {
    body(std::integral_constant<int, group_sizes[kind]>{}, *line++);
  }
  if constexpr (kind + 1 < group_kinds) for_groups_of_kind<kind + 1>(bundle, line, body);
}

// Calls body(size, line) for the groups of [first, last); `size` is known at compile time.
template <class Body>
DMF_INLINE void for_sized_groups(const Bundle* first, const Bundle* last, const uint16_t* line,
                                 const Body& body) {
  for (const Bundle* bundle = first; bundle != last; ++bundle) for_groups_of_kind<0>(*bundle, line, body);
}

template <class Storage, int P>
class Slices {
 public:
  using T = accumulator_t<Storage>;
  using V = Vector<T>;
  using Register = typename V::type;

  DMF_INLINE explicit Slices(int64_t h) : h_(h) {}

  // Numbers in a slice: a multiple of slice_vectors<Storage> vectors.
  DMF_INLINE int64_t h() const { return P > 0 ? P * V::width : h_; }

  // dots[e] = a · row[e].
  template <int E>
  DMF_INLINE void dots(const Storage* a, const Storage* const (&row)[E], T* dots) const {
    // Two sums per entry: a single one would wait for its own multiply-add.
    Register sum[E][2];
    for (int e = 0; e < E; ++e) sum[e][0] = sum[e][1] = V::zero();
    int64_t v = 0;
    for (; v + 2 * V::width <= h(); v += 2 * V::width) add_products<2>(a + v, row, v, sum);
    if constexpr (slice_vectors<Storage> == 1) {
      if (v < h()) add_products<1>(a + v, row, v, sum);
    }
    Register total[E];
    for (int e = 0; e < E; ++e) total[e] = V::add(sum[e][0], sum[e][1]);
    V::template sums<E>(total, dots);
  }

  // target += Σ_e coefficient[e] · row[e].
  template <int E>
  DMF_INLINE void add(T* target, const Storage* const (&row)[E], const T* coefficient) const {
    Register factor[E];
    for (int e = 0; e < E; ++e) factor[e] = V::broadcast(coefficient[e]);
    if constexpr (P > 0) return add_strip<P>(target, row, factor, 0);
    int64_t v = 0;
    for (; v + 2 * V::width <= h(); v += 2 * V::width) add_strip<2>(target, row, factor, v);
    if constexpr (slice_vectors<Storage> == 1) {
      if (v < h()) add_strip<1>(target, row, factor, v);
    }
  }

 private:
  template <int Q, int E>
  static DMF_INLINE void add_products(const Storage* a, const Storage* const (&row)[E], int64_t at,
                                      Register (&sum)[E][2]) {
    Register x[Q], y[Q];
    Panel<T, Q>::load(a, x);
    for (int e = 0; e < E; ++e) {
      Panel<T, Q>::load(row[e] + at, y);
      for (int q = 0; q < Q; ++q) sum[e][q] = V::multiply_add(x[q], y[q], sum[e][q]);
    }
  }

  template <int Q, int E>
  static DMF_INLINE void add_strip(T* target, const Storage* const (&row)[E], const Register (&factor)[E],
                                   int64_t at) {
    Register sum[Q], x[Q];
    Panel<T, Q>::load(target + at, sum);
    for (int e = 0; e < E; ++e) {
      Panel<T, Q>::load(row[e] + at, x);
      for (int q = 0; q < Q; ++q) sum[q] = V::multiply_add(factor[e], x[q], sum[q]);
    }
    Panel<T, Q>::store(target + at, sum);
  }

  const int64_t h_;
};

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
