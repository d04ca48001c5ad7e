// The sweep against plain loops in double, on every instruction set, and bit-identical for all thread counts.
#include <catch2/catch.hpp>
#include <cmath>
#include <cstring>

#include "../kernels/cpu/dense.h"
#include "../kernels/cpu/sweep.h"
#include "instruction_sets.h"
#include "patterns.h"
#include "problems.h"

using namespace dmf;
using namespace dmf::test;

namespace {

template <class Storage>
Outcome swept(const Problem& p, const std::vector<char>& buffer, double scale, int threads) {
  const LayoutView layout = view_layout(buffer.data(), buffer.size());
  Numbers values(p.values.size()), weights(p.values.size());
  for (int64_t entry = 0; entry < p.pattern.nnz(); ++entry) {
    values[entry] = p.values[layout.position_of(entry)];
    weights[entry] = p.weights[layout.position_of(entry)];
  }
  PassArrays<Storage> arrays(p, values, weights, scale);
  constexpr Dtype dtype = Narrow<Storage>::dtype;
  ThreadPool parallel(threads);
  const double loss = sweep(layout, Task::loss_gradients, dtype, arrays.operands, parallel);
  CHECK(sweep(layout, Task::loss, dtype, arrays.operands, parallel) == loss);
  sweep(layout, Task::product, dtype, arrays.operands, parallel);
  return arrays.outcome(loss);
}

template <class Storage>
void check(const Problem& problem, const std::vector<char>& buffer, const Outcome& expected) {
  INFO(problem.pattern.rows << " x " << problem.pattern.columns << ", h " << problem.h << ", "
                            << sizeof(Storage) << " bytes, weighted " << problem.is_weighted);
  constexpr double tolerance = sizeof(accumulator_t<Storage>) == 8 ? 1e-13 : 1e-5;
  on_every_instruction_set([&] {
    const Outcome actual = swept<Storage>(problem, buffer, 0.25, 2);
    CHECK(std::fabs(actual.loss - expected.loss) <= tolerance * expected.loss);
    CHECK(close(actual.gradient_a, expected.gradient_a, tolerance));
    CHECK(close(actual.gradient_b, expected.gradient_b, tolerance));
    CHECK(close(actual.products, expected.products, tolerance));
    CHECK(close(actual.gradient_row_bias, expected.gradient_row_bias, tolerance));
    CHECK(close(actual.gradient_column_bias, expected.gradient_column_bias, tolerance));
  });
}

template <class... Storages>
void check_against_plain_loops(const Pattern& pattern, int64_t h, bool weighted = true, bool biased = false) {
  Problem problem(pattern, h, weighted);
  if (biased) problem.add_biases();
  const Outcome expected = plain_loops(problem, 0.25);
  const std::vector<char> buffer = build_layout(pattern);
  (check<Storages>(problem, buffer, expected), ...);
}

}  // namespace

TEST_CASE("loss, gradients and products agree with plain loops") {
  for (const Pattern& pattern : assorted_patterns()) {
    if (pattern.rows > 10000) continue;
    for (const int64_t h : {1, 5, 16, 33}) {
      check_against_plain_loops<double, float, bfloat16, float16>(pattern, h);
    }
  }
}

TEST_CASE("biases are added to the predictions of the loss and have gradients of their own") {
  for (const Pattern& pattern : assorted_patterns()) {
    if (pattern.rows > 10000) continue;
    for (const int64_t h : {1, 16}) {
      check_against_plain_loops<double, float, bfloat16, float16>(pattern, h, true, true);
      check_against_plain_loops<double, float>(pattern, h, false, true);
    }
  }
  // Too wide for slices in registers.
  const Pattern pattern = random_pattern(700, 900, 5000, 3, 2);
  check_against_plain_loops<double, float, bfloat16, float16>(pattern, 150, true, true);
  check_against_plain_loops<double, float>(pattern, 150, false, true);
}

