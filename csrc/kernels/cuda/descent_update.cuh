// The rules by which factors follow from their gradients (program.h), and the gradients' norm.
//
// Every thread takes packs of 16 bytes of all factors in turn. A number takes 8 bytes read and 4 written, and
// for every moment 4 of each from L2.
#pragma once

#include "descent_matrix.cuh"

namespace dmf::cuda {

// Calls body(row, first column) for every pack of the matrix.
template <class T, class Body>
__device__ __forceinline__ void for_each_pack(const MatrixView<T>& matrix, const Body& body) {
  const unsigned across = matrix.row_packs(), count = matrix.rows * across;
  for (unsigned number = threadIdx.x; number < count; number += blockDim.x) {
    body(static_cast<int>(number / across), static_cast<int>(number % across) * pack_size<T>);
  }
}

// The thread's part of Σ‖g + weight_decay · W‖² over all factors.
template <class T>
__device__ __forceinline__ double squares_of_gradients(const BlockRun& run, const BlockMemory& memory,
                                                       T weight_decay) {
  constexpr int numbers = pack_size<T>;
  double sum = 0;
  for (int number = 0; number < run.factors; ++number) {
    const MatrixView<T> value = memory.value<T>(run.matrices[number]);
    const MatrixView<T> gradient = memory.gradient<T>(run.matrices[number]);
    for_each_pack(gradient, [&](int row, int column) {
      PackOf<T> g = load_together<numbers>(gradient.row(row) + column);
      if (weight_decay != 0) {
        const PackOf<T> w = load_together<numbers>(value.row(row) + column);
#pragma unroll
        for (int v = 0; v < numbers; ++v) g.number[v] += weight_decay * w.number[v];
      }
#pragma unroll
      for (int v = 0; v < numbers; ++v)
        sum += static_cast<double>(g.number[v]) * static_cast<double>(g.number[v]);
    });
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

  __device__ __forceinline__ T step(T g) const { return lr * g; }
};

template <class T>
struct DescendWithMomentum {
  static constexpr int moments = 1;
  T lr, momentum;

  __device__ __forceinline__ T step(T g, T& v) const {
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

// A pack may end in padding, which stays zero even where a rule divides by zero.
template <class Formula, class T>
__device__ __forceinline__ void update_factors(const Formula& formula, const BlockRun& run,
                                               const BlockMemory& memory) {
  constexpr int numbers = pack_size<T>;
  const T weight_decay = static_cast<T>(run.rule.weight_decay);
  for (int number = 0; number < run.factors; ++number) {
    const BlockMatrix& matrix = run.matrices[number];
    const MatrixView<T> value = memory.value<T>(matrix), gradient = memory.gradient<T>(matrix);
    T* moments[2] = {};
#pragma unroll
    for (int m = 0; m < Formula::moments; ++m) {
      moments[m] = reinterpret_cast<T*>(memory.run + matrix.moments[m]);
    }
    for_each_pack(value, [&](int row, int column) {
      const int place = row * value.stride + column;
      PackOf<T> w = load_together<numbers>(value.at + place), moment[2];
      const PackOf<T> g = load_together<numbers>(gradient.at + place);
#pragma unroll
      for (int m = 0; m < Formula::moments; ++m) moment[m] = load_together<numbers>(moments[m] + place);
#pragma unroll
      for (int v = 0; v < numbers; ++v) {
        if (column + v >= value.columns) continue;
        const T decayed = g.number[v] + weight_decay * w.number[v];
        if constexpr (Formula::moments == 0) {
          w.number[v] -= formula.step(decayed);
        } else if constexpr (Formula::moments == 1) {
          w.number[v] -= formula.step(decayed, moment[0].number[v]);
        } else {
          w.number[v] -= formula.step(decayed, moment[0].number[v], moment[1].number[v]);
        }
      }
      store_together(value.at + place, w);
#pragma unroll
      for (int m = 0; m < Formula::moments; ++m) store_together(moments[m] + place, moment[m]);
    });
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
      state.group_square = rule.alpha * state.group_square + (1 - rule.alpha) * group_square;
      const double corrected = state.group_square / (1 - power(rule.alpha, state.step));
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
  }
}

}  // namespace dmf::cuda
