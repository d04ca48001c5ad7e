// The kernels of a step of gradient descent; compiled once per instruction set (DMF_INSTRUCTION_SET).
//
// The updates read and write each number once or twice: per float32 parameter 8 to 20 bytes are read and 4 to
// 12 written, and this traffic is the whole cost.
#include "step_kernels.h"

#include "lanes.h"
#include "line_passes.h"
#include "secant_passes.h"
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

// By squares of 4 × 4 numbers. Zeros are written past the last column.
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

// Four numbers at a time, or one.
template <class T>
struct Four {
  using type = typename Lanes<T>::type;
  static DMF_INLINE type load(const T* p) { return Lanes<T>::template load<Lanes<T>::count>(p); }
  static DMF_INLINE void store(T* p, type x) { std::memcpy(p, &x, sizeof x); }
};
template <class T>
struct One {
  using type = T;
  static DMF_INLINE T load(const T* p) { return *p; }
  static DMF_INLINE void store(T* p, T x) { *p = x; }
};

// The scales of the numbers starting at the k-th, Four or One, and 1 / scale.
template <class T>
struct NoScale {
  template <class Reader>
  DMF_INLINE T scale(Reader, int64_t) const {
    return 1;
  }
  template <class Reader>
  DMF_INLINE T inverse(Reader, int64_t) const {
    return 1;
  }
};
template <class T>
struct RowScale {
  T of_row, inverse_of_row;
  template <class Reader>
  DMF_INLINE T scale(Reader, int64_t) const {
    return of_row;
  }
  template <class Reader>
  DMF_INLINE T inverse(Reader, int64_t) const {
    return inverse_of_row;
  }
};
template <class T>
struct NumberScale {
  const T* scales;
  template <class Reader>
  DMF_INLINE auto scale(Reader, int64_t k) const {
    return Reader::load(scales + k);
  }
  template <class Reader>
  DMF_INLINE auto inverse(Reader, int64_t k) const {
    return T(1) / Reader::load(scales + k);
  }
};

// body(begin, end, scale) for runs of numbers that are scaled in the same way.
template <class T, class Body>
DMF_INLINE void for_scales(const ParameterRows<T>& rows, const Body& body) {
  if (rows.scale == nullptr) {
    body(int64_t{0}, rows.numbers(), NoScale<T>{});
  } else if (rows.stride == 1) {
    body(int64_t{0}, rows.rows, NumberScale<T>{rows.scale});
  } else {
    for (int64_t row = 0; row < rows.rows; ++row) {
      body(row * rows.stride, (row + 1) * rows.stride, RowScale<T>{rows.scale[row], 1 / rows.scale[row]});
    }
  }
}

// A sum of squares in double: in float32 the squares of small gradients would be zero.
template <class T>
class Squares {
 public:
  static constexpr int chains = 4;

  DMF_INLINE void add(typename Lanes<T>::type x, int chain) { Lanes<T>::add_products(x, x, sum_[chain]); }
  DMF_INLINE void add(T x, int) { rest_ += static_cast<double>(x) * static_cast<double>(x); }

  DMF_INLINE double total() const {
    double total = 0;
    for (const typename Lanes<T>::Doubles& part : sum_) {
      for (int lane = 0; lane < Lanes<T>::count; ++lane) total += part[lane];
    }
    return total + rest_;
  }

 private:
  typename Lanes<T>::Doubles sum_[chains]{};
  double rest_ = 0;
};

// body(reader, k, scale, chain) for all numbers, Four at a time and then One; `chain` says to which of several
// sums they are added, so that they do not wait for each other.
template <class T, class Body>
DMF_INLINE void for_numbers(const ParameterRows<T>& rows, const Body& body) {
  for_scales(rows, [&](int64_t k, int64_t end, const auto& scale) DMF_INLINED {
    constexpr int64_t count = Lanes<T>::count;
    constexpr int chains = Squares<T>::chains;
    for (; k + chains * count <= end; k += chains * count) {
      for (int chain = 0; chain < chains; ++chain) body(Four<T>{}, k + chain * count, scale, chain);
    }
    for (; k + count <= end; k += count) body(Four<T>{}, k, scale, 0);
    for (; k < end; ++k) body(One<T>{}, k, scale, 0);
  });
}

template <class T>
double sum_of_squares(const ParameterRows<T>& rows) {
  Squares<T> squares;
  for_numbers(rows, [&](auto reader, int64_t k, const auto& scale, int chain) DMF_INLINED {
    squares.add(scale.inverse(reader, k) * reader.load(rows.x + k), chain);
  });
  return squares.total();
}

