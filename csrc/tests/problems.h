// Problems over a pattern, their results from plain loops in double, and the storage types that hold them.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstring>
#include <vector>

#include "../kernels/number_types.h"
#include "../kernels/task.h"
#include "patterns.h"

namespace dmf::test {

using Numbers = std::vector<double>;

inline Numbers draw(int64_t count, unsigned seed) {
  std::mt19937_64 generator(seed);
  std::normal_distribution<double> normal;
  Numbers numbers(count);
  // Rounded to 8 bits of mantissa, so that every storage type holds them exactly.
  for (double& number : numbers) number = std::ldexp(std::round(std::ldexp(normal(generator), 5)), -5);
  return numbers;
}

struct Outcome {
  double loss = 0;
  Numbers gradient_a, gradient_b, products;
  Numbers gradient_row_bias = {}, gradient_column_bias = {};  // of problems with biases
};

struct Problem {
  const Pattern& pattern;
  int64_t h;
  Numbers a, b_transposed, values, weights;  // values and weights in the caller's order
  bool is_weighted;
  Numbers row_bias, column_bias;  // empty for none
  double offset = 0;

  Problem(const Pattern& p, int64_t width, bool weighted = true)
      : pattern(p),
        h(width),
        a(draw(p.rows * width, 1)),
        b_transposed(draw(p.columns * width, 2)),
        values(draw(p.nnz(), 3)),
        weights(draw(p.nnz(), 4)) {
    for (double& weight : weights) weight = weighted ? std::fabs(weight) : 1.0;
    is_weighted = weighted;
  }

  void add_biases() {
    row_bias = draw(pattern.rows, 5);
    column_bias = draw(pattern.columns, 6);
    offset = 3.5;
  }
  bool is_biased() const { return !row_bias.empty(); }
};

inline Outcome plain_loops(const Problem& p, double scale) {
  Outcome outcome{0,  Numbers(p.a.size(), 0.0),        Numbers(p.b_transposed.size(), 0.0),
                  {}, Numbers(p.row_bias.size(), 0.0), Numbers(p.column_bias.size(), 0.0)};
  for (int64_t k = 0; k < p.pattern.nnz(); ++k) {
    const double* a = p.a.data() + p.pattern.row_of[k] * p.h;
    const double* b = p.b_transposed.data() + p.pattern.column_of[k] * p.h;
    double product = 0;
    for (int64_t v = 0; v < p.h; ++v) product += a[v] * b[v];
    outcome.products.push_back(product);
    double residual = product - p.values[k];
    if (p.is_biased()) {
      residual += p.row_bias[p.pattern.row_of[k]] + p.column_bias[p.pattern.column_of[k]] + p.offset;
    }
    outcome.loss += scale * p.weights[k] * residual * residual;
    const double coefficient = 2 * scale * p.weights[k] * residual;
    if (p.is_biased()) {
      outcome.gradient_row_bias[p.pattern.row_of[k]] += coefficient;
      outcome.gradient_column_bias[p.pattern.column_of[k]] += coefficient;
    }
    for (int64_t v = 0; v < p.h; ++v) {
      outcome.gradient_a[p.pattern.row_of[k] * p.h + v] += coefficient * b[v];
      outcome.gradient_b[p.pattern.column_of[k] * p.h + v] += coefficient * a[v];
    }
  }
  return outcome;
}

template <class Storage>
struct Narrow;
template <>
struct Narrow<double> {
  static constexpr Dtype dtype = Dtype::float64;
  static double from(double x) { return x; }
};
template <>
struct Narrow<float> {
  static constexpr Dtype dtype = Dtype::float32;
  static float from(double x) { return static_cast<float>(x); }
};
template <>
struct Narrow<bfloat16> {
  static constexpr Dtype dtype = Dtype::bfloat16;
  static bfloat16 from(double x) {
    const float single = static_cast<float>(x);
    uint32_t bits;
    std::memcpy(&bits, &single, sizeof bits);
    return bfloat16{static_cast<uint16_t>(bits >> 16)};
  }
};

template <>
struct Narrow<float16> {
  static constexpr Dtype dtype = Dtype::float16;
  // All drawn numbers are multiples of 1/32 below 8: exact, and normal or zero.
  static float16 from(double x) {
    if (x == 0) return float16{0};
    int exponent;
    const double mantissa = std::frexp(std::fabs(x), &exponent);
    const auto fraction = static_cast<uint16_t>(std::lround(std::ldexp(mantissa, 11)) - 1024);
    const auto bits = static_cast<uint16_t>(((exponent + 14) << 10) + fraction);
    return float16{static_cast<uint16_t>(bits | (x < 0 ? 0x8000 : 0))};
  }
};

template <class Storage>
std::vector<Storage> narrow(const Numbers& numbers) {
  std::vector<Storage> result;
  for (const double number : numbers) result.push_back(Narrow<Storage>::from(number));
  return result;
}

// The arrays that a pass over a problem reads and writes. Gradients are full of garbage, since passes set them
// and do not accumulate. Values and weights are in the row order of the problem's layout.
template <class Storage>
struct PassArrays {
  using T = accumulator_t<Storage>;

