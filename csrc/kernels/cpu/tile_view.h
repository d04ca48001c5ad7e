// One tile of a layout as the phases see it.
#pragma once

#include "simd.h"
#include "tile_kernels.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

template <class Number>
DMF_INLINE Number* moved(Number* numbers, int64_t by) {
  return numbers == nullptr ? nullptr : numbers + by;
}

// Pointers moved to the tile's first entry, row and column.
template <class Storage>
struct TileView {
  using T = accumulator_t<Storage>;

  const LayoutView& layout;
  const Tile& begin;
  const Tile& end;
  const Operands& operands;
  T* coefficients;  // of the tile's entries, in row order

  int64_t h() const { return operands.h; }
  const Storage* a() const { return static_cast<const Storage*>(operands.a) + begin.first_row * h(); }
  const Storage* b() const {
    return static_cast<const Storage*>(operands.b_transposed) + begin.first_column * h();
  }
  T* gradient_a() const { return static_cast<T*>(operands.gradient_a) + begin.first_row * h(); }
  T* gradient_b() const { return static_cast<T*>(operands.gradient_b_transposed) + begin.first_column * h(); }

  // Null if there are none, as are their gradients.
  const T* row_bias() const { return moved(static_cast<const T*>(operands.row_bias), begin.first_row); }
  const T* column_bias() const {
    return moved(static_cast<const T*>(operands.column_bias), begin.first_column);
  }
  T* gradient_row_bias() const { return moved(static_cast<T*>(operands.gradient_row_bias), begin.first_row); }
  T* gradient_column_bias() const {
    return moved(static_cast<T*>(operands.gradient_column_bias), begin.first_column);
  }

  int64_t entries() const { return end.entry_start - begin.entry_start; }
  const Storage* values() const { return static_cast<const Storage*>(operands.values) + begin.entry_start; }
  // Null if every entry has a weight of one.
  const Storage* weights() const {
    return moved(static_cast<const Storage*>(operands.weights), begin.entry_start);
  }
  int64_t position(int64_t entry) const { return layout.position_of(begin.entry_start + entry); }

  const Bundle* row_bundles() const { return layout.row_bundles + begin.row_bundle_start; }
  const Bundle* row_bundles_end() const { return layout.row_bundles + end.row_bundle_start; }
  const uint16_t* row_of_group() const { return layout.row_of_group + begin.row_of_group_start; }
  const uint16_t* columns() const { return layout.entry_column + begin.entry_start; }

  const Bundle* column_bundles() const { return layout.column_bundles + begin.column_bundle_start; }
  const Bundle* column_bundles_end() const { return layout.column_bundles + end.column_bundle_start; }
  const uint16_t* column_of_group() const { return layout.column_of_group + begin.column_of_group_start; }
  const uint16_t* rows() const { return layout.entry_row + begin.entry_start; }
  const uint16_t* places() const { return layout.entry_place + begin.entry_start; }
};

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