template <class T>
double sum_of_direction_squares(const ParameterRows<T>& rows, T gradient_factor) {
  Squares<T> squares;
  if (rows.weight_decay == 0) {
    for_numbers(rows, [&](auto reader, int64_t k, const auto& scale, int chain) DMF_INLINED {
      squares.add(scale.scale(reader, k) * reader.load(rows.g + k), chain);
    });
    const double factor = static_cast<double>(gradient_factor);
    return factor * factor * squares.total();
  }
  for_numbers(rows, [&](auto reader, int64_t k, const auto& scale, int chain) DMF_INLINED {
    squares.add(gradient_factor * scale.scale(reader, k) * reader.load(rows.g + k) +
                    rows.weight_decay * scale.inverse(reader, k) * reader.load(rows.x + k),
                chain);
  });
  return squares.total();
}

template <class T>
TurnSums turn(const ParameterRows<T>& rows, T gradient_factor) {
  Squares<T> directions, turns;
  const T* __restrict x = rows.x;
  const T* __restrict g = rows.g;
  T* __restrict u = rows.u;
  const T decay = rows.weight_decay;
  for_numbers(rows, [&](auto reader, int64_t k, const auto& scale, int chain) DMF_INLINED {
    const auto d = gradient_factor * scale.scale(reader, k) * reader.load(g + k) +
                   decay * scale.inverse(reader, k) * reader.load(x + k);
    directions.add(d, chain);
    turns.add(d - reader.load(u + k), chain);
    reader.store(u + k, d);
  });
  return {directions.total(), turns.total()};
}

template <class T>
void move(const ParameterRows<T>& rows, T step_size) {
  T* __restrict x = rows.x;
  const T* __restrict u = rows.u;
  for_scales(rows, [&](int64_t begin, int64_t end, const auto& scale) DMF_INLINED {
    for (int64_t k = begin; k < end; ++k) x[k] -= step_size * scale.scale(One<T>{}, k) * u[k];
  });
}

template <class T>
void descend(const ParameterRows<T>& rows, const UpdateFactors<T>& factors) {
  T* __restrict x = rows.x;
  const T* __restrict g = rows.g;
  T* __restrict u = rows.u;
  const T factor = factors.gradient_factor, decay = rows.weight_decay, step_size = factors.step_size,
          momentum = factors.momentum;
  for_scales(rows, [&](int64_t begin, int64_t end, const auto& scale) DMF_INLINED {
    const One<T> one;
    if (u == nullptr) {
      for (int64_t k = begin; k < end; ++k) {
        x[k] -= step_size * scale.scale(one, k) *
                (factor * scale.scale(one, k) * g[k] + decay * scale.inverse(one, k) * x[k]);
      }
    } else {
      for (int64_t k = begin; k < end; ++k) {
        u[k] = momentum * u[k] + (factor * scale.scale(one, k) * g[k] + decay * scale.inverse(one, k) * x[k]);
        x[k] -= step_size * scale.scale(one, k) * u[k];
      }
    }
  });
}

// Not std::sqrt: the instruction sets would share one copy of it.
DMF_INLINE float root(float x) {
  return __builtin_sqrtf(x);
}
DMF_INLINE double root(double x) {
  return __builtin_sqrt(x);
}

template <class T>
void adam(const ParameterRows<T>& rows, const UpdateFactors<T>& factors) {
  T* __restrict x = rows.x;
  const T* __restrict g = rows.g;
  T* __restrict u = rows.u;
  T* __restrict v = rows.v;
  const UpdateFactors<T> f = factors;
  const T root_scale = 1 / f.root_correction, decay = rows.weight_decay;
  const int64_t numbers = rows.numbers();
  for (int64_t k = 0; k < numbers; ++k) {
    const T d = f.gradient_factor * g[k] + decay * x[k];
    u[k] += f.one_less_beta1 * (d - u[k]);
    v[k] = f.beta2 * v[k] + f.one_less_beta2 * d * d;
    x[k] -= f.step_size * u[k] / (root(v[k]) * root_scale + f.eps);
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
    LinePasses<T>::add_biases,
    LinePasses<T>::sum_lines,
    sum_of_squares<T>,
    sum_of_direction_squares<T>,
    turn<T>,
    move<T>,
    descend<T>,
    adam<T>,
    SecantPasses<T>::column_sums,
    SecantPasses<T>::secant,
    SecantPasses<T>::advance,
    SecantPasses<T>::shorten,
};

}  // namespace

const StepKernels<float> step_kernels_float32 = step_kernels<float>;
const StepKernels<double> step_kernels_float64 = step_kernels<double>;

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
