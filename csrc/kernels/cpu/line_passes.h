// The passes over the lines of Ω: dot products, residuals, sums of rows.
//
// An entry costs 6h flops and reads 3h numbers: Bᵀ for its dot product and for dA, A for dBᵀ. The numbers come
// from L1 or L2; the sums stay in registers from the first entry of a line to the last. The pattern is the same
// in every step, so branch predictors learn the lengths of its lines.
#pragma once

#include "lanes.h"
#include "panel.h"
#include "step_kernels.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

template <class T>
class LinePasses {
 public:
  using V = Vector<T>;
  using Register = typename V::type;
  using L = Lanes<T>;

  static void dots(const LineSide& side, const DenseMatrix<T>& a, const DenseMatrix<T>& b, T* dots) {
    for (int64_t line = 0; line < side.lines; ++line) {
      const T* x = a.row(line);
      int64_t entry = side.start[line];
      const int64_t end = side.start[line + 1];
      for (; entry + 8 <= end; entry += 8) dot_group<8>(x, b, side.other + entry, dots + entry);
      const int64_t left = end - entry;
      if (left & 4) dot_group<4>(x, b, side.other + entry, dots + entry);
      entry += left & 4;
      if (left & 2) dot_group<2>(x, b, side.other + entry, dots + entry);
      entry += left & 2;
      if (left & 1) dot_group<1>(x, b, side.other + entry, dots + entry);
    }
  }

  static double residuals(const T* values, const T* weights, int64_t nnz, T twice_scale, T* dots) {
    typename L::Doubles loss{};
    int64_t entry = 0;
    for (; entry + L::count <= nnz; entry += L::count) {
      residual<L::count>(values, weights, entry, twice_scale, dots, loss);
    }
    for (; entry < nnz; ++entry) residual<1>(values, weights, entry, twice_scale, dots, loss);
    double sum = 0;
    for (int lane = 0; lane < L::count; ++lane) sum += loss[lane];
    return sum;
  }

  static void gather(const LineSide& side, const T* coefficients, const DenseMatrix<T>& rows,
                     const DenseMatrix<T>& sums) {
    const int64_t vectors = (rows.columns + V::width - 1) / V::width;
    const int64_t strips = (vectors + widest_strip - 1) / widest_strip;
    for (int64_t strip = 0; strip < strips; ++strip) {
      const int64_t begin = vectors * strip / strips, end = vectors * (strip + 1) / strips;
      gather_strip<widest_strip>(static_cast<int>(end - begin), begin * V::width, side, coefficients, rows,
                                 sums);
    }
  }

  static void add_biases(const LineSide& side, const int32_t* column, const T* row_bias, const T* column_bias,
                         T* dots) {
    for (int64_t line = 0; line < side.lines; ++line) {
      const T bias = row_bias[line];
      for (int64_t entry = side.start[line]; entry < side.start[line + 1]; ++entry) {
        dots[entry] += bias + column_bias[column[entry]];
      }
    }
  }

  static void sum_lines(const LineSide& side, const T* coefficients, T* sums) {
    for (int64_t line = 0; line < side.lines; ++line) {
      T sum = 0;
      for (int64_t entry = side.start[line]; entry < side.start[line + 1]; ++entry) {
        sum += coefficients[side.place == nullptr ? entry : side.place[entry]];
      }
      sums[line] = sum;
    }
  }

 private:
  static constexpr int widest_strip = vector_registers / 2;

  template <int E>
  static DMF_INLINE void dot_group(const T* x, const DenseMatrix<T>& b, const int32_t* other, T* dots) {
    const T* y[E];
    Register sum[E];
    const Register first = V::load(x);
    for (int e = 0; e < E; ++e) {
      y[e] = opaque(b.data + other[e]);
      sum[e] = V::multiply(first, V::load(y[e]));
    }
    for (int64_t k = V::width; k < b.columns; k += V::width) {
      const Register part = V::load(x + k);
      for (int e = 0; e < E; ++e) sum[e] = V::multiply_add(part, V::load(y[e] + k), sum[e]);
    }
    if constexpr (E == 2) {  // may write four numbers
      T parts[sums_slack];
      V::template sums<E>(sum, parts);
      std::memcpy(dots, parts, sizeof(T) * E);
    } else {
      V::template sums<E>(sum, dots);
    }
  }

  template <int E>
  static DMF_INLINE void residual(const T* values, const T* weights, int64_t entry, T twice_scale, T* dots,
                                  typename L::Doubles& loss) {
    const typename L::type residual = L::template load<E>(dots + entry) - L::template load<E>(values + entry);
    const typename L::type weighted =
        weights == nullptr ? residual : L::template load<E>(weights + entry) * residual;
    L::add_products(weighted, residual, loss);
    const typename L::type coefficients = twice_scale * weighted;
    std::memcpy(dots + entry, &coefficients, E * sizeof(T));
  }

  template <int P>
  static void gather_strip(int vectors, int64_t column, const LineSide& side, const T* coefficients,
                           const DenseMatrix<T>& rows, const DenseMatrix<T>& sums) {
    if constexpr (P > 0) {
      if (vectors < P) return gather_strip<P - 1>(vectors, column, side, coefficients, rows, sums);
      if (side.place == nullptr) {
        gather_lines<P>(side, rows.data + column, sums.data + column, sums.stride,
                        [&](int64_t entry) { return coefficients[entry]; });
      } else {
        gather_lines<P>(side, rows.data + column, sums.data + column, sums.stride,
                        [&](int64_t entry) { return coefficients[side.place[entry]]; });
      }
    }
  }

  template <int P, class Coefficient>
  static DMF_INLINE void gather_lines(const LineSide& side, const T* rows, T* sums, int64_t sum_stride,
                                      const Coefficient& coefficient) {
    for (int64_t line = 0; line < side.lines; ++line) {
      Register sum[P];
      for (int p = 0; p < P; ++p) sum[p] = V::zero();
      for (int64_t entry = side.start[line]; entry < side.start[line + 1]; ++entry) {
        const Register factor = V::broadcast(coefficient(entry));
        const T* row = opaque(rows + side.other[entry]);
        for (int p = 0; p < P; ++p) sum[p] = V::multiply_add(factor, V::load(row + p * V::width), sum[p]);
      }
      Panel<T, P>::store(sums + line * sum_stride, sum);
    }
  }
};

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
