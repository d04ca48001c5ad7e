// How passes are combined into a sweep.
//
//   product            dots over the row order
//   loss               dots over the row order, then the sum of the losses
//   loss and gradients fused over the row order and over the column order, then the finish: three launches. The
//                      column pass recomputes the residuals from the rows that it gathers anyway, unless the
//                      row pass stored coefficients for it: while these stay in L2, that saves the dots;
//                      beyond, they would cost 4 bytes of memory per entry, and their random reads as much as
//                      those of the values.
//   wider rows         than a warp holds: dots that store coefficients, then the gradients panel by panel
//   given gradients    both orders, panel by panel
#pragma once

#include "../task.h"
#include "finish.cuh"
#include "line_pass.cuh"
#include "workspace.h"

namespace dmf::cuda {

template <class Storage>
class Sweep {
  using T = accumulator_t<Storage>;

 public:
  // The row pass stores at most `kept_coefficients` coefficients for the column pass.
  Sweep(const DeviceLayout& layout, const Operands& operands, Workspace& workspace, cudaStream_t stream,
        int64_t kept_coefficients)
      : layout_(layout),
        given_(operands),
        workspace_(workspace),
        stream_(stream),
        kept_coefficients_(kept_coefficients) {
    a_ = aligned(operands.a, layout.shape.rows);
    b_transposed_ = aligned(operands.b_transposed, layout.shape.columns);
  }

  void product() {
    LinePass pass = row_side();
    pass.products = given_.products;
    run<Pass::dots>(pass);
  }

  void loss(void* loss) {
    LinePass pass = row_side();
    set_targets(pass);
    Finish end;
    keep_losses(pass, end, loss);
    run<Pass::dots>(pass);
    finish(end);
  }

  void loss_gradients(void* loss) {
    LinePass rows = row_side(), columns = column_side();
    set_targets(rows);
    set_targets(columns);
    Finish end;
    keep_losses(rows, end, loss);
    end.rows = share_gradient(rows, given_.gradient_a);
    end.columns = share_gradient(columns, given_.gradient_b_transposed);
    const bool wide = stride() > widest_fused, keeps = wide || layout_.shape.nnz <= kept_coefficients_;
    if (keeps) {
      rows.row_coefficients = columns.row_coefficients = workspace_.take_array<T>(layout_.shape.nnz);
    }
    if (wide) {
      run<Pass::dots>(rows);
      rows.losses = nullptr;
      run_panels(rows);
    } else {
      run<Pass::fused>(rows);
    }
    if (keeps) {
      run_panels(columns);
    } else {
      run<Pass::fused>(columns);
    }
    finish(end);
  }

  void gradients() {
    LinePass rows = row_side(), columns = column_side();
    rows.coefficients = columns.coefficients = given_.coefficients;
    Finish end;
    end.rows = share_gradient(rows, given_.gradient_a);
    end.columns = share_gradient(columns, given_.gradient_b_transposed);
    run_panels(rows);
    run_panels(columns);
    finish(end);
  }

 private:
  static constexpr int pack = pack_size<Storage>;
  static constexpr bool is_common = std::is_same_v<Storage, float>;
  static constexpr int64_t widest_fused = RowReader<Storage, 32, (is_common ? 4 : 2)>::panel;
  static constexpr int64_t widest_given = RowReader<Storage, 32, 2>::panel;

  int64_t stride() const { return ceil_divide(given_.h, pack) * pack; }

  // `rows` rows at multiples of 16 bytes, with zeros past the first h numbers.
  const void* aligned(const void* matrix, int64_t rows);

  LinePass row_side() const { return side(layout_.row_order, a_, b_transposed_); }
  LinePass column_side() const { return side(layout_.column_order, b_transposed_, a_); }

  LinePass side(const LineOrder& order, const void* own, const void* gathered) const {
    LinePass pass{};
    pass.order = order;
    pass.position = layout_.position;
    pass.own = own;
    pass.gathered = gathered;
    pass.stride = pass.width = stride();
    pass.row_bytes = static_cast<uint32_t>(stride() * static_cast<int64_t>(sizeof(Storage)));
    pass.h = pass.gradient_width = given_.h;
    return pass;
  }

  void set_targets(LinePass& pass) const {
    pass.values = given_.values;
    pass.weights = given_.weights;
    pass.twice_scale = 2.0 * given_.scale;
  }

