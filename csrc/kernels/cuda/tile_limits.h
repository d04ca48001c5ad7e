// What the dense-tile path can do (tile_pass.cuh), for those who choose it.
#pragma once

#include <cstdint>

namespace dmf::cuda {

// What numbers are rounded to before they are multiplied; sums are float32.
enum class TilePrecision : int {
  tf32 = 0,    // 10 bits
  tf32x3 = 1,  // two parts of 10 bits each: about float32's own accuracy
};

constexpr int64_t widest_tile = 128;  // of h: more does not fit the registers

}  // namespace dmf::cuda
