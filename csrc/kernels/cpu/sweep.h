// One pass over Ω with all threads.
//
// Row stripes and column stripes of the layout make a grid of blocks. In step s, row stripe r works on column
// stripe r xor s: a Latin square, so the blocks of a step share no row of dA and no column of dB. Every row of
// dA and of dBᵀ adds its blocks in the order of their steps, whatever the number of threads: results are
// bit-identical, without locks and without atomics on data.
//
// The xor square is recursive: each quarter of it is one, too. So the grid can be cut into parts × parts
// squares, as many as the threads need, without changing that order: a square waits only for the previous step
// of its own row part and of its own column part, and one thread walks it recursively (both squares of the
// diagonal, then the other two), which reuses caches of every size.
#pragma once

#include "../observed_layout.h"
#include "../parallel.h"
#include "tile_kernels.h"

namespace dmf {

// Runs `task`; returns the loss, 0 for tasks without one. Gradients are set, not accumulated. Throws
// std::invalid_argument if the layout has entries outside its matrix, without accessing memory there. The check
// costs about 3% of a pass at h = 64 and 9% at h = 16 (a million entries, one thread). A run of many passes
// avoids it by calling entries_are_inside() once.
double sweep(const LayoutView& layout, Task task, Dtype dtype, const Operands& operands, Parallel& parallel,
             bool entries_are_checked = false);

// Writes numbers given in row order in the caller's order. `itemsize` is that of one number. Throws as sweep
// does.
void order_as_given(const LayoutView& layout, const void* row_order, void* ordered, int itemsize,
                    Parallel& parallel);

}  // namespace dmf
