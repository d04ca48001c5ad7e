#include "sweep.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <vector>

#include "../instruction_set.h"
#include "prepared_operands.h"
#include "schedule.h"

namespace dmf {
namespace {

// Below about this many flops, waking other threads costs more than they save.
constexpr double serial_flops = 1e6;
constexpr int64_t parts_per_thread = 4;

class Sweep {
 public:
  Sweep(const LayoutView& layout, Task task, Dtype dtype, const Operands& operands, int threads)
      : layout_(layout),
        groups_(layout.header->groups),
        task_(task),
        dtype_(dtype),
        operands_(operands),
        process_(active_tile_kernels().function[static_cast<int>(task)][static_cast<int>(dtype)]),
        parts_(parts_for(threads)),
        losses_(groups_ * groups_, 0.0) {}

  double run(Parallel& parallel) {
    const int workers = static_cast<int>(std::min<int64_t>(parallel.threads(), parts_));
    const int64_t room = layout_.header->largest_tile + coefficient_slack;
    const std::unique_ptr<double[]> buffers(new double[workers * room]);
    Schedule schedule(parts_, workers);
    parallel.run(workers, [&](int worker) {
      const int64_t size = groups_ / parts_;
      for (Schedule::Square square{}; schedule.take(worker, square); schedule.finish(square)) {
        const int64_t column_part = square.row_part ^ square.step;
        process_square(square.row_part * size, column_part * size, size, buffers.get() + worker * room);
      }
    });
    double loss = 0;
    for (const double part : losses_) loss += part;
    return loss;
  }

 private:
  // Several parts a thread, so that a thread that waits for a neighbour finds other work.
  int64_t parts_for(int threads) const {
    const double flops = 6.0 * static_cast<double>(layout_.header->nnz) * static_cast<double>(operands_.h);
    if (threads == 1 || flops < serial_flops) return 1;
    int64_t parts = 1;
    while (parts < groups_ && parts < parts_per_thread * threads) parts *= 2;
    return parts;
  }

  void process_square(int64_t row_group, int64_t column_group, int64_t size, void* buffer) {
    if (size == 1) return process_block(row_group, column_group, buffer);
    const int64_t half = size / 2;
    process_square(row_group, column_group, half, buffer);
    process_square(row_group + half, column_group + half, half, buffer);
    process_square(row_group + half, column_group, half, buffer);
    process_square(row_group, column_group + half, half, buffer);
  }

  void process_block(int64_t row_group, int64_t column_group, void* buffer) {
    if (row_group == column_group && writes_gradients(task_)) clear_gradients(row_group);
    const int64_t block = row_group * groups_ + column_group;
    for (int64_t tile = layout_.block_tile_start[block]; tile < layout_.block_tile_start[block + 1]; ++tile) {
      losses_[block] += process_(layout_, tile, operands_, buffer);
    }
  }

  // Blocks on the diagonal come first in their row and in their column.
  void clear_gradients(int64_t group) const {
    clear(operands_.gradient_a, layout_.row_group_start + group);
    clear(operands_.gradient_b_transposed, layout_.column_group_start + group);
  }

  void clear(void* gradient, const int64_t* group_start) const {
    if (group_start[0] == group_start[1]) return;  // an empty matrix has no memory to clear
    const int64_t line_bytes = operands_.h * accumulator_bytes(dtype_);
    std::memset(static_cast<char*>(gradient) + group_start[0] * line_bytes, 0,
                (group_start[1] - group_start[0]) * line_bytes);
  }

  const LayoutView& layout_;
  const int64_t groups_;
  const Task task_;
  const Dtype dtype_;
  const Operands& operands_;
  const TileFunction process_;
  const int64_t parts_;
  std::vector<double> losses_;
};

template <class Number>
void order_numbers(const LayoutView& layout, const void* row_order, void* ordered, Parallel& parallel) {
  const Number* from = static_cast<const Number*>(row_order);
  Number* to = static_cast<Number*>(ordered);
  const int64_t nnz = layout.header->nnz;
  const int workers = parallel.threads();
  parallel.run(workers, [&](int worker) {
    for (int64_t entry = nnz * worker / workers; entry < nnz * (worker + 1) / workers; ++entry) {
      to[layout.position_of(entry)] = from[entry];
    }
  });
}

}  // namespace

double sweep(const LayoutView& layout, Task task, Dtype dtype, const Operands& operands, Parallel& parallel) {
  PreparedOperands prepared(layout, task, dtype, operands, active_tile_kernels().shape[static_cast<int>(dtype)],
                            parallel);
  const double loss = Sweep(layout, task, dtype, prepared.operands(), parallel.threads()).run(parallel);
  prepared.finish();
  return loss;
}

void order_as_given(const LayoutView& layout, const void* row_order, void* ordered, int itemsize,
                    Parallel& parallel) {
  if (itemsize == 8) return order_numbers<uint64_t>(layout, row_order, ordered, parallel);
  if (itemsize == 4) return order_numbers<uint32_t>(layout, row_order, ordered, parallel);
  order_numbers<uint16_t>(layout, row_order, ordered, parallel);
}

}  // namespace dmf
