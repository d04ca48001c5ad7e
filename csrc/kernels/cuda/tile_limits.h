// The limits of the dense-tile path (tile_pass.cuh), for its callers.
#pragma once

#include <cstdint>

namespace dmf::cuda {

// The precision to which numbers are rounded before they are multiplied; sums are float32.
enum class TilePrecision : int {
  tf32 = 0,    // 10 bits
  tf32x3 = 1,  // two parts of 10 bits each: about float32's own accuracy
};

constexpr int64_t widest_tile = 128;  // of h: more does not fit in the registers

}  // namespace dmf::cuda
