// The fused kernel on one tile of Ω; compiled once per instruction set (DMF_INSTRUCTION_SET).
//
// Row phase, a group of up to eight entries of a row at a time: dot products with A[i], whose horizontal sums
// are computed together, residuals, loss, coefficients, and dA[i]. For an h of a few vectors the slices of Bᵀ
// stay in registers throughout (fused_rows.h), otherwise in the L1 cache. The coefficients of the tile stay in
// a small buffer. Column phase, a group of a column at a time: dBᵀ[j] from slices of A and the buffer.
//
// An entry costs 6h flops, 2h storage elements read from L2, h/8 accumulators read and written in L1 in each
// phase, and about 11 bytes of layout and, in float32, 4 of value. The tile owns its slices of dA and dBᵀ while
// it is processed: no atomics.
#include "tile_kernels.h"

#include "fused_rows.h"
#include "groups.h"
#include "residuals.h"
#include "tile_view.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {
namespace {

static_assert(Lanes<double>::count <= coefficient_slack);

// body(size, row, entry): the group of `size` entries starting at `entry`.
template <class Storage, class Body>
DMF_INLINE void for_row_groups(const TileView<Storage>& tile, const Body& body) {
  int64_t entry = 0;
  for_sized_groups(tile.row_bundles(), tile.row_bundles_end(), tile.row_of_group(),
                   [&](auto size, int64_t row) DMF_INLINED {
                     body(size, row, entry);
                     entry += size;
                   });
}

template <int E, class Storage>
DMF_INLINE void slices_of(const Storage* slices, const uint16_t* index, int64_t h, const Storage* (&slice)[E]) {
  for (int e = 0; e < E; ++e) slice[e] = opaque(slices + index[e] * h);
}

// products[position] = A[i]·B[:,j].
template <class Storage>
void product_rows(const TileView<Storage>& tile) {
  using T = accumulator_t<Storage>;
  const Slices<Storage, 0> slices(tile.h());
  const Storage *a = tile.a(), *all_b = tile.b();
  T* products = static_cast<T*>(tile.operands.products);
  for_row_groups(tile, [&](auto size, int64_t row, int64_t entry) DMF_INLINED {
    constexpr int E = size;
    const Storage* b[E];
    slices_of(all_b, tile.columns() + entry, slices.h(), b);
    T dots[sums_slack];
    slices.dots(a + row * slices.h(), b, dots);
    for (int e = 0; e < E; ++e) products[tile.position(entry + e)] = dots[e];
  });
}

// Loss, coefficients and, if wanted, dA for slices of any width.
template <class Storage, bool biased, bool with_gradient>
double loss_rows(const TileView<Storage>& tile) {
  using T = accumulator_t<Storage>;
  const Slices<Storage, 0> slices(tile.h());
  const Storage *a = tile.a(), *all_b = tile.b();
  T* gradient_a = with_gradient ? tile.gradient_a() : nullptr;
  T* gradient_row_bias = with_gradient ? tile.gradient_row_bias() : nullptr;
  Residuals<Storage, biased> residuals(tile);
  EntryCursor<Storage> entries(tile);
  for_row_groups(tile, [&](auto size, int64_t row, int64_t) DMF_INLINED {
    constexpr int E = size;
    const Storage* b[E];
    slices_of(all_b, entries.column, slices.h(), b);
    T dots[sums_slack] = {};
    slices.dots(a + row * slices.h(), b, dots);
    const T* coefficient = residuals.template take<E>(dots, row, entries);
    if constexpr (with_gradient) {
      slices.add(gradient_a + row * slices.h(), b, coefficient);
      if constexpr (biased) add_sum<E>(gradient_row_bias, row, coefficient);
    }
  });
  return residuals.loss();
}

// The fused row phase, if a slice has few enough vectors for it.
template <class Storage, bool biased, int P = slice_vectors<Storage>>
double loss_gradient_rows(const TileView<Storage>& tile) {
  using V = Vector<accumulator_t<Storage>>;
  if constexpr (P > max_fused_vectors) {
    return loss_rows<Storage, biased, true>(tile);
  } else {
    return tile.h() > P * V::width ? loss_gradient_rows<Storage, biased, P + slice_vectors<Storage>>(tile)
                                   : FusedRows<Storage, P, biased>::run(tile);
  }
}

// dA = G·Bᵀᵀ for coefficients in the buffer.
template <class Storage>
void gradient_rows(const TileView<Storage>& tile) {
  const Slices<Storage, 0> slices(tile.h());
  const Storage* all_b = tile.b();
  accumulator_t<Storage>* gradient_a = tile.gradient_a();
  for_row_groups(tile, [&](auto size, int64_t row, int64_t entry) DMF_INLINED {
    const Storage* b[size];
    slices_of(all_b, tile.columns() + entry, slices.h(), b);
    slices.add(gradient_a + row * slices.h(), b, tile.coefficients + entry);
  });
}

template <class Storage, bool biased, int P>
void column_groups(const TileView<Storage>& tile) {
  using T = accumulator_t<Storage>;
  const Slices<Storage, P> slices(tile.h());
  const int64_t h = slices.h();
  const Storage* a = tile.a();
  T *gradient_b = tile.gradient_b(), *gradient_column_bias = tile.gradient_column_bias();
  const uint16_t *row = tile.rows(), *place = tile.places();
  for_sized_groups(tile.column_bundles(), tile.column_bundles_end(), tile.column_of_group(),
                   [&](auto size, int64_t column) DMF_INLINED {
                     constexpr int E = size;
                     const Storage* slice[E];
                     T coefficient[E];
                     slices_of(a, row, h, slice);
                     for (int e = 0; e < E; ++e) coefficient[e] = tile.coefficients[place[e]];
                     slices.add(gradient_b + column * h, slice, coefficient);
                     if constexpr (biased) add_sum<E>(gradient_column_bias, column, coefficient);
                     row += E;
                     place += E;
                   });
}

// dBᵀ = Gᵀ·A for the coefficients in the buffer.
template <class Storage, bool biased, int P = slice_vectors<Storage>>
void column_phase(const TileView<Storage>& tile) {
  using V = Vector<accumulator_t<Storage>>;
  if constexpr (P > max_fused_vectors) {
    column_groups<Storage, biased, 0>(tile);
  } else {
    if (tile.h() > P * V::width) return column_phase<Storage, biased, P + slice_vectors<Storage>>(tile);
    column_groups<Storage, biased, P>(tile);
  }
}

template <class Storage, bool biased, bool with_gradients>
double loss_of(const TileView<Storage>& tile) {
  if constexpr (!with_gradients) return loss_rows<Storage, biased, false>(tile);
  const double loss = loss_gradient_rows<Storage, biased>(tile);
  column_phase<Storage, biased>(tile);
  return loss;
}

template <class Storage, Task task>
double process_tile(const LayoutView& layout, int64_t tile_number, const Operands& operands, void* buffer) {
  using T = accumulator_t<Storage>;
  const TileView<Storage> tile{layout, layout.tiles[tile_number], layout.tiles[tile_number + 1], operands,
                               static_cast<T*>(buffer)};
  if constexpr (task == Task::product) product_rows(tile);
  if constexpr (task == Task::loss || task == Task::loss_gradients) {
    constexpr bool with_gradients = task == Task::loss_gradients;
    return operands.row_bias == nullptr ? loss_of<Storage, false, with_gradients>(tile)
                                        : loss_of<Storage, true, with_gradients>(tile);
  }
  if constexpr (task == Task::gradients) {
    const T* coefficients = static_cast<const T*>(operands.coefficients);
    for (int64_t k = 0; k < tile.entries(); ++k) tile.coefficients[k] = coefficients[tile.position(k)];
    gradient_rows(tile);
    column_phase<Storage, false>(tile);
  }
  return 0;
}

}  // namespace

template <class Storage>
constexpr SliceShape slice_shape = {Vector<accumulator_t<Storage>>::width, slice_vectors<Storage>};

#define DMF_DTYPES(task)                                                                \
  {process_tile<double, task>, process_tile<float, task>, process_tile<bfloat16, task>, \
   process_tile<float16, task>}
const TileKernels tile_kernels = {
    {slice_shape<double>, slice_shape<float>, slice_shape<bfloat16>, slice_shape<float16>},
    {DMF_DTYPES(Task::product), DMF_DTYPES(Task::loss), DMF_DTYPES(Task::loss_gradients),
     DMF_DTYPES(Task::gradients)}};
#undef DMF_DTYPES

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
