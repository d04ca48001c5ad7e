// Kernels of each instruction set for the best columns of rows: scores leave the registers only if they may be
// among the best.
#pragma once

#include <cstdint>

#include "top_candidates.h"

namespace dmf {

// Columns of B, as many side by side as a kernel processes at once: number v of a panel's columns follows
// number v − 1. The last panel is padded with zeros, and the bias there is minus infinity.
template <class T>
struct ColumnPanels {
  const T* numbers;
  const T* bias;
  int64_t h;
};

// What a scan knows about a row of a tile: its candidates so far and, for every panel of the scan, a word whose
// bits say which columns may be taken.
template <class T>
struct RowScan {
  TopCandidates<T> candidates;
  uint32_t* allowed;
};

template <class T>
struct TopKernels {
  int tile_rows, panel_columns;
  // Offers the columns of panels [begin, end) to the rows of a tile. Number v of all rows follows number v - 1.
  void (*scan)(const T* tile, const ColumnPanels<T>& panels, int64_t begin, int64_t end, RowScan<T>* rows);
};

template <class T>
const TopKernels<T>& active_top_kernels();

namespace generic {
extern const TopKernels<float> top_kernels_float32;
extern const TopKernels<double> top_kernels_float64;
}  // namespace generic
namespace avx2 {
extern const TopKernels<float> top_kernels_float32;
extern const TopKernels<double> top_kernels_float64;
}  // namespace avx2
namespace avx512 {
extern const TopKernels<float> top_kernels_float32;
extern const TopKernels<double> top_kernels_float64;
}  // namespace avx512

}  // namespace dmf
