#include "dense.h"

#include <algorithm>
#include <atomic>
#include <vector>

namespace dmf {
namespace {

template <class Number>
void clear(Number* dense, const LayoutView& layout, Parallel& parallel) {
  const int64_t columns = layout.header->columns;
  for_slices(parallel, layout.header->rows, [&](int, int64_t begin, int64_t end) {
    std::fill(dense + begin * columns, dense + end * columns, Number{0});
  });
}

// Calls body(tile) for every tile, spread over the threads, as long as tiles stay inside the matrix.
template <bool with_positions, class Body>
void for_tiles(const LayoutView& layout, Parallel& parallel, const Body& body) {
  const Region region = matrix_region(layout);
  std::atomic<bool> inside{true};
  for_slices(parallel, layout.header->tiles, [&](int, int64_t begin, int64_t end) {
    for (int64_t tile = begin; tile < end; ++tile) {
      if (!tile_is_inside(layout, tile, region) || (with_positions && !positions_are_inside(layout, tile))) {
        inside = false;
        return;
      }
      body(tile);
    }
  });
  if (!inside) refuse_layout();
}

template <class Storage>
double loss_of(const LayoutView& layout, const DenseOperands& operands, Parallel& parallel) {
  using T = accumulator_t<Storage>;
  const int64_t columns = layout.header->columns;
  const Storage* dense = static_cast<const Storage*>(operands.dense);
  const Storage *values = static_cast<const Storage*>(operands.values),
                *weights = static_cast<const Storage*>(operands.weights);
  T* gradient = static_cast<T*>(operands.gradient);
  const T twice_scale = static_cast<T>(2.0 * operands.scale);
  if (gradient != nullptr) clear(gradient, layout, parallel);
  std::vector<double> losses(layout.header->tiles, 0.0);
  for_tiles<false>(layout, parallel, [&](int64_t tile) {
    double loss = 0;
    for_tile_entries(layout, tile, [&](int64_t entry, int64_t row, int64_t column) {
      const int64_t place = row * columns + column;
      const T residual = widen(dense[place]) - widen(values[entry]);
      const T weighted = weights == nullptr ? residual : widen(weights[entry]) * residual;
      loss += static_cast<double>(weighted) * static_cast<double>(residual);
      if (gradient != nullptr) gradient[place] = twice_scale * weighted;
    });
    losses[tile] = loss;
  });
  // In the order of the tiles, whatever the number of threads.
  double total = 0;
  for (const double loss : losses) total += loss;
  return operands.scale * total;
}

template <class Number>
void gather_numbers(const LayoutView& layout, const void* dense, void* values, Parallel& parallel) {
  const Number* from = static_cast<const Number*>(dense);
  Number* to = static_cast<Number*>(values);
  for_tiles<true>(layout, parallel, [&](int64_t tile) {
    for_tile_entries(layout, tile, [&](int64_t entry, int64_t row, int64_t column) {
      to[layout.position_of(entry)] = from[row * layout.header->columns + column];
    });
  });
}

template <class Number>
void scatter_numbers(const LayoutView& layout, const void* values, void* dense, Parallel& parallel) {
  const Number* from = static_cast<const Number*>(values);
  Number* to = static_cast<Number*>(dense);
  clear(to, layout, parallel);
  for_tiles<true>(layout, parallel, [&](int64_t tile) {
    for_tile_entries(layout, tile, [&](int64_t entry, int64_t row, int64_t column) {
      to[row * layout.header->columns + column] = from[layout.position_of(entry)];
    });
  });
}

}  // namespace

double dense_loss(const LayoutView& layout, Dtype dtype, const DenseOperands& operands, Parallel& parallel) {
  return with_storage(dtype,
                      [&](auto number) { return loss_of<decltype(number)>(layout, operands, parallel); });
}

void gather_observed(const LayoutView& layout, const void* dense, void* values, int itemsize,
                     Parallel& parallel) {
  with_bits(itemsize, [&](auto bits) { gather_numbers<decltype(bits)>(layout, dense, values, parallel); });
}

void scatter_observed(const LayoutView& layout, const void* values, void* dense, int itemsize,
                      Parallel& parallel) {
  with_bits(itemsize, [&](auto bits) { scatter_numbers<decltype(bits)>(layout, values, dense, parallel); });
}

}  // namespace dmf
