// Storage types of factors and values, and the type in which each is accumulated.
#pragma once

#include <cstdint>

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

}  // namespace dmf
