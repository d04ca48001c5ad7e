// For plans that form W: the observed entries of a dense m × n matrix. All functions throw
// std::invalid_argument if the layout has entries outside its matrix, and do not access memory there.
#pragma once

#include "../number_types.h"
#include "../observed_layout.h"
#include "../parallel.h"
#include "../task.h"

namespace dmf {

// Returns scale · Σ w (dense − value)² over Ω and sets its gradient, 0 elsewhere. An entry costs 7 flops, about
// 11 bytes of layout, its value and one random access to each matrix, within a tile.
double dense_loss(const LayoutView& layout, Dtype dtype, const DenseOperands& operands, Parallel& parallel);

// values[entry] = dense[i, j] for all observed entries, in the caller's order. `itemsize` is that of one
// number.
void gather_observed(const LayoutView& layout, const void* dense, void* values, int itemsize,
                     Parallel& parallel);

// dense[i, j] = values[entry] on Ω and 0 elsewhere.
void scatter_observed(const LayoutView& layout, const void* values, void* dense, int itemsize,
                      Parallel& parallel);

}  // namespace dmf
