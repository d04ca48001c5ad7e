// One tile of a layout as the phases see it.
#pragma once

#include "simd.h"
#include "tile_kernels.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

// Pointers moved to the tile's first entry, row and column.
template <class Storage>
struct TileView {
  using T = accumulator_t<Storage>;

  const LayoutView& layout;
  const Tile& begin;
  const Tile& end;
  const Operands& operands;
  T* residuals;

  int64_t h() const { return operands.h; }
  const Storage* a() const { return static_cast<const Storage*>(operands.a) + begin.first_row * h(); }
  const Storage* b() const {
    return static_cast<const Storage*>(operands.b_transposed) + begin.first_column * h();
  }
  T* gradient_a() const { return static_cast<T*>(operands.gradient_a) + begin.first_row * h(); }
  T* gradient_b() const { return static_cast<T*>(operands.gradient_b_transposed) + begin.first_column * h(); }
  const Storage* values() const { return static_cast<const Storage*>(operands.values) + begin.entry_start; }
  // Null when every entry has a weight of one.
  const Storage* weights() const {
    const Storage* weights = static_cast<const Storage*>(operands.weights);
    return weights == nullptr ? nullptr : weights + begin.entry_start;
  }
  const uint16_t* columns() const { return layout.entry_column + begin.entry_start; }
  int64_t position(int64_t entry) const { return layout.position_of(begin.entry_start + entry); }
};

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
