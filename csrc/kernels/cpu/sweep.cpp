#include "sweep.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <memory>
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
  Sweep(const LayoutView& layout, Task task, Dtype dtype, const Operands& operands, TileFunction process,
        int threads, bool entries_are_checked)
      : layout_(layout),
        stripes_(layout.header->stripes),
        task_(task),
        dtype_(dtype),
        operands_(operands),
        process_(process),
        entries_are_checked_(entries_are_checked),
        parts_(parts_for(threads)),
        losses_(stripes_ * stripes_, 0.0) {}

  double run(Parallel& parallel) {
    const int workers = static_cast<int>(std::min<int64_t>(parallel.threads(), parts_));
    const int64_t room = layout_.header->largest_tile + coefficient_slack;
    const std::unique_ptr<double[]> buffers(new double[workers * room]);
    Schedule schedule(parts_, workers);
    parallel.run(workers, [&](int worker) {
      const int64_t size = stripes_ / parts_;
      for (Schedule::Square square{}; schedule.take(worker, square); schedule.finish(square)) {
        const int64_t column_part = square.row_part ^ square.step;
        process_square(square.row_part * size, column_part * size, size, buffers.get() + worker * room);
      }
    });
    if (!inside_) refuse_layout();
    double loss = 0;
    for (const double part : losses_) loss += part;
    return operands_.loss_scale * loss;
  }

 private:
  // Several parts per thread, so that a thread that waits for a neighbor finds other work.
  int64_t parts_for(int threads) const {
    const double flops = 6.0 * static_cast<double>(layout_.header->nnz) * static_cast<double>(operands_.h);
    if (threads == 1 || flops < serial_flops) return 1;
    int64_t parts = 1;
    while (parts < stripes_ && parts < parts_per_thread * threads) parts *= 2;
    return parts;
  }

  void process_square(int64_t row_stripe, int64_t column_stripe, int64_t size, void* buffer) {
    if (size == 1) return process_block(row_stripe, column_stripe, buffer);
    const int64_t half = size / 2;
    process_square(row_stripe, column_stripe, half, buffer);
    process_square(row_stripe + half, column_stripe + half, half, buffer);
    process_square(row_stripe + half, column_stripe, half, buffer);
    process_square(row_stripe, column_stripe + half, half, buffer);
  }

  void process_block(int64_t row_stripe, int64_t column_stripe, void* buffer) {
    if (row_stripe == column_stripe && writes_gradients(task_)) clear_gradients(row_stripe);
    const Region region = block_region(layout_, row_stripe, column_stripe);
    const int64_t block = row_stripe * stripes_ + column_stripe;
    for (int64_t tile = layout_.block_tile_start[block]; tile < layout_.block_tile_start[block + 1]; ++tile) {
      if (!entries_are_checked_ && !is_inside(tile, region)) {
        inside_ = false;  // continue: other workers wait for this one
        return;
      }
      losses_[block] += process_(layout_, tile, operands_, buffer);
    }
  }

  bool is_inside(int64_t tile, const Region& region) const {
    return tile_is_inside(layout_, tile, region) &&
           (!reads_positions(task_) || positions_are_inside(layout_, tile));
  }

  // Blocks on the diagonal come first in their row and in their column.
  void clear_gradients(int64_t stripe) const {
    const int64_t *row = layout_.row_stripe_start + stripe, *column = layout_.column_stripe_start + stripe;
    clear(operands_.gradient_a, row, operands_.h);
    clear(operands_.gradient_b_transposed, column, operands_.h);
    clear(operands_.gradient_row_bias, row, 1);
    clear(operands_.gradient_column_bias, column, 1);
  }

  void clear(void* gradient, const int64_t* stripe_start, int64_t width) const {
    // An empty matrix has no memory to clear, and biases may have no gradients.
    if (gradient == nullptr || stripe_start[0] == stripe_start[1]) return;
    const int64_t line_bytes = width * accumulator_bytes(dtype_);
    std::memset(static_cast<char*>(gradient) + stripe_start[0] * line_bytes, 0,
                (stripe_start[1] - stripe_start[0]) * line_bytes);
  }

  const LayoutView& layout_;
  const int64_t stripes_;
  const Task task_;
  const Dtype dtype_;
  const Operands& operands_;
  const TileFunction process_;
  const bool entries_are_checked_;
  const int64_t parts_;
  std::vector<double> losses_;
  std::atomic<bool> inside_{true};
};

template <class Number>
void order_numbers(const LayoutView& layout, const void* row_order, void* ordered, Parallel& parallel) {
  const Number* from = static_cast<const Number*>(row_order);
  Number* to = static_cast<Number*>(ordered);
  const auto nnz = static_cast<uint64_t>(layout.header->nnz);
  std::atomic<bool> inside{true};
  for_slices(parallel, layout.header->nnz, [&](int, int64_t begin, int64_t end) {
    for (int64_t entry = begin; entry < end; ++entry) {
      const auto position = static_cast<uint64_t>(layout.position_of(entry));
      if (position >= nnz) {
        inside = false;
        return;
      }
      to[position] = from[entry];
    }
  });
  if (!inside) refuse_layout();
}

}  // namespace

double sweep(const LayoutView& layout, Task task, Dtype dtype, const Operands& operands, Parallel& parallel,
             bool entries_are_checked) {
  // Read once, since another thread may switch kernels meanwhile.
  const TileKernels& kernels = active_tile_kernels();
  const int dtype_number = static_cast<int>(dtype);
  PreparedOperands prepared(layout, task, dtype, operands, kernels.shape[dtype_number], parallel);
  const TileFunction process = kernels.function[static_cast<int>(task)][dtype_number];
  const double loss =
      Sweep(layout, task, dtype, prepared.operands(), process, parallel.threads(), entries_are_checked)
          .run(parallel);
  prepared.finish();
  return loss;
}

void order_as_given(const LayoutView& layout, const void* row_order, void* ordered, int itemsize,
                    Parallel& parallel) {
  with_bits(itemsize, [&](auto bits) { order_numbers<decltype(bits)>(layout, row_order, ordered, parallel); });
}

}  // namespace dmf
