// Builds the layout of observed_layout.h from rows and columns.
#pragma once

#include <cstdint>
#include <memory>

#include "observed_layout.h"
#include "tile_shape.h"

namespace dmf {

// Builds a layout in two steps, so that the caller allocates the buffer: construct, then bytes() and write().
// `Index` is int32_t or int64_t; indices must be in range and pairs distinct (Observations checks both).
// Temporary memory: 8 bytes per entry (16 from 2³² entries on).
template <class Index>
class LayoutBuilder {
 public:
  // The rows and columns of a tile must be powers of two in [1, max_tile_lines]. Throws std::invalid_argument
  // if they are not, if the matrix would need too many tiles for its entries, or if repeated pairs are
  // detected.
  LayoutBuilder(const Index* row_of, const Index* column_of, int64_t nnz, int64_t rows, int64_t columns,
                TileShape shape, Parallel& parallel);
  ~LayoutBuilder();

  int64_t bytes() const;
  void write(void* buffer, Parallel& parallel) const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace dmf