  std::vector<Storage> a, b_transposed, values, weights;
  std::vector<T> gradient_a, gradient_b;
  std::vector<T> row_bias, column_bias, gradient_row_bias, gradient_column_bias;
  std::vector<T> products;
  Operands operands;

  PassArrays(const Problem& p, const Numbers& values_in_row_order, const Numbers& weights_in_row_order,
             double scale)
      : a(narrow<Storage>(p.a)),
        b_transposed(narrow<Storage>(p.b_transposed)),
        values(narrow<Storage>(values_in_row_order)),
        weights(narrow<Storage>(weights_in_row_order)),
        gradient_a(p.a.size(), T(1e30)),
        gradient_b(p.b_transposed.size(), T(1e30)),
        row_bias(p.row_bias.begin(), p.row_bias.end()),
        column_bias(p.column_bias.begin(), p.column_bias.end()),
        gradient_row_bias(p.row_bias.size(), T(1e30)),
        gradient_column_bias(p.column_bias.size(), T(1e30)),
        products(p.pattern.nnz()) {
    operands.a = a.data();
    operands.b_transposed = b_transposed.data();
    operands.h = p.h;
    operands.values = values.data();
    if (p.is_weighted) operands.weights = weights.data();
    operands.gradient_a = gradient_a.data();
    operands.gradient_b_transposed = gradient_b.data();
    operands.products = products.data();
    operands.scale = operands.loss_scale = scale;
    if (!p.is_biased()) return;
    operands.row_bias = row_bias.data();
    operands.column_bias = column_bias.data();
    operands.offset = p.offset;
    operands.gradient_row_bias = gradient_row_bias.data();
    operands.gradient_column_bias = gradient_column_bias.data();
  }
  PassArrays(const PassArrays&) = delete;  // operands point into this one

  Outcome outcome(double loss) const {
    return {loss,
            Numbers(gradient_a.begin(), gradient_a.end()),
            Numbers(gradient_b.begin(), gradient_b.end()),
            Numbers(products.begin(), products.end()),
            Numbers(gradient_row_bias.begin(), gradient_row_bias.end()),
            Numbers(gradient_column_bias.begin(), gradient_column_bias.end())};
  }
};

inline bool close(const Numbers& actual, const Numbers& expected, double tolerance) {
  if (actual.size() != expected.size()) return false;
  double scale = 0, error = 0;
  for (size_t k = 0; k < expected.size(); ++k) {
    scale = std::max(scale, std::fabs(expected[k]));
    error = std::max(error, std::fabs(actual[k] - expected[k]));
  }
  return error <= tolerance * scale;
}

}  // namespace dmf::test
