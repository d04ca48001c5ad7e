// The fused kernel on one tile of Ω; compiled once per instruction set (DMF_INSTRUCTION_SET).
//
// Row phase, in groups of rows whose entries' slices of Bᵀ fit the L1 cache: the dot products of a row
// with up to eight columns at a time (A[i] is loaded once for all of them, their horizontal sums are
// taken together), then the residuals of the group, then dA[i] in registers while its Bᵀ rows are still
// in L1. The residuals of the tile stay in a small buffer. Column phase: dBᵀ[j] in registers over the
// entries of the column, reading A from L2 and the residuals from the buffer.
//
// An entry costs 6h flops, 3h storage elements read from L2 (one of them again from L1), and 10 bytes of
// layout and value at float32. The tile owns its slices of dA and dBᵀ while it is processed: no atomics.
#include "tile_kernels.h"

#include "fused_rows.h"
#include "row_operations.h"
#include "tile_view.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {
namespace {

constexpr int64_t l1_budget = 24 * 1024;

// Turns dot products into 2·scale·w·(dot − b) in place and returns Σ w (dot − b)². Eight partial sums in
// double let the compiler use vectors without changing the order from run to run.
template <class Storage, class T, bool Weighted>
double residuals_of(T* dots, const Storage* values, const Storage* weights, int64_t count, T twice_scale) {
  constexpr int lanes = 8;
  double partial[lanes] = {};
  const auto one = [&](int64_t k, double& sum) {
    const T residual = dots[k] - widen(values[k]);
    const T weighted = Weighted ? widen(weights[k]) * residual : residual;
    sum += static_cast<double>(weighted) * static_cast<double>(residual);
    dots[k] = twice_scale * weighted;
  };
  int64_t k = 0;
  for (; k + lanes <= count; k += lanes) {
    for (int lane = 0; lane < lanes; ++lane) one(k + lane, partial[lane]);
  }
  for (int lane = 0; k < count; ++k, ++lane) one(k, partial[lane]);
  double loss = 0;
  for (double sum : partial) loss += sum;
  return loss;
}

// A run of whole rows of a tile: segments [first, last) with the tile's entries [start, stop).
struct RowGroup {
  int64_t first, last;
  int64_t start, stop;
};

template <class Storage>
void group_dots(const TileView<Storage>& tile, const RowGroup& group) {
  int64_t k = group.start;
  for (int64_t s = group.first; s < group.last; ++s) {
    const Segment segment = tile.layout.row_segments[s];
    Rows<Storage>::dots(tile.a() + segment.index * tile.h(), tile.b(), tile.columns() + k, segment.count,
                        tile.h(), tile.residuals + k);
    k += segment.count;
  }
}

template <class Storage>
double group_residuals(const TileView<Storage>& tile, const RowGroup& group) {
  using T = accumulator_t<Storage>;
  const int64_t count = group.stop - group.start;
  const Storage *values = tile.values() + group.start, *weights = tile.weights();
  const T twice_scale = static_cast<T>(2.0 * tile.operands.gradient_scale);
  T* dots = tile.residuals + group.start;
  if (weights == nullptr) return residuals_of<Storage, T, false>(dots, values, nullptr, count, twice_scale);
  return residuals_of<Storage, T, true>(dots, values, weights + group.start, count, twice_scale);
}

template <class Storage>
void group_gradients(const TileView<Storage>& tile, const RowGroup& group) {
  int64_t k = group.start;
  for (int64_t s = group.first; s < group.last; ++s) {
    const Segment segment = tile.layout.row_segments[s];
    Rows<Storage>::add(tile.gradient_a() + segment.index * tile.h(), tile.b(), tile.columns() + k,
                       segment.count, tile.h(), [residual = tile.residuals + k](int e) { return residual[e]; });
    k += segment.count;
  }
}

template <class Storage>
void column_phase(const TileView<Storage>& tile) {
  int64_t k = tile.begin.entry_start;
  for (int64_t s = tile.begin.column_segment_start; s < tile.end.column_segment_start; ++s) {
    const Segment segment = tile.layout.column_segments[s];
    const uint16_t* place = tile.layout.entry_residual + k;
    Rows<Storage>::add(tile.gradient_b() + segment.index * tile.h(), tile.a(), tile.layout.entry_row + k,
                       segment.count, tile.h(),
                       [residuals = tile.residuals, place](int e) { return residuals[place[e]]; });
    k += segment.count;
  }
}

// The next rows whose entries together fill the L1 budget; at least one row.
template <class Storage>
RowGroup next_group(const TileView<Storage>& tile, int64_t first, int64_t start) {
  const int64_t entry_bytes = tile.h() * static_cast<int64_t>(sizeof(Storage));
  const int64_t budget = entry_bytes * 16 > l1_budget ? 16 : l1_budget / entry_bytes;
  RowGroup group{first, first, start, start};
  while (group.last < tile.end.row_segment_start && group.stop - start < budget) {
    group.stop += tile.layout.row_segments[group.last++].count;
  }
  return group;
}

// The row phase of loss and gradients in one pass; false where a slice has too many vectors for it.
template <class Storage, int P = 1>
bool fused_row_phase(const TileView<Storage>& tile, double& loss) {
  using V = Vector<accumulator_t<Storage>>;
  if constexpr (P > max_fused_vectors) {
    return false;
  } else {
    if (tile.h() > P * V::width) return fused_row_phase<Storage, P + 1>(tile, loss);
    loss = tile.h() == P * V::width ? FusedRows<Storage, P, false>::run(tile)
                                    : FusedRows<Storage, P, true>::run(tile);
    return true;
  }
}

template <class Storage, Task task>
double process_tile(const LayoutView& layout, int64_t tile_number, const Operands& operands, void* residuals) {
  using T = accumulator_t<Storage>;
  constexpr bool with_gradients = task == Task::loss_gradients || task == Task::gradients;
  const TileView<Storage> tile{layout, layout.tiles[tile_number], layout.tiles[tile_number + 1], operands,
                               static_cast<T*>(residuals)};
  double loss = 0;
  if constexpr (task == Task::loss_gradients) {
    if (fused_row_phase(tile, loss)) {
      column_phase(tile);
      return loss;
    }
  }
  RowGroup group{0, tile.begin.row_segment_start, 0, 0};
  while (group.last < tile.end.row_segment_start) {
    group = next_group(tile, group.last, group.stop);
    if constexpr (task != Task::gradients) group_dots(tile, group);
    if constexpr (task == Task::product) {
      T* products = static_cast<T*>(operands.products);
      for (int64_t k = group.start; k < group.stop; ++k) products[tile.position(k)] = tile.residuals[k];
    }
    if constexpr (task == Task::gradients) {
      const T* coefficients = static_cast<const T*>(operands.coefficients);
      for (int64_t k = group.start; k < group.stop; ++k) tile.residuals[k] = coefficients[tile.position(k)];
    }
    if constexpr (task == Task::loss || task == Task::loss_gradients) loss += group_residuals(tile, group);
    if constexpr (with_gradients) group_gradients(tile, group);
  }
  if constexpr (with_gradients) column_phase(tile);
  return loss;
}

}  // namespace

#define DMF_DTYPES(task)                                                                \
  {process_tile<double, task>, process_tile<float, task>, process_tile<bfloat16, task>, \
   process_tile<float16, task>}
const TileKernels tile_kernels = {{DMF_DTYPES(Task::product), DMF_DTYPES(Task::loss),
                                   DMF_DTYPES(Task::loss_gradients), DMF_DTYPES(Task::gradients)}};
#undef DMF_DTYPES

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
