// A few accumulators side by side, one for each entry of a group.
#pragma once

#include "simd.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

template <class T, int N>
struct Lanes {
  typedef T type __attribute__((vector_size(N * sizeof(T))));

  template <class Storage>
  static DMF_INLINE type load(const Storage* p) {
    type x{};
    if constexpr (sizeof(Storage) == sizeof(T)) {
      std::memcpy(&x, p, sizeof x);
    } else {
      for (int lane = 0; lane < N; ++lane) x[lane] = widen(p[lane]);
    }
    return x;
  }

  // Lanes from `count` >= 1 on repeat the first: nothing behind it is read.
  template <class Storage>
  static DMF_INLINE type load_first(const Storage* p, int count) {
    type x{};
    for (int lane = 0; lane < N; ++lane) x[lane] = widen(p[lane * (lane < count)]);
    return x;
  }

  // Zeros from `count` on.
  static DMF_INLINE type keep_first(type x, int count) {
    type number{};
    for (int lane = 0; lane < N; ++lane) number[lane] = static_cast<T>(lane);
    return number < static_cast<T>(count) ? x : type{};
  }

  // sum += x · y, in double.
  typedef double Doubles __attribute__((vector_size(N * sizeof(double))));
  static DMF_INLINE void add_products(type x, type y, Doubles& sum) {
    sum += __builtin_convertvector(x, Doubles) * __builtin_convertvector(y, Doubles);
  }
};

#if defined(__AVX2__)
// The compiler would convert in halves.
template <>
inline void Lanes<float, 4>::add_products(type x, type y, Doubles& sum) {
  sum = _mm256_fmadd_pd(_mm256_cvtps_pd(x), _mm256_cvtps_pd(y), sum);
}
#endif

#if defined(__AVX512VL__)
template <>
template <>
inline __m128 Lanes<float, 4>::load_first(const float* p, int count) {
  return _mm_maskz_loadu_ps(static_cast<__mmask8>((1u << count) - 1u), p);
}
template <>
inline __m128 Lanes<float, 4>::keep_first(__m128 x, int count) {
  return _mm_maskz_mov_ps(static_cast<__mmask8>((1u << count) - 1u), x);
}
#endif

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