TEST_CASE("biases have no gradients where none are wanted") {
  const Pattern pattern = random_pattern(300, 200, 4000, 2, 9);
  Problem problem(pattern, 11, false);
  problem.add_biases();
  const std::vector<char> buffer = build_layout(pattern);
  const LayoutView layout = view_layout(buffer.data(), buffer.size());
  Numbers values(pattern.nnz());
  for (int64_t entry = 0; entry < pattern.nnz(); ++entry)
    values[entry] = problem.values[layout.position_of(entry)];
  on_every_instruction_set([&] {
    PassArrays<double> arrays(problem, values, {}, 0.25);
    arrays.operands.gradient_row_bias = arrays.operands.gradient_column_bias = nullptr;
    ThreadPool parallel(2);
    sweep(layout, Task::loss_gradients, Dtype::float64, arrays.operands, parallel);
    CHECK(close(arrays.outcome(0).gradient_a, plain_loops(problem, 0.25).gradient_a, 1e-13));
  });
}

TEST_CASE("every width agrees with plain loops") {
  const Pattern pattern = random_pattern(60, 70, 900, 2, 7);
  for (int64_t h = 1; h <= 140; ++h) {
    check_against_plain_loops<float>(pattern, h);
    check_against_plain_loops<double, bfloat16>(pattern, h, false);
  }
}

TEST_CASE("results are bitwise the same for any number of threads") {
  const Pattern pattern = random_pattern(1500, 1300, 40000, 2, 8);
  Problem problem(pattern, 20);
  problem.add_biases();
  const std::vector<char> buffer = build_layout(pattern);
  on_every_instruction_set([&] {
    const Outcome expected = swept<float>(problem, buffer, 1.0, 1);
    for (const int threads : {2, 3, 8}) {
      const Outcome actual = swept<float>(problem, buffer, 1.0, threads);
      CHECK(actual.loss == expected.loss);
      CHECK(actual.gradient_a == expected.gradient_a);
      CHECK(actual.gradient_b == expected.gradient_b);
      CHECK(actual.products == expected.products);
      CHECK(actual.gradient_row_bias == expected.gradient_row_bias);
      CHECK(actual.gradient_column_bias == expected.gradient_column_bias);
    }
  });
}

TEST_CASE("coefficients given in the caller's order are scattered to both gradients") {
  const Pattern pattern = random_pattern(300, 200, 4000, 2, 9);
  const Problem problem(pattern, 11);
  const std::vector<char> buffer = build_layout(pattern);
  Outcome expected{0, Numbers(problem.a.size(), 0.0), Numbers(problem.b_transposed.size(), 0.0), {}};
  for (int64_t k = 0; k < pattern.nnz(); ++k) {
    for (int64_t v = 0; v < problem.h; ++v) {
      const int64_t in_a = pattern.row_of[k] * problem.h + v, in_b = pattern.column_of[k] * problem.h + v;
      expected.gradient_a[in_a] += problem.values[k] * problem.b_transposed[in_b];
      expected.gradient_b[in_b] += problem.values[k] * problem.a[in_a];
    }
  }
  on_every_instruction_set([&] {
    Numbers gradient_a(problem.a.size()), gradient_b(problem.b_transposed.size());
    Operands operands;
    operands.a = problem.a.data();
    operands.b_transposed = problem.b_transposed.data();
    operands.h = problem.h;
    operands.coefficients = problem.values.data();
    operands.gradient_a = gradient_a.data();
    operands.gradient_b_transposed = gradient_b.data();
    ThreadPool parallel(2);
    sweep(view_layout(buffer.data(), buffer.size()), Task::gradients, Dtype::float64, operands, parallel);
    CHECK(close(gradient_a, expected.gradient_a, 1e-13));
    CHECK(close(gradient_b, expected.gradient_b, 1e-13));
  });
}

