// A vector abstraction for all instruction sets, selected by the compiler flags of the translation unit.
//
// Vector<T> has `width` lanes of the accumulator type T (float or double). load() reads double, float and
// float16, and widens them. Slices of bfloat16 are stored in pairs of vectors whose lanes alternate
// (prepared_operands.h): load_pair() widens both with a shift and a mask, without a shuffle. sums<E>() computes
// the horizontal sums of E vectors at once by transposition: about 3 instructions per vector instead of 8. It
// may write sums_slack numbers.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

#include "../number_types.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

template <class T>
struct Vector;

// Slices consist of whole units of this many vectors.
template <class Storage>
inline constexpr int slice_vectors = 1;
template <>
inline constexpr int slice_vectors<bfloat16> = 2;

// The same pointer, but the compiler does not know where it came from or what was stored through it.
template <class T>
DMF_INLINE const T* opaque(const T* p) {
  asm("" : "+r"(p));
  return p;
}

// Numbers that Vector::sums may write, for any E.
constexpr int sums_slack = 8;

#if defined(__AVX512F__)
constexpr int vector_registers = 32;
#else
constexpr int vector_registers = 16;
#endif

#if defined(__AVX512F__)

template <>
struct Vector<float> {
  using type = __m512;
  static constexpr int width = 16;
  static DMF_INLINE type zero() { return _mm512_setzero_ps(); }
  static DMF_INLINE type broadcast(float x) { return _mm512_set1_ps(x); }
  static DMF_INLINE type multiply(type a, type b) { return _mm512_mul_ps(a, b); }
  static DMF_INLINE type multiply_add(type a, type b, type c) { return _mm512_fmadd_ps(a, b, c); }
  static DMF_INLINE type add(type a, type b) { return _mm512_add_ps(a, b); }
  static DMF_INLINE type load(const float* p) { return _mm512_loadu_ps(p); }
  static DMF_INLINE void store(float* p, type x) { _mm512_storeu_ps(p, x); }

  static DMF_INLINE void load_pair(const bfloat16* p, type& first, type& second) {
    const __m512i both = _mm512_loadu_si512(p);
    first = _mm512_castsi512_ps(_mm512_slli_epi32(both, 16));
    second = _mm512_castsi512_ps(_mm512_and_si512(both, _mm512_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static DMF_INLINE type load(const float16* p) {
    return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
  }

  static DMF_INLINE __m256 fold(type x) {
    return _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
  }
  static DMF_INLINE type pair_low_high(type a, type b) {
    return _mm512_add_ps(_mm512_unpacklo_ps(a, b), _mm512_unpackhi_ps(a, b));
  }
  static DMF_INLINE type quad(type a, type b, type c, type d) {
    const __m512d ab = _mm512_castps_pd(pair_low_high(a, b)), cd = _mm512_castps_pd(pair_low_high(c, d));
    return _mm512_add_ps(_mm512_castpd_ps(_mm512_unpacklo_pd(ab, cd)),
                         _mm512_castpd_ps(_mm512_unpackhi_pd(ab, cd)));
  }
  template <int E>
  static DMF_INLINE void sums(const type (&x)[E], float* out) {
    const auto at = [&x](int e) { return e < E ? x[e] : _mm512_setzero_ps(); };
    if constexpr (E == 1) {
      out[0] = _mm512_reduce_add_ps(x[0]);
    } else if constexpr (E == 2) {
      const __m256 eight = fold(pair_low_high(x[0], x[1]));
      const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
      _mm_storeu_ps(out, _mm_add_ps(four, _mm_movehl_ps(four, four)));
    } else if constexpr (E <= 4) {
      const __m256 eight = fold(quad(at(0), at(1), at(2), at(3)));
      _mm_storeu_ps(out, _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1)));
    } else {
      const type low = quad(at(0), at(1), at(2), at(3)), high = quad(at(4), at(5), at(6), at(7));
      const type sum =
          _mm512_add_ps(_mm512_shuffle_f32x4(low, high, 0x44), _mm512_shuffle_f32x4(low, high, 0xEE));
      const type even = _mm512_shuffle_f32x4(sum, sum, 0x88), odd = _mm512_shuffle_f32x4(sum, sum, 0xDD);
      _mm256_storeu_ps(out, _mm512_castps512_ps256(_mm512_add_ps(even, odd)));
    }
  }
};

template <>
struct Vector<double> {
  using type = __m512d;
  static constexpr int width = 8;
  static DMF_INLINE type zero() { return _mm512_setzero_pd(); }
  static DMF_INLINE type broadcast(double x) { return _mm512_set1_pd(x); }
  static DMF_INLINE type multiply(type a, type b) { return _mm512_mul_pd(a, b); }
  static DMF_INLINE type multiply_add(type a, type b, type c) { return _mm512_fmadd_pd(a, b, c); }
  static DMF_INLINE type add(type a, type b) { return _mm512_add_pd(a, b); }
  static DMF_INLINE type load(const double* p) { return _mm512_loadu_pd(p); }
  static DMF_INLINE void store(double* p, type x) { _mm512_storeu_pd(p, x); }
  template <int E>
  static DMF_INLINE void sums(const type (&x)[E], double* out) {
    for (int e = 0; e + 1 < E; e += 2) {
      const type pair = _mm512_add_pd(_mm512_unpacklo_pd(x[e], x[e + 1]), _mm512_unpackhi_pd(x[e], x[e + 1]));
      const __m256d four = _mm256_add_pd(_mm512_castpd512_pd256(pair), _mm512_extractf64x4_pd(pair, 1));
      _mm_storeu_pd(out + e, _mm_add_pd(_mm256_castpd256_pd128(four), _mm256_extractf128_pd(four, 1)));
    }
    if constexpr (E % 2 == 1) out[E - 1] = _mm512_reduce_add_pd(x[E - 1]);
  }
};

#elif defined(__AVX2__)

template <>
struct Vector<float> {
  using type = __m256;
  static constexpr int width = 8;
  static DMF_INLINE type zero() { return _mm256_setzero_ps(); }
  static DMF_INLINE type broadcast(float x) { return _mm256_set1_ps(x); }
  static DMF_INLINE type multiply(type a, type b) { return _mm256_mul_ps(a, b); }
  static DMF_INLINE type multiply_add(type a, type b, type c) { return _mm256_fmadd_ps(a, b, c); }
  static DMF_INLINE type add(type a, type b) { return _mm256_add_ps(a, b); }
  static DMF_INLINE type load(const float* p) { return _mm256_loadu_ps(p); }
  static DMF_INLINE void store(float* p, type x) { _mm256_storeu_ps(p, x); }

