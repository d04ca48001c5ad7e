// Storage types of factors and values, and the type in which each is accumulated.
#pragma once

#include <cstdint>
#include <cstring>

// Always inline: a copy compiled for a wider instruction set must not be shared. Not under sanitizers, where
// functions of that length take minutes to compile: their tests run on the machine that built them.
#if defined(DMF_SANITIZED)
#define DMF_INLINED
#else
#define DMF_INLINED __attribute__((always_inline))
#endif
#ifdef __CUDACC__
#define DMF_INLINE __host__ __device__ __forceinline__
#else
#define DMF_INLINE inline DMF_INLINED
#endif

namespace dmf {

struct bfloat16 {
  uint16_t bits;
};
struct float16 {
  uint16_t bits;
};

enum class Dtype : int { float64 = 0, float32 = 1, bfloat16 = 2, float16 = 3 };
constexpr int dtype_count = 4;

inline int64_t storage_bytes(Dtype dtype) {
  return dtype == Dtype::float64 ? 8 : dtype == Dtype::float32 ? 4 : 2;
}
inline int64_t accumulator_bytes(Dtype dtype) {
  return dtype == Dtype::float64 ? 8 : 4;
}

template <class Storage>
struct accumulator {
  using type = float;
};
template <>
struct accumulator<double> {
  using type = double;
};
template <class Storage>
using accumulator_t = typename accumulator<Storage>::type;

// Calls body with a number of the storage type that `dtype` names.
template <class Body>
auto with_storage(Dtype dtype, const Body& body) {
  switch (dtype) {
    case Dtype::float64:
      return body(double{});
    case Dtype::float32:
      return body(float{});
    case Dtype::bfloat16:
      return body(bfloat16{});
    case Dtype::float16:
      break;
  }
  return body(float16{});
}

// For code that only moves numbers: calls body with an integer of `itemsize` bytes, 2, 4 or 8.
template <class Body>
void with_bits(int itemsize, const Body& body) {
  if (itemsize == 2) return body(uint16_t{});
  if (itemsize == 4) return body(uint32_t{});
  body(uint64_t{});
}

DMF_INLINE float widen(bfloat16 x) {
  const uint32_t bits = static_cast<uint32_t>(x.bits) << 16;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

DMF_INLINE float widen(float16 x) {
  const uint32_t sign = static_cast<uint32_t>(x.bits & 0x8000u) << 16;
  const uint32_t exponent = (x.bits >> 10) & 0x1fu, mantissa = x.bits & 0x3ffu;
  uint32_t bits;
  if (exponent == 0) {
    // 0.5 + mantissa · 2^-24, minus 0.5: exact, and never a subnormal float, which could be flushed to zero.
    const uint32_t shifted = 0x3f000000u | mantissa;
    float number;
    std::memcpy(&number, &shifted, sizeof number);
    number -= 0.5f;
    std::memcpy(&bits, &number, sizeof bits);
  } else {
    bits = ((exponent == 31 ? 255u : exponent + 112u) << 23) | (mantissa << 13);
  }
  bits |= sign;
  float result;
  std::memcpy(&result, &bits, sizeof result);
  return result;
}

DMF_INLINE float widen(float x) {
  return x;
}
DMF_INLINE double widen(double x) {
  return x;
}

}  // namespace dmf
