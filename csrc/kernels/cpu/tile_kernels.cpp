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

#include "simd.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {
namespace {

constexpr int entries_at_once = 8;
constexpr int panel_vectors = 8;
constexpr int64_t l1_budget = 24 * 1024;

template <class Storage>
struct Rows {
  using T = accumulator_t<Storage>;
  using V = Vector<T>;
  using Register = typename V::type;

  // out[e] = a · b[columns[e]] for E columns.
  template <int E>
  static DMF_INLINE void dots_of(const Storage* a, const Storage* b, const uint16_t* columns, int64_t h,
                                 T* out) {
    const Storage* row[E];
    Register sum[E];
    for (int e = 0; e < E; ++e) {
      row[e] = b + columns[e] * h;
      sum[e] = V::zero();
    }
    int64_t v = 0;
    for (; v + V::width <= h; v += V::width) {
      const Register x = V::load(a + v);
      for (int e = 0; e < E; ++e) sum[e] = V::multiply_add(x, V::load(row[e] + v), sum[e]);
    }
    if (v < h) {
      const int rest = static_cast<int>(h - v);
      const Register x = V::load_some(a + v, rest);
      for (int e = 0; e < E; ++e) sum[e] = V::multiply_add(x, V::load_some(row[e] + v, rest), sum[e]);
    }
    V::template sums<E>(sum, out);
  }

  // out[k] = a · b[columns[k]] for all k < count; may write up to residual_slack values more.
  static DMF_INLINE void dots(const Storage* a, const Storage* b, const uint16_t* columns, int count, int64_t h,
                              T* out) {
    int k = 0;
    for (; k + entries_at_once <= count; k += entries_at_once) {
      dots_of<entries_at_once>(a, b, columns + k, h, out + k);
    }
    switch (count - k) {
      case 7:
        return dots_of<7>(a, b, columns + k, h, out + k);
      case 6:
        return dots_of<6>(a, b, columns + k, h, out + k);
      case 5:
        return dots_of<5>(a, b, columns + k, h, out + k);
      case 4:
        return dots_of<4>(a, b, columns + k, h, out + k);
      case 3:
        return dots_of<3>(a, b, columns + k, h, out + k);
      case 2:
        return dots_of<2>(a, b, columns + k, h, out + k);
      case 1:
        return dots_of<1>(a, b, columns + k, h, out + k);
      default:
        return;
    }
  }

  // target[0 : P·width] += Σ_k coefficient(k) · source[index[k]]; the last vector has `rest` lanes when
  // Partial. Few vectors leave the multiply-add units waiting for each other: those take several
  // entries side by side.
  template <int P, bool Partial, class Coefficient>
  static DMF_INLINE void add_panel(T* target, const Storage* source, const uint16_t* index, int count,
                                   int64_t h, int rest, const Coefficient& coefficient) {
    constexpr int side = P >= 4 ? 1 : 4 / P;
    const auto load = [rest](const Storage* p, int vector) {
      return Partial && vector == P - 1 ? V::load_some(p + vector * V::width, rest)
                                        : V::load(p + vector * V::width);
    };
    Register sum[side][P];
    for (int p = 0; p < P; ++p) {
      sum[0][p] =
          Partial && p == P - 1 ? V::load_some(target + p * V::width, rest) : V::load(target + p * V::width);
      for (int s = 1; s < side; ++s) sum[s][p] = V::zero();
    }
    int k = 0;
    for (; k + side <= count; k += side) {
      for (int s = 0; s < side; ++s) {
        const Register factor = V::broadcast(coefficient(k + s));
        const Storage* row = source + index[k + s] * h;
        for (int p = 0; p < P; ++p) sum[s][p] = V::multiply_add(factor, load(row, p), sum[s][p]);
      }
    }
    for (; k < count; ++k) {
      const Register factor = V::broadcast(coefficient(k));
      const Storage* row = source + index[k] * h;
      for (int p = 0; p < P; ++p) sum[0][p] = V::multiply_add(factor, load(row, p), sum[0][p]);
    }
    for (int p = 0; p < P; ++p) {
      for (int s = 1; s < side; ++s) sum[0][p] = V::add(sum[0][p], sum[s][p]);
      if (Partial && p == P - 1) {
        V::store_some(target + p * V::width, sum[0][p], rest);
      } else {
        V::store(target + p * V::width, sum[0][p]);
      }
    }
  }

  template <int P, class Coefficient>
  static DMF_INLINE void add_last_panel(T* target, const Storage* source, const uint16_t* index, int count,
                                        int64_t h, int rest, const Coefficient& coefficient) {
    if (rest == 0) {
      add_panel<P, false>(target, source, index, count, h, rest, coefficient);
    } else {
      add_panel<P, true>(target, source, index, count, h, rest, coefficient);
    }
  }

  // target[0:h] += Σ_k coefficient(k) · source[index[k]][0:h].
  template <class Coefficient>
  static DMF_INLINE void add(T* target, const Storage* source, const uint16_t* index, int count, int64_t h,
                             const Coefficient& coefficient) {
    constexpr int64_t panel = panel_vectors * V::width;
    int64_t v = 0;
    for (; v + panel <= h; v += panel) {
      add_panel<panel_vectors, false>(target + v, source + v, index, count, h, 0, coefficient);
    }
    const int rest = static_cast<int>((h - v) % V::width);
    const int vectors = static_cast<int>((h - v + V::width - 1) / V::width);
    target += v;
    source += v;
    switch (vectors) {
      case 8:
        return add_last_panel<8>(target, source, index, count, h, rest, coefficient);
      case 7:
        return add_last_panel<7>(target, source, index, count, h, rest, coefficient);
      case 6:
        return add_last_panel<6>(target, source, index, count, h, rest, coefficient);
      case 5:
        return add_last_panel<5>(target, source, index, count, h, rest, coefficient);
      case 4:
        return add_last_panel<4>(target, source, index, count, h, rest, coefficient);
      case 3:
        return add_last_panel<3>(target, source, index, count, h, rest, coefficient);
      case 2:
        return add_last_panel<2>(target, source, index, count, h, rest, coefficient);
      case 1:
        return add_last_panel<1>(target, source, index, count, h, rest, coefficient);
      default:
        return;
    }
  }
};

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

// One tile as the phases see it: pointers moved to its first entry, row and column.
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
  const uint16_t* columns() const { return layout.entry_column + begin.entry_start; }
  int64_t position(int64_t entry) const { return layout.position_of(begin.entry_start + entry); }
};

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
  const int64_t offset = tile.begin.entry_start + group.start, count = group.stop - group.start;
  const Storage* values = static_cast<const Storage*>(tile.operands.values) + offset;
  const T twice_scale = static_cast<T>(2.0 * tile.operands.gradient_scale);
  T* dots = tile.residuals + group.start;
  if (tile.operands.weights == nullptr) {
    return residuals_of<Storage, T, false>(dots, values, nullptr, count, twice_scale);
  }
  const Storage* weights = static_cast<const Storage*>(tile.operands.weights) + offset;
  return residuals_of<Storage, T, true>(dots, values, weights, count, twice_scale);
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

template <class Storage, Task task>
double process_tile(const LayoutView& layout, int64_t tile_number, const Operands& operands, void* residuals) {
  using T = accumulator_t<Storage>;
  constexpr bool with_gradients = task == Task::loss_gradients || task == Task::gradients;
  const TileView<Storage> tile{layout, layout.tiles[tile_number], layout.tiles[tile_number + 1], operands,
                               static_cast<T*>(residuals)};
  double loss = 0;
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
