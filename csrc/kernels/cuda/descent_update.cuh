// The update rules (program.h), and the norm of the gradients.
//
// The threads take packs of 16 bytes of all factors in turn. A number costs 8 bytes read and 4 written, and 4
// of each in L2 for every moment.
#pragma once

#include "descent_matrix.cuh"

namespace dmf::cuda {

// A thread's way through the packs of a matrix that hold any of its numbers, without a division for each.
template <class T>
class PackWalk {
 public:
  __device__ __forceinline__ explicit PackWalk(const MatrixView<T>& matrix)
      : matrix_(matrix), across_((matrix.columns + pack_size<T> - 1) / pack_size<T>) {
    const int thread = threadIdx.x, threads = blockDim.x;
    row_ = thread / across_;
    pack_ = thread % across_;
    rows_a_step_ = threads / across_;
    packs_a_step_ = threads % across_;
  }

  // Numbers from the current pack to the end of the row; 0 past the last row.
  __device__ __forceinline__ int numbers() const {
    return row_ < matrix_.rows ? matrix_.columns - pack_ * pack_size<T> : 0;
  }
  __device__ __forceinline__ int place() const { return row_ * matrix_.stride + pack_ * pack_size<T>; }

  __device__ __forceinline__ void advance() {
    row_ += rows_a_step_;
    pack_ += packs_a_step_;
    if (pack_ >= across_) {
      pack_ -= across_;
      ++row_;
    }
  }

 private:
  const MatrixView<T>& matrix_;
  int across_, row_, pack_, rows_a_step_, packs_a_step_;
};

// The next packs of a walk: this many are loaded at once, as they may be in L2.
struct PackBatch {
  static constexpr int size = 4;
  int place[size], numbers[size];

  template <class T>
  __device__ __forceinline__ explicit PackBatch(PackWalk<T>& walk) {
#pragma unroll
    for (int k = 0; k < size; ++k) {
      place[k] = walk.place();
      numbers[k] = walk.numbers();
      walk.advance();
    }
  }

  template <class T>
  __device__ __forceinline__ void load(const T* matrix, PackOf<T> (&packs)[size]) const {
#pragma unroll
    for (int k = 0; k < size; ++k) {
      packs[k] = numbers[k] > 0 ? load_together<pack_size<T>>(matrix + place[k]) : PackOf<T>{};
    }
  }

  template <class T>
  __device__ __forceinline__ void store(T* matrix, const PackOf<T> (&packs)[size]) const {
#pragma unroll
    for (int k = 0; k < size; ++k) {
      if (numbers[k] > 0) store_together(matrix + place[k], packs[k]);
    }
  }
};

// The thread's part of Σ‖g + weight_decay · W‖² over all factors.
template <class T>
__device__ __forceinline__ double squares_of_gradients(const BlockRun& run, const BlockMemory& memory,
                                                       T weight_decay) {
  double sum = 0;
  for (int number = 0; number < run.factors; ++number) {
    const MatrixView<T> value = memory.value<T>(run.matrices[number]);
    const MatrixView<T> gradient = memory.gradient<T>(run.matrices[number]);
    for (PackWalk<T> walk(value); walk.numbers() > 0;) {
      const PackBatch batch(walk);
      PackOf<T> g[PackBatch::size], w[PackBatch::size];
      batch.load(gradient.at, g);
      if (weight_decay != 0) batch.load(value.at, w);
#pragma unroll
      for (int k = 0; k < PackBatch::size; ++k) {
#pragma unroll
        for (int v = 0; v < pack_size<T>; ++v) {
          const T decay = weight_decay != 0 ? weight_decay * w[k].number[v] : T(0);
          const double decayed = g[k].number[v] + decay;
          sum += decayed * decayed;
        }
      }
    }
  }
  return sum;
}

__device__ __forceinline__ double power(double base, int64_t exponent) {
  double result = 1;
  for (; exponent > 0; exponent /= 2) {
    if (exponent % 2 != 0) result *= base;
    base *= base;
  }
  return result;
}

// W ← W − lr · v, and for GroupRMSprop with lr / (sqrt(s / (1 − alpha^t)) + eps).
template <class T>
struct Descend {
  static constexpr int moments = 0;
  T lr;

  __device__ __forceinline__ T step(T g, T&, T&) const { return lr * g; }
};

template <class T>
struct DescendWithMomentum {
  static constexpr int moments = 1;
  T lr, momentum;

