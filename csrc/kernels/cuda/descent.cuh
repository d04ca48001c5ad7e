// Whole runs of gradient descent, one thread block each, thousands of steps per launch.
//
// A block interprets its run's program (program.h). Barriers separate the parts of a step, and threads exchange
// nothing but sums in a fixed order. So a run's result depends neither on the other runs of the launch and
// their order nor on how its steps are divided into launches.
//
//   shared memory   sums of the warps, a copy of the run, and what a step reads most, as far as it fits
//   L2              all else: moments, gradients of factors, and at depth 3 or more some of the rest
//   registers       a product's tiles (descent_products.cuh), a line's rows and sums (descent_observed.cuh)
//
// A step at 100 × 100, h 100, depth N in float32 with |Ω| entries makes 3 (N − 2) products of 10⁶
// multiply-adds, the gradients at Ω, and N · 10⁴ updates. By count of issued instructions on an H100: 9,900
// cycles per product, 9 to 10 per entry, 0.1 to 0.2 per number updated with the norm; and an estimated 400 for
// the start and end of each part of a step. If the matrix is formed, three more products replace the gradients
// at Ω, which is faster from about 3,000 entries on. So at 2,000 entries a step takes 24,000, 55,000 and 86,000
// cycles at depth 2, 3 and 4, and 35,000, 65,000 and 96,000 if the matrix is formed.
#pragma once

#include "descent_observed.cuh"
#include "descent_products.cuh"
#include "descent_update.cuh"

namespace dmf::cuda {

// All threads of the block copy together, 16 bytes at a time.
__device__ __forceinline__ void copy_bytes(const unsigned char* source, unsigned char* target, int64_t bytes) {
  for (int64_t at = 16 * threadIdx.x; at < bytes; at += 16 * blockDim.x) {
    store_together(target + at, load_together<16>(source + at));
  }
}

// A run as its block executes it: all threads call every function together.
template <class T>
class BlockDescent {
 public:
  __device__ __forceinline__ explicit BlockDescent(unsigned char* memory)
      : sums_(reinterpret_cast<double*>(dynamic_shared())),
        run_(*reinterpret_cast<const BlockRun*>(dynamic_shared() + sums_bytes)),
        memory_{dynamic_shared(), memory} {
    copy_bytes(memory, dynamic_shared() + sums_bytes, sizeof(BlockRun));
    __syncthreads();
    for (int number = 0; number < run_.factors; ++number) fetch(run_.matrices[number].value);
    fetch_observed();
    if (forms_product()) clear(run_.matrices[run_.a].gradient);
    __syncthreads();
  }

  // Makes steps from the current state until the run ends.
  __device__ __forceinline__ void descend(RunState& state) {
    const Rule& rule = run_.rule;
    const bool has_norm_rule = run_.stop.gradient_norm >= 0;
    for (;;) {
      state.loss = evaluate() / run_.total_weight;
      Outcome outcome = outcome_by_loss(state);
      const bool last = outcome != Outcome::paused || state.step >= state.until;
      double squares = 0;
      if (last || has_norm_rule || rule.kind == RuleKind::group_rmsprop) {
        squares = sum_of_squares(T(0), sums_ + most_warps);
        state.gradient_norm = sqrt(squares);
      }
      const bool small = has_norm_rule && state.gradient_norm <= run_.stop.gradient_norm;
      if (last || small) {
        if (outcome == Outcome::paused) outcome = small ? Outcome::gradient_norm_threshold : Outcome::reached;
        state.outcome = static_cast<int64_t>(outcome);
        return;
      }
      if (rule.kind == RuleKind::group_rmsprop && rule.weight_decay != 0) {
        squares = sum_of_squares(static_cast<T>(rule.weight_decay), sums_ + 2 * most_warps);
      }
      update<T>(run_, memory_, squares, state);
      __syncthreads();
    }
  }

  // Copies the factors to their homes.
  __device__ __forceinline__ void keep_factors() const {
    for (int number = 0; number < run_.factors; ++number) {
      const BlockArray& array = run_.matrices[number].value;
      if (array.place.shared)
        copy_bytes(memory_.find<unsigned char>(array), memory_.run + array.home, array.bytes);
    }
  }

