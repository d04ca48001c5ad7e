// The kernels of a step of gradient descent; compiled once per instruction set (DMF_INSTRUCTION_SET).
//
// The updates read and write each number once: 8 to 16 bytes read and 4 to 12 written a float32 parameter,
// which is all that they cost.
#include "step_kernels.h"

#include "lanes.h"
#include "line_passes.h"
#include "small_product.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {
namespace {

template <class T>
void multiply(const DenseMatrix<T>& left, const DenseMatrix<T>& right, const DenseMatrix<T>& result) {
  SmallProduct<T>(left.data, left.stride, 1, left.columns, right, result).run();
}

template <class T>
void multiply_transposed(const DenseMatrix<T>& left, const DenseMatrix<T>& right,
                         const DenseMatrix<T>& result) {
  SmallProduct<T>(left.data, 1, left.stride, left.rows, right, result).run();
}

// By squares of 4 × 4 numbers. Zeros are written behind the last column.
template <class T>
void transpose(const DenseMatrix<T>& source, const DenseMatrix<T>& result) {
  using L = Lanes<T>;
  constexpr int64_t side = L::count;
  const int64_t square_rows = source.rows / side * side, square_columns = source.columns / side * side;
  for (int64_t i = 0; i < square_rows; i += side) {
    for (int64_t j = 0; j < square_columns; j += side) {
      typename L::type square[side];
      for (int64_t r = 0; r < side; ++r) std::memcpy(&square[r], source.row(i + r) + j, sizeof square[r]);
      L::transpose(square);
      for (int64_t c = 0; c < side; ++c) std::memcpy(result.row(j + c) + i, &square[c], sizeof square[c]);
    }
    for (int64_t j = square_columns; j < source.columns; ++j) {
      for (int64_t r = i; r < i + side; ++r) result.row(j)[r] = source.row(r)[j];
    }
  }
  for (int64_t j = 0; j < source.columns; ++j) {
    for (int64_t i = square_rows; i < source.rows; ++i) result.row(j)[i] = source.row(i)[j];
    for (int64_t i = source.rows; i < result.stride; ++i) result.row(j)[i] = 0;
  }
}

// Σ term(k)², added up in double: in float32 the squares of small gradients would be zero. `lanes_term` is a
// vector of the terms from the k-th on.
template <class T, class LanesTerm, class Term>
DMF_INLINE double sum_squares(int64_t count, const LanesTerm& lanes_term, const Term& term) {
  using L = Lanes<T>;
  constexpr int chains = 4;
  typename L::Doubles sum[chains]{};
  int64_t k = 0;
  for (; k + chains * L::count <= count; k += chains * L::count) {
    for (int chain = 0; chain < chains; ++chain) {
      const typename L::type x = lanes_term(k + chain * L::count);
      L::add_products(x, x, sum[chain]);
    }
  }
  double total = 0;
  for (const typename L::Doubles& part : sum) {
    for (int lane = 0; lane < L::count; ++lane) total += part[lane];
  }
  for (; k < count; ++k) total += static_cast<double>(term(k)) * static_cast<double>(term(k));
  return total;
}

template <class T>
DMF_INLINE typename Lanes<T>::type load_lanes(const T* numbers) {
  return Lanes<T>::template load<Lanes<T>::count>(numbers);
}

template <class T>
double sum_of_squares(const T* numbers, int64_t count) {
  return sum_squares<T>(
      count, [&](int64_t k) { return load_lanes(numbers + k); }, [&](int64_t k) { return numbers[k]; });
}

template <class T>
double sum_of_decayed_squares(const T* g, const T* w, int64_t count, T weight_decay) {
  return sum_squares<T>(
      count, [&](int64_t k) { return load_lanes(g + k) + weight_decay * load_lanes(w + k); },
      [&](int64_t k) { return g[k] + weight_decay * w[k]; });
}

template <class T>
void descend(T* __restrict w, const T* __restrict g, T* __restrict v, int64_t count,
             const UpdateFactors<T>& factors) {
  const T step_size = factors.step_size, momentum = factors.momentum, decay = factors.weight_decay;
  if (v == nullptr) {
    for (int64_t k = 0; k < count; ++k) w[k] -= step_size * (g[k] + decay * w[k]);
  } else {
    for (int64_t k = 0; k < count; ++k) {
      v[k] = momentum * v[k] + (g[k] + decay * w[k]);
      w[k] -= step_size * v[k];
    }
  }
}

// Not std::sqrt, of which the instruction sets would share one copy.
DMF_INLINE float root(float x) {
  return __builtin_sqrtf(x);
}
DMF_INLINE double root(double x) {
  return __builtin_sqrt(x);
}

template <class T>
void adam(T* __restrict w, const T* __restrict g, T* __restrict u, T* __restrict v, int64_t count,
          const UpdateFactors<T>& factors) {
  const UpdateFactors<T> f = factors;
  const T root_scale = 1 / f.root_correction;
  for (int64_t k = 0; k < count; ++k) {
    const T decayed = g[k] + f.weight_decay * w[k];
    u[k] += f.one_less_beta1 * (decayed - u[k]);
    v[k] = f.beta2 * v[k] + f.one_less_beta2 * decayed * decayed;
    w[k] -= f.step_size * u[k] / (root(v[k]) * root_scale + f.eps);
  }
}

template <class T>
constexpr StepKernels<T> step_kernels = {
    multiply<T>,
    multiply_transposed<T>,
    transpose<T>,
    LinePasses<T>::dots,
    LinePasses<T>::residuals,
    LinePasses<T>::gather,
    sum_of_squares<T>,
    sum_of_decayed_squares<T>,
    descend<T>,
    adam<T>,
};

}  // namespace

const StepKernels<float> step_kernels_float32 = step_kernels<float>;
const StepKernels<double> step_kernels_float64 = step_kernels<double>;

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