TEST_CASE("loss and gradient of a dense matrix agree with plain loops, for any number of threads") {
  for (const Pattern& pattern : assorted_patterns()) {
    if (pattern.rows > 10000) continue;
    const Problem problem(pattern, 1);
    const std::vector<char> buffer = build_layout(pattern);
    const LayoutView layout = view_layout(buffer.data(), buffer.size());
    const Numbers dense = draw(pattern.rows * pattern.columns, 7);
    Numbers values(pattern.nnz()), weights(pattern.nnz()), expected(dense.size(), 0.0);
    double loss = 0;
    for (int64_t entry = 0; entry < pattern.nnz(); ++entry) {
      const int64_t k = layout.position_of(entry);
      const int64_t place = pattern.row_of[k] * pattern.columns + pattern.column_of[k];
      values[entry] = problem.values[k];
      weights[entry] = problem.weights[k];
      const double residual = dense[place] - problem.values[k];
      loss += problem.weights[k] * residual * residual;
      expected[place] = 0.5 * problem.weights[k] * residual;
    }
    Numbers gradient(dense.size(), 1e30);
    const DenseOperands operands{dense.data(), values.data(), weights.data(), gradient.data(), 0.25};
    for (const int threads : {1, 3}) {
      ThreadPool parallel(threads);
      CHECK(dense_loss(layout, Dtype::float64, operands, parallel) == Approx(0.25 * loss).epsilon(1e-13));
      CHECK(gradient == expected);
    }
  }
}

TEST_CASE("gathering and scattering a dense matrix are inverse on the observed entries") {
  for (const Pattern& pattern : assorted_patterns()) {
    if (pattern.rows > 10000) continue;
    const std::vector<char> buffer = build_layout(pattern);
    const LayoutView layout = view_layout(buffer.data(), buffer.size());
    ThreadPool parallel(3);
    const Numbers values = draw(pattern.nnz(), 5);
    Numbers dense(pattern.rows * pattern.columns, 1.0), gathered(pattern.nnz()), expected(dense.size(), 0.0);
    scatter_observed(layout, values.data(), dense.data(), 8, parallel);
    gather_observed(layout, dense.data(), gathered.data(), 8, parallel);
    for (int64_t k = 0; k < pattern.nnz(); ++k) {
      expected[pattern.row_of[k] * pattern.columns + pattern.column_of[k]] = values[k];
    }
    CHECK(dense == expected);
    CHECK(gathered == values);
  }
}

TEST_CASE("numbers in row order come back in the caller's order") {
  const Pattern pattern = random_pattern(300, 200, 4000, 2, 10);
  const std::vector<char> buffer = build_layout(pattern);
  const LayoutView layout = view_layout(buffer.data(), buffer.size());
  const Numbers values = draw(pattern.nnz(), 6);
  Numbers row_order(values.size()), ordered(values.size());
  for (int64_t entry = 0; entry < pattern.nnz(); ++entry) row_order[entry] = values[layout.position_of(entry)];
  ThreadPool parallel(2);
  order_as_given(layout, row_order.data(), ordered.data(), 8, parallel);
  CHECK(ordered == values);
}

TEST_CASE("every float16 number is read exactly") {
  Pattern pattern{1, 1, {0}, {0}};
  const std::vector<char> buffer = build_layout(pattern);
  const float16 one{0x3c00}, zero{0};
  on_every_instruction_set([&] {
    bool right = true;
    for (uint32_t bits = 0; bits < 0x7c00; ++bits) {
      const float16 number{static_cast<uint16_t>(bits)};
      const int exponent = static_cast<int>(bits >> 10), mantissa = static_cast<int>(bits & 0x3ff);
      const double expected =
          exponent == 0 ? std::ldexp(mantissa, -24) : std::ldexp(1024 + mantissa, exponent - 25);
      float product = -1;
      Operands operands;
      operands.a = &number;
      operands.b_transposed = &one;
      operands.h = 1;
      operands.products = &product;
      ThreadPool parallel(1);
      sweep(view_layout(buffer.data(), buffer.size()), Task::product, Dtype::float16, operands, parallel);
      operands.a = &zero;
      operands.values = &number;
      const double loss =
          sweep(view_layout(buffer.data(), buffer.size()), Task::loss, Dtype::float16, operands, parallel);
      right =
          right && product == expected && std::fabs(loss - expected * expected) <= 1e-7 * expected * expected;
    }
    CHECK(right);
  });
}