 private:
  __device__ __forceinline__ bool forms_product() const { return run_.b_transposed == no_matrix; }

  __device__ __forceinline__ MatrixView<T> value(int number) const {
    return memory_.value<T>(run_.matrices[number]);
  }

  __device__ __forceinline__ MatrixView<T> gradient(int number) const {
    return memory_.gradient<T>(run_.matrices[number]);
  }

  // Copies an array from its home to its place.
  __device__ __forceinline__ void fetch(const BlockArray& array) const {
    if (array.home == no_home || !array.place.shared) return;
    copy_bytes(memory_.run + array.home, memory_.find<unsigned char>(array), array.bytes);
  }

  __device__ __forceinline__ void fetch_observed() const {
    const BlockObserved& observed = run_.observed;
    for (const BlockArray* array : {&observed.row_start, &observed.column, &observed.column_place,
                                    &observed.value, &observed.weight, &observed.column_start, &observed.row})
      fetch(*array);
  }

  __device__ __forceinline__ void clear(const BlockArray& array) const {
    T* numbers = memory_.find<T>(array);
    for (unsigned k = threadIdx.x; k < array.bytes / sizeof(T); k += blockDim.x) numbers[k] = 0;
  }

  // Computes the gradients of all factors and returns Σ w (p − b)².
  __device__ __forceinline__ double evaluate() const {
    for (int number = 0; number < run_.products; ++number) {
      const Product product = run_.product[number];
      multiply<false, false>(value(product.left), value(product.right), value(product.result));
      __syncthreads();
    }
    const double loss = observe();
    for (int number = run_.products - 1; number >= 0; --number) {
      const Product product = run_.product[number];
      multiply<false, true>(gradient(product.result), value(product.right), gradient(product.left));
      multiply<true, false>(value(product.left), gradient(product.result), gradient(product.right));
      __syncthreads();
    }
    return loss;
  }

  __device__ __forceinline__ double observe() const {
    const BlockObserved& observed = run_.observed;
    const Targets<T> targets{memory_.find<T>(observed.value),
                             observed.weighted ? memory_.find<T>(observed.weight) : nullptr,
                             static_cast<T>(2 * run_.scale)};
    if (forms_product()) {
      give_sum(formed_phase(observed, memory_, targets, value(run_.a), gradient(run_.a)), sums_);
    } else {
      observe_lines<1>(targets);
    }
    __syncthreads();
    return take_sum(sums_, blockDim.x / warp_size);
  }

  // With the fewest packs per thread that hold a row.
  template <int packs>
  __device__ __forceinline__ void observe_lines(const Targets<T>& targets) const {
    if constexpr (packs * group_threads * 16 < most_line_bytes) {
      if (value(run_.a).row_packs() > packs * group_threads) return observe_lines<2 * packs>(targets);
    }
    line_phases<packs>(run_.observed, memory_, targets, value(run_.a), value(run_.b_transposed),
                       gradient(run_.a), gradient(run_.b_transposed), sums_);
  }

  __device__ __forceinline__ double sum_of_squares(T weight_decay, double* sums) const {
    give_sum(squares_of_gradients<T>(run_, memory_, weight_decay), sums);
    __syncthreads();
    return take_sum(sums, blockDim.x / warp_size);
  }

  __device__ __forceinline__ Outcome outcome_by_loss(const RunState& state) const {
    const bool finite = state.loss - state.loss == 0;
    if (!finite) return Outcome::diverged;
    return state.loss <= run_.stop.train_loss ? Outcome::train_loss_threshold : Outcome::paused;
  }

  double* const sums_;  // of the warps: of the loss, of Σ‖g‖², and of that with weight decay
  const BlockRun& run_;
  const BlockMemory memory_;
};

// One block per task, unless its run has ended.
template <class T>
__global__ void __launch_bounds__(descent_threads) descend_block(BlockTask* tasks) {
  BlockTask& task = tasks[blockIdx.x];
  RunState state = task.state;
  if (state.outcome > static_cast<int64_t>(Outcome::paused)) return;
  BlockDescent<T> block(task.memory);
  block.descend(state);
  block.keep_factors();
  if (threadIdx.x == 0) task.state = state;
}

}  // namespace dmf::cuda