  void keep_losses(LinePass& pass, Finish& end, void* loss) {
    end.loss = loss;
    end.loss_count = blocks(pass);
    end.losses = pass.losses = workspace_.take_array<double>(end.loss_count);
  }

  SlotSums share_gradient(LinePass& pass, void* gradient) {
    pass.gradient = gradient;
    pass.partials = workspace_.take_array<T>(pass.order.slot_bound * given_.h);
    return {pass.order.splits, pass.order.split_bound, 0, pass.partials, gradient};
  }

  static int64_t blocks(const LinePass& pass) { return ceil_divide(pass.order.segment_bound, pass_warps); }

  void finish(Finish& end) {
    end.h = given_.h;
    end.scale = given_.loss_scale;
    launch_finish<T>(end, stream_);
  }

  // Gradients for given coefficients, as many columns at a time as a warp holds.
  void run_panels(const LinePass& whole) {
    if (whole.order.segment_bound == 0) return;
    LinePass pass = whole;
    for (int64_t first = 0; first < whole.h; first += widest_given) {
      pass.gathered = static_cast<const Storage*>(whole.gathered) + first;
      pass.width = std::min(widest_given, whole.stride - first);
      pass.gradient = static_cast<T*>(whole.gradient) + first;
      if (whole.partials != nullptr) pass.partials = static_cast<T*>(whole.partials) + first;
      pass.gradient_width = std::min(widest_given, whole.h - first);
      run<Pass::given>(pass);
    }
  }

  // The narrowest reader that holds a row, or the widest that the pass has. Readers are omitted if another is
  // nearly as fast: two turns of dots take 25% more instructions than one of twice the width, which gathers
  // hide; two panels of given gradients take no more. Very short or very wide rows are rare except in float32.
  template <Pass pass>
  void run(const LinePass& p) {
    const int64_t packs = ceil_divide(p.width, pack);
    if constexpr (is_common) {
      if (packs <= 4) return start<RowReader<Storage, 4, 1>, pass>(p);
    }
    if (packs <= 8) return start<RowReader<Storage, 8, 1>, pass>(p);
    if (packs <= 16) return start<RowReader<Storage, 16, 1>, pass>(p);
    if constexpr (pass == Pass::dots) {
      return start<RowReader<Storage, 32, 1>, pass>(p);
    } else {
      if (packs <= 32) return start<RowReader<Storage, 32, 1>, pass>(p);
      if constexpr (is_common && pass == Pass::fused) {
        if (packs > 64) return start<RowReader<Storage, 32, 4>, pass>(p);
      }
      start<RowReader<Storage, 32, 2>, pass>(p);
    }
  }

  template <class Reader, Pass pass>
  void start(const LinePass& p) {
    launch(line_pass<Reader, Storage, pass>, blocks(p), pass_threads, 0, stream_, p);
  }

  const DeviceLayout& layout_;
  const Operands& given_;
  Workspace& workspace_;
  cudaStream_t stream_;
  const int64_t kept_coefficients_;
  const void* a_;
  const void* b_transposed_;
};

template <class Storage>
__global__ void copy_rows(const Storage* source, int64_t rows, int64_t h, Storage* target, int64_t stride) {
  const int64_t place = global_thread();
  const int64_t row = place / stride, column = place % stride;
  if (row < rows) target[place] = column < h ? source[row * h + column] : Storage{};
}

template <class Storage>
const void* Sweep<Storage>::aligned(const void* matrix, int64_t rows) {
  if (given_.h == stride() && reinterpret_cast<uintptr_t>(matrix) % 16 == 0) return matrix;
  Storage* copy = workspace_.take_array<Storage>(rows * stride());
  launch_per_item(copy_rows<Storage>, rows * stride(), stream_, static_cast<const Storage*>(matrix), rows,
                  given_.h, copy, stride());
  return copy;
}

template <class Storage>
void sweep(const DeviceLayout& layout, Task task, const Operands& operands, void* loss, Workspace& workspace,
           cudaStream_t stream, int64_t kept_coefficients) {
  Sweep<Storage> work(layout, operands, workspace, stream, kept_coefficients);
  switch (task) {
    case Task::product:
      return work.product();
    case Task::loss:
      return work.loss(loss);
    case Task::loss_gradients:
      return work.loss_gradients(loss);
    case Task::gradients:
      return work.gradients();
  }
}

}  // namespace dmf::cuda