  static DMF_INLINE void load_pair(const bfloat16* p, type& first, type& second) {
    const __m256i both = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
    first = _mm256_castsi256_ps(_mm256_slli_epi32(both, 16));
    second = _mm256_castsi256_ps(_mm256_and_si256(both, _mm256_set1_epi32(static_cast<int>(0xffff0000u))));
  }
  static DMF_INLINE type load(const float16* p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
  }

  static DMF_INLINE __m128 fold(type x) {
    return _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
  }
  static DMF_INLINE type quad(type a, type b, type c, type d) {
    return _mm256_hadd_ps(_mm256_hadd_ps(a, b), _mm256_hadd_ps(c, d));
  }
  template <int E>
  static DMF_INLINE void sums(const type (&x)[E], float* out) {
    const auto at = [&x](int e) { return e < E ? x[e] : _mm256_setzero_ps(); };
    if constexpr (E == 1) {
      const __m128 pairs = _mm_hadd_ps(fold(x[0]), fold(x[0]));
      _mm_store_ss(out, _mm_hadd_ps(pairs, pairs));
    } else {
      _mm_storeu_ps(out, fold(quad(at(0), at(1), at(2), at(3))));
      if constexpr (E > 4) _mm_storeu_ps(out + 4, fold(quad(at(4), at(5), at(6), at(7))));
    }
  }
};

template <>
struct Vector<double> {
  using type = __m256d;
  static constexpr int width = 4;
  static DMF_INLINE type zero() { return _mm256_setzero_pd(); }
  static DMF_INLINE type broadcast(double x) { return _mm256_set1_pd(x); }
  static DMF_INLINE type multiply(type a, type b) { return _mm256_mul_pd(a, b); }
  static DMF_INLINE type multiply_add(type a, type b, type c) { return _mm256_fmadd_pd(a, b, c); }
  static DMF_INLINE type add(type a, type b) { return _mm256_add_pd(a, b); }
  static DMF_INLINE type load(const double* p) { return _mm256_loadu_pd(p); }
  static DMF_INLINE void store(double* p, type x) { _mm256_storeu_pd(p, x); }
  template <int E>
  static DMF_INLINE void sums(const type (&x)[E], double* out) {
    for (int e = 0; e < E; ++e) {
      const __m128d pair = _mm_add_pd(_mm256_castpd256_pd128(x[e]), _mm256_extractf128_pd(x[e], 1));
      out[e] = _mm_cvtsd_f64(_mm_add_sd(pair, _mm_unpackhi_pd(pair, pair)));
    }
  }
};

#else

// Any processor: 16-byte vectors that the compiler maps to those of the target.
template <class T>
struct Vector {
  typedef T type __attribute__((vector_size(16)));
  static constexpr int width = 16 / sizeof(T);
  static DMF_INLINE type zero() { return type{}; }
  static DMF_INLINE type broadcast(T x) { return type{} + x; }
  static DMF_INLINE type multiply(type a, type b) { return a * b; }
  static DMF_INLINE type multiply_add(type a, type b, type c) { return a * b + c; }
  static DMF_INLINE type add(type a, type b) { return a + b; }
  template <class Storage>
  static DMF_INLINE type load(const Storage* p) {
    type x;
    for (int lane = 0; lane < width; ++lane) x[lane] = widen(p[lane]);
    return x;
  }
  static DMF_INLINE void load_pair(const bfloat16* p, type& first, type& second) {
    type even{}, odd{};
    for (int lane = 0; lane < width; ++lane) {
      even[lane] = widen(p[2 * lane]);
      odd[lane] = widen(p[2 * lane + 1]);
    }
    first = even;
    second = odd;
  }
  static DMF_INLINE void store(T* p, type x) { std::memcpy(p, &x, sizeof x); }
  template <int E>
  static DMF_INLINE void sums(const type (&x)[E], T* out) {
    for (int e = 0; e < E; ++e) {
      T sum = x[e][0];
      for (int lane = 1; lane < width; ++lane) sum += x[e][lane];
      out[e] = sum;
    }
  }
};

#endif

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
