// The numbers of up to four entries side by side, in accumulators.
#pragma once

#include <type_traits>

#include "simd.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace dmf {
namespace DMF_INSTRUCTION_SET {

template <class T>
struct Lanes {
  static constexpr int count = 4;
  typedef T type __attribute__((vector_size(count * sizeof(T))));
  typedef double Doubles __attribute__((vector_size(count * sizeof(double))));

  // The first E numbers at p, padded with zeros. Nothing past them is read.
  template <int E, class Storage>
  static DMF_INLINE type load(const Storage* p) {
    type x{};
    if constexpr (E == count && sizeof(Storage) == sizeof(T)) {
      std::memcpy(&x, p, sizeof x);
#if defined(__AVX512VL__)
    } else if constexpr (std::is_same_v<Storage, float>) {
      x = _mm_maskz_loadu_ps((1 << E) - 1, p);
#endif
    } else {
      for (int lane = 0; lane < E; ++lane) x[lane] = widen(p[lane]);
    }
    return x;
  }

  // sum += x · y, in double.
  static DMF_INLINE void add_products(type x, type y, Doubles& sum) {
    sum += __builtin_convertvector(x, Doubles) * __builtin_convertvector(y, Doubles);
  }

  // Transposes the square matrix whose rows are `row`.
  static DMF_INLINE void transpose(type (&row)[count]) {
    type column[count];
    for (int c = 0; c < count; ++c) column[c] = type{row[0][c], row[1][c], row[2][c], row[3][c]};
    for (int c = 0; c < count; ++c) row[c] = column[c];
  }
};

#if defined(__SSE__)
// Compilers would insert the numbers one by one.
template <>
DMF_INLINE void Lanes<float>::transpose(type (&row)[count]) {
  _MM_TRANSPOSE4_PS(row[0], row[1], row[2], row[3]);
}
#endif

#if defined(__AVX2__)
// The compiler would convert in halves.
template <>
DMF_INLINE void Lanes<float>::add_products(type x, type y, Doubles& sum) {
  sum = _mm256_fmadd_pd(_mm256_cvtps_pd(x), _mm256_cvtps_pd(y), sum);
}
#endif

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
