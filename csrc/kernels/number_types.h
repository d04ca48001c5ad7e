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