  __device__ __forceinline__ T step(T g, T& v, T&) const {
    v = momentum * v + g;
    return lr * v;
  }
};

template <class T>
struct DescendByAdam {
  static constexpr int moments = 2;
  T beta1, one_less_beta1, beta2, one_less_beta2, eps;
  T corrected_lr, correction;  // lr / (1 − beta1^t) and sqrt(1 − beta2^t)

  __device__ __forceinline__ T step(T g, T& u, T& v) const {
    u = beta1 * u + one_less_beta1 * g;
    v = beta2 * v + one_less_beta2 * g * g;
    return corrected_lr * u / (sqrt(v) / correction + eps);
  }
};

// The padding past the end of a row stays zero even if a rule divides by zero.
template <class Formula, class T>
__device__ __forceinline__ void update_factors(const Formula& formula, const BlockRun& run,
                                               const BlockMemory& memory) {
  const T weight_decay = static_cast<T>(run.rule.weight_decay);
  for (int number = 0; number < run.factors; ++number) {
    const BlockMatrix& matrix = run.matrices[number];
    const MatrixView<T> value = memory.value<T>(matrix), gradient = memory.gradient<T>(matrix);
    T* const first_moment = reinterpret_cast<T*>(memory.run + matrix.moments[0]);
    T* const second_moment = reinterpret_cast<T*>(memory.run + matrix.moments[1]);
    for (PackWalk<T> walk(value); walk.numbers() > 0;) {
      const PackBatch batch(walk);
      PackOf<T> w[PackBatch::size], g[PackBatch::size], first[PackBatch::size], second[PackBatch::size];
      batch.load(value.at, w);
      batch.load(gradient.at, g);
      if constexpr (Formula::moments >= 1) batch.load(first_moment, first);
      if constexpr (Formula::moments >= 2) batch.load(second_moment, second);
#pragma unroll
      for (int k = 0; k < PackBatch::size; ++k) {
#pragma unroll
        for (int v = 0; v < pack_size<T>; ++v) {
          if (v >= batch.numbers[k]) continue;
          const T decayed = g[k].number[v] + weight_decay * w[k].number[v];
          w[k].number[v] -= formula.step(decayed, first[k].number[v], second[k].number[v]);
        }
      }
      batch.store(value.at, w);
      if constexpr (Formula::moments >= 1) batch.store(first_moment, first);
      if constexpr (Formula::moments >= 2) batch.store(second_moment, second);
    }
  }
}

// The next update. `group_square` is Σ‖g‖² with weight decay, for GroupRMSprop.
template <class T>
__device__ __forceinline__ void update(const BlockRun& run, const BlockMemory& memory, double group_square,
                                       RunState& state) {
  const Rule& rule = run.rule;
  ++state.step;
  switch (rule.kind) {
    case RuleKind::gradient_descent: {
      const T lr = static_cast<T>(rule.lr);
      if (rule.momentum != 0) {
        const DescendWithMomentum<T> formula{lr, static_cast<T>(rule.momentum)};
        return update_factors<DescendWithMomentum<T>, T>(formula, run, memory);
      }
      return update_factors<Descend<T>, T>(Descend<T>{lr}, run, memory);
    }
    case RuleKind::group_rmsprop: {
      state.square_average = rule.alpha * state.square_average + (1 - rule.alpha) * group_square;
      const double corrected = state.square_average / (1 - power(rule.alpha, state.step));
      const Descend<T> formula{static_cast<T>(rule.lr / (sqrt(corrected) + rule.eps))};
      return update_factors<Descend<T>, T>(formula, run, memory);
    }
    case RuleKind::adam: {
      const DescendByAdam<T> formula{static_cast<T>(rule.beta1),
                                     static_cast<T>(1 - rule.beta1),
                                     static_cast<T>(rule.beta2),
                                     static_cast<T>(1 - rule.beta2),
                                     static_cast<T>(rule.eps),
                                     static_cast<T>(rule.lr / (1 - power(rule.beta1, state.step))),
                                     static_cast<T>(sqrt(1 - power(rule.beta2, state.step)))};
      return update_factors<DescendByAdam<T>, T>(formula, run, memory);
    }
    case RuleKind::adaptive_gradient_descent:
    case RuleKind::preconditioned_lbfgs:  // the plan refuses both
      return;
  }
}

}  // namespace dmf::cuda
