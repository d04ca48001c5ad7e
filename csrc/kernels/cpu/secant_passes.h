// The passes of a step of preconditioned L-BFGS over the rows of a parameter (lbfgs.h).
//
// Like all rules, L-BFGS works on θ = x / scale, whose gradient is scale · g (step_kernels.h). ParameterRows::u
// holds the last step of θ, v the gradient of the loss, without the decay, where that step began. All passes of
// a step together read x four times, g, u and v twice, and write x, u and v: 52 bytes per float32 parameter.
// Numbers are processed a cache line at a time, or one by one at the end of a row. Sums of a row are in T,
// those over rows in double.
#pragma once

#include <cstring>

#include "step_kernels.h"

namespace dmf {
namespace DMF_INSTRUCTION_SET {

template <class T>
class SecantPasses {
 public:
  static void column_sums(const ParameterRows<T>& rows, double* squares, double* curvatures) {
    each_line(rows, [&](auto reader, int64_t k, const Row& row, int64_t column) DMF_INLINED {
      using Reader = decltype(reader);
      const auto theta = row.inverse * Reader::load(rows.x + k);
      const auto square = Reader::doubles(theta * theta);
      Reader::add(squares + column, square);
      Reader::add(curvatures + column, static_cast<double>(row.curvature) * square);
    });
  }

  static SecantSums secant(const ParameterRows<T>& rows, const ColumnFacts<T>& columns) {
    SecantSums sums;
    if (rows.stride == 1) {
      add_secants<Single>(rows, columns, sums);
    } else {
      add_secants<Line>(rows, columns, sums);
    }
    return sums;
  }

  static void advance(const ParameterRows<T>& rows, const ColumnFacts<T>& columns,
                      const SecantFactors<T>& factors) {
    each_line(rows, [&](auto reader, int64_t k, const Row& row, int64_t column) DMF_INLINED {
      using Reader = decltype(reader);
      const Point<Reader> point(rows, columns, k, row, column);
      const auto step = factors.size * (factors.step * point.step +
                                        (factors.turn * point.turn - point.direction) / point.preconditioner);
      Reader::store(rows.u + k, step);
      Reader::store(rows.v + k, point.gradient);
      Reader::store(rows.x + k, point.x + row.scale * step);
    });
  }

  static void shorten(const ParameterRows<T>& rows, T ratio) {
    each_line(rows, [&](auto reader, int64_t k, const Row& row, int64_t) DMF_INLINED {
      using Reader = decltype(reader);
      const auto step = Reader::load(rows.u + k);
      Reader::store(rows.x + k, Reader::load(rows.x + k) - row.scale * (step - ratio * step));
      Reader::store(rows.u + k, ratio * step);
    });
  }

 private:
  struct Row {
    T scale, inverse, curvature;

    DMF_INLINE Row(const ParameterRows<T>& rows, int64_t row)
        : scale(rows.scale == nullptr ? T(1) : rows.scale[row]),
          inverse(1 / scale),
          curvature(rows.curvature == nullptr ? T(1) : rows.curvature[row]) {}
  };

  // 64 bytes of numbers.
  struct Line {
    static constexpr int64_t count = 64 / sizeof(T);
    typedef T type __attribute__((vector_size(64)));
    typedef double Doubles __attribute__((vector_size(64 / sizeof(T) * sizeof(double))));
    static DMF_INLINE type load(const T* p) {
      type x;
      std::memcpy(&x, p, sizeof x);
      return x;
    }
    static DMF_INLINE void store(T* p, type x) { std::memcpy(p, &x, sizeof x); }
    static DMF_INLINE Doubles doubles(type x) { return __builtin_convertvector(x, Doubles); }
    static DMF_INLINE void add(double* p, Doubles x) {
      Doubles sum;
      std::memcpy(&sum, p, sizeof sum);
      sum += x;
      std::memcpy(p, &sum, sizeof sum);
    }
    static DMF_INLINE double total(type x) {
      double sum = 0;
      for (int64_t lane = 0; lane < count; ++lane) sum += static_cast<double>(x[lane]);
      return sum;
    }
  };
  struct Single {
    static constexpr int64_t count = 1;
    using type = T;
    static DMF_INLINE T load(const T* p) { return *p; }
    static DMF_INLINE void store(T* p, T x) { *p = x; }
    static DMF_INLINE double doubles(T x) { return static_cast<double>(x); }
    static DMF_INLINE void add(double* p, double x) { *p += x; }
    static DMF_INLINE double total(T x) { return static_cast<double>(x); }
  };

  // What is known about the k-th numbers.
  template <class Reader>
  struct Point {
    using Numbers = typename Reader::type;
    Numbers x, step, gradient, direction, turn, preconditioner;

    DMF_INLINE Point(const ParameterRows<T>& rows, const ColumnFacts<T>& columns, int64_t k, const Row& row,
                     int64_t column)
        : x(Reader::load(rows.x + k)), step(Reader::load(rows.u + k)) {
      const Numbers decay = Reader::load(columns.decay + column), theta = row.inverse * x;
      gradient = row.scale * Reader::load(rows.g + k);
      direction = gradient + decay * theta;
      turn =
          direction - Reader::load(rows.v + k) - Reader::load(columns.decay_before + column) * (theta - step);
      preconditioner = row.curvature * Reader::load(columns.curvature + column) + decay;
    }
  };

  // body(reader, k, row, column) for all numbers.
  template <class Body>
  static DMF_INLINE void each_line(const ParameterRows<T>& rows, const Body& body) {
    if (rows.stride == 1) {
      for (int64_t row = 0; row < rows.rows; ++row) body(Single{}, row, Row(rows, row), 0);
      return;
    }
    for (int64_t row = 0; row < rows.rows; ++row) {
      const Row facts(rows, row);
      for (int64_t column = 0; column < rows.stride; column += Line::count) {
        body(Line{}, row * rows.stride + column, facts, column);
      }
    }
  }

  template <class Reader>
  static void add_secants(const ParameterRows<T>& rows, const ColumnFacts<T>& columns, SecantSums& sums) {
    using Numbers = typename Reader::type;
    for (int64_t row = 0; row < rows.rows; ++row) {
      const Row facts(rows, row);
      Numbers step_gradient{}, step_turn{}, turn_turn{}, turn_gradient{}, gradient{}, step{};
      for (int64_t column = 0; column < rows.stride; column += Reader::count) {
        const Point<Reader> point(rows, columns, row * rows.stride + column, facts, column);
        const Numbers scaled = point.direction / point.preconditioner,
                      scaled_turn = point.turn / point.preconditioner;
        step_gradient += point.step * point.direction;
        step_turn += point.step * point.turn;
        turn_turn += point.turn * scaled_turn;
        turn_gradient += point.turn * scaled;
        gradient += point.direction * scaled;
        step += point.step * point.step * point.preconditioner;
      }
      sums += {Reader::total(step_gradient), Reader::total(step_turn), Reader::total(turn_turn),
               Reader::total(turn_gradient), Reader::total(gradient),  Reader::total(step)};
    }
  }
};

}  // namespace DMF_INSTRUCTION_SET
}  // namespace dmf
