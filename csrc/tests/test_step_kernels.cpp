// The kernels of a step and the passes at Ω against plain loops in double, on every instruction set.
#include <catch2/catch.hpp>
#include <cmath>

#include "../kernels/cpu/line_pass.h"
#include "engine_problems.h"

using namespace dmf;
using namespace dmf::test;

namespace {

template <class T>
void check_products(const StepKernels<T>& kernels) {
  for (const int64_t m : sizes) {
    for (const int64_t k : sizes) {
      const PlainMatrix left = drawn(m, k, 1);
      const Padded<T> padded_left(left), padded_transposed(left.transposed());
      Padded<T> transposed(k, m, garbage);
      for (int64_t p = 0; p < transposed.matrix.numbers(); ++p) transposed.memory[p] = T(garbage);
      kernels.transpose(padded_left.matrix, transposed.matrix);
      CHECK(numbers_of(transposed.matrix) == left.transposed().numbers);
      for (const int64_t n : sizes) {
        INFO(m << " x " << k << " x " << n);
        const PlainMatrix right = drawn(k, n, 2);
        const Numbers expected = (left * right).numbers;
        const Padded<T> padded_right(right), product(m, n, garbage), other(m, n, garbage);
        kernels.multiply(padded_left.matrix, padded_right.matrix, product.matrix);
        CHECK(numbers_of(product.matrix) == expected);
        kernels.multiply_transposed(padded_transposed.matrix, padded_right.matrix, other.matrix);
        CHECK(numbers_of(other.matrix) == expected);
      }
    }
  }
}

// Line i has i entries, in neither row nor column order.
Pattern lines_of_every_length() {
  Pattern pattern{21, 23, {}, {}};
  for (int64_t entry = 0; entry < 20; ++entry) {
    for (int64_t row = pattern.rows - 1; row > entry; --row) {
      pattern.row_of.push_back(row);
      pattern.column_of.push_back((row * 7 + entry * 5) % pattern.columns);
    }
  }
  return pattern;
}

template <class T>
void check_lines(const StepKernels<T>& kernels) {
  const Pattern pattern = lines_of_every_length();
  const ObservedLines sorted = sort_into_lines(pattern.row_of.data(), pattern.column_of.data(), pattern.nnz(),
                                               pattern.rows, pattern.columns);
  for (const int64_t h : sizes) {
    INFO("h " << h);
    const PlainMatrix a = drawn(pattern.rows, h, 1), b = drawn(pattern.columns, h, 2);
    const Padded<T> padded_a(a), padded_b(b), sums_a(pattern.rows, h, garbage),
        sums_b(pattern.columns, h, garbage);
    std::vector<int32_t> columns = sorted.column, rows = sorted.row;
    for (int32_t& column : columns) column *= static_cast<int32_t>(padded_b.matrix.stride);
    for (int32_t& row : rows) row *= static_cast<int32_t>(padded_a.matrix.stride);
    const LineSide row_side{sorted.row_start.data(), columns.data(), nullptr, pattern.rows};
    const LineSide column_side{sorted.column_start.data(), rows.data(), sorted.place.data(), pattern.columns};

    const Numbers drawn_coefficients = draw(pattern.nnz(), 3);
    std::vector<T> dots(pattern.nnz() + 1, T(garbage)), coefficients(pattern.nnz());
    Numbers expected_dots(dots.size(), static_cast<double>(T(garbage)));
    PlainMatrix expected_a(pattern.rows, h), expected_b(pattern.columns, h);
    for (int64_t place = 0; place < pattern.nnz(); ++place) {
      const int64_t k = sorted.position[place], i = pattern.row_of[k], j = pattern.column_of[k];
      coefficients[place] = static_cast<T>(drawn_coefficients[k]);
      expected_dots[place] = 0;
      for (int64_t v = 0; v < h; ++v) {
        expected_dots[place] += a.at(i, v) * b.at(j, v);
        expected_a.at(i, v) += drawn_coefficients[k] * b.at(j, v);
        expected_b.at(j, v) += drawn_coefficients[k] * a.at(i, v);
      }
    }
    kernels.dots(row_side, padded_a.matrix, padded_b.matrix, dots.data());
    CHECK(Numbers(dots.begin(), dots.end()) == expected_dots);
    const std::vector<T> row_bias = narrow<T>(draw(pattern.rows, 5)),
                         column_bias = narrow<T>(draw(pattern.columns, 6));
    std::vector<T> row_sums(pattern.rows, T(garbage)), column_sums(pattern.columns, T(garbage));
    Numbers expected_row_sums(pattern.rows, 0.0), expected_column_sums(pattern.columns, 0.0);
    for (int64_t place = 0; place < pattern.nnz(); ++place) {
      const int64_t k = sorted.position[place], i = pattern.row_of[k], j = pattern.column_of[k];
      expected_dots[place] += double(row_bias[i]) + double(column_bias[j]);
      expected_row_sums[i] += drawn_coefficients[k];
      expected_column_sums[j] += drawn_coefficients[k];
    }
    kernels.add_biases(row_side, sorted.column.data(), row_bias.data(), column_bias.data(), dots.data());
    CHECK(Numbers(dots.begin(), dots.end()) == expected_dots);
    kernels.sum_lines(row_side, coefficients.data(), row_sums.data());
    CHECK(Numbers(row_sums.begin(), row_sums.end()) == expected_row_sums);
    kernels.sum_lines(column_side, coefficients.data(), column_sums.data());
    CHECK(Numbers(column_sums.begin(), column_sums.end()) == expected_column_sums);
    kernels.gather(row_side, coefficients.data(), padded_b.matrix, sums_a.matrix);
    CHECK(numbers_of(sums_a.matrix) == expected_a.numbers);
    kernels.gather(column_side, coefficients.data(), padded_a.matrix, sums_b.matrix);
    CHECK(numbers_of(sums_b.matrix) == expected_b.numbers);
  }
}

// Rows of parameters of several widths, one of which needs no padding, with and without scales.
template <class T>
void check_updates(const StepKernels<T>& kernels, int64_t rows, int64_t stride, bool scaled,
                   double weight_decay) {
  INFO(rows << " rows of " << stride << " numbers, scaled " << scaled << ", weight decay " << weight_decay);
  const int64_t count = rows * stride;
  const Numbers x = draw(count + 1, 1), g = draw(count + 1, 2), u = draw(count + 1, 3);
  Numbers v = draw(count + 1, 4);  // of squares
  for (double& number : v) number = std::fabs(number);
  std::vector<T> scales;
  for (int64_t row = 0; row < rows; ++row) scales.push_back(row % 2 == 0 ? T(0.5) : T(2));
  UpdateFactors<T> factors;
  factors.gradient_factor = T(0.5);
  factors.step_size = T(0.25);
  factors.momentum = T(0.5);
  factors.one_less_beta1 = T(0.125);
  factors.beta2 = T(0.75);
  factors.one_less_beta2 = T(0.25);
  factors.root_correction = T(0.5);
  factors.eps = T(0.0625);
  double squares = 0, direction_squares = 0, turn_squares = 0;
  Numbers plain_x = x, momentum_x = x, momentum_u = u, moved_x = x, turned_u = u, adam_x = x, adam_u = u,
          adam_v = v;
  for (int64_t k = 0; k < count; ++k) {
    const double scale = scaled ? double(scales[k / stride]) : 1.0, theta = x[k] / scale;
    const double d = 0.5 * scale * g[k] + weight_decay * theta;
    squares += theta * theta;
    direction_squares += d * d;
    turn_squares += (d - u[k]) * (d - u[k]);
    plain_x[k] -= 0.25 * scale * d;
    momentum_u[k] = 0.5 * u[k] + d;
    momentum_x[k] -= 0.25 * scale * momentum_u[k];
    moved_x[k] -= 0.25 * scale * u[k];
    turned_u[k] = d;
    adam_u[k] = 0.875 * u[k] + 0.125 * d;
    adam_v[k] = 0.75 * v[k] + 0.25 * d * d;
    adam_x[k] -= 0.25 * adam_u[k] / (std::sqrt(adam_v[k]) / 0.5 + 0.0625);
  }
  const auto same = [](const std::vector<T>& actual, const Numbers& expected) {
    return Numbers(actual.begin(), actual.end()) == expected;
  };
  std::vector<T> new_x(count + 1), new_u(count + 1), new_v(count + 1);
  const std::vector<T> as_g = narrow<T>(g);
  ParameterRows<T> given{
      new_x.data(),    as_g.data(), new_u.data(), new_v.data(), scaled ? scales.data() : nullptr,
      T(weight_decay), rows,        stride};
  const auto reset = [&] {
    std::copy(x.begin(), x.end(), new_x.begin());
    std::copy(u.begin(), u.end(), new_u.begin());
    std::copy(v.begin(), v.end(), new_v.begin());
  };
  reset();
  CHECK(kernels.sum_of_squares(given) == squares);
  CHECK(kernels.sum_of_direction_squares(given, T(0.5)) == direction_squares);
  kernels.move(given, T(0.25));
  CHECK(same(new_x, moved_x));
  reset();
  kernels.descend(given, factors);
  CHECK(same(new_x, momentum_x));
  CHECK(same(new_u, momentum_u));
  reset();
  const TurnSums sums = kernels.turn(given, T(0.5));
  CHECK(sums.direction == direction_squares);
  CHECK(sums.turn == turn_squares);
  CHECK(same(new_u, turned_u));
  given.u = nullptr;
  kernels.descend(given, factors);
  CHECK(same(new_x, plain_x));
  if (scaled) return;
  reset();
  given.u = new_u.data();
  kernels.adam(given, factors);
  const double tolerance = sizeof(T) == 8 ? 1e-14 : 1e-6;
  CHECK(close(Numbers(new_x.begin(), new_x.end()), adam_x, tolerance));
  CHECK(close(Numbers(new_u.begin(), new_u.end()), adam_u, tolerance));
  CHECK(close(Numbers(new_v.begin(), new_v.end()), adam_v, tolerance));
}

template <class T>
void check_residuals(const StepKernels<T>& kernels, int64_t count) {
  INFO(count << " entries");
  const Numbers w = draw(count + 1, 1), g = draw(count + 1, 2);
  Numbers v = draw(count + 1, 4);
  for (double& number : v) number = std::fabs(number);
  const auto same = [](const std::vector<T>& actual, const Numbers& expected) {
    return Numbers(actual.begin(), actual.end()) == expected;
  };
  const std::vector<T> as_g = narrow<T>(g);
  for (const bool weighted : {false, true}) {  // w: dots, g: values, v: weights
    Numbers coefficients = w;
    double loss = 0;
    for (int64_t k = 0; k < count; ++k) {
      const double residual = w[k] - g[k], weighted_residual = (weighted ? v[k] : 1.0) * residual;
      loss += weighted_residual * residual;
      coefficients[k] = 0.5 * weighted_residual;
    }
    std::vector<T> dots = narrow<T>(w);
    const std::vector<T> weights = narrow<T>(v);
    CHECK(kernels.residuals(as_g.data(), weighted ? weights.data() : nullptr, count, T(0.5), dots.data()) ==
          loss);
    CHECK(same(dots, coefficients));
  }
}

template <class T>
void check_pass(const Pattern& pattern, int64_t h, bool weighted, bool by_lines) {
  INFO(pattern.rows << " x " << pattern.columns << ", h " << h);
  const Problem problem(pattern, h, weighted);
  const auto expected = plain_loops(problem, 0.25);
  const double loss = expected.loss / 0.25;  // a run needs it without the scale
  const Entries<T> entries(pattern, problem.values, problem.weights, weighted);
  const Padded<T> a(drawn(pattern.rows, h, 1)), b(drawn(pattern.columns, h, 2));
  const Padded<T> gradient_a(pattern.rows, h, garbage), gradient_b(pattern.columns, h, garbage);
  const Sides<T> sides{a.matrix, b.matrix, gradient_a.matrix, gradient_b.matrix};
  CHECK(LinePass<T>::suits(pattern.nnz(), sides) == by_lines);
  const double tolerance = sizeof(T) == 8 ? 1e-13 : 1e-5;
  for (const int threads : {1, 3}) {
    ThreadPool parallel(threads);
    const auto pass = make_observed_pass(entries.view, 0.25, sides, parallel);
    for (int time = 0; time < 2; ++time) {
      CHECK(std::fabs(pass->run() - loss) <= tolerance * loss);
      CHECK(close(numbers_of(gradient_a.matrix), expected.gradient_a, tolerance));
      CHECK(close(numbers_of(gradient_b.matrix), expected.gradient_b, tolerance));
    }
  }
}

template <class T>
void check_formed_pass(const Pattern& pattern, bool weighted) {
  const Problem problem(pattern, 1, weighted);
  const Entries<T> entries(pattern, problem.values, problem.weights, weighted);
  const PlainMatrix w = drawn(pattern.rows, pattern.columns, 7);
  const Padded<T> padded(w), gradient(pattern.rows, pattern.columns, 0);
  PlainMatrix expected(pattern.rows, pattern.columns);
  double loss = 0;
  for (int64_t k = 0; k < pattern.nnz(); ++k) {
    const int64_t i = pattern.row_of[k], j = pattern.column_of[k];
    const double residual = w.at(i, j) - problem.values[k];
    loss += problem.weights[k] * residual * residual;
    expected.at(i, j) = 0.5 * problem.weights[k] * residual;
  }
  for (const int threads : {1, 3}) {
    ThreadPool parallel(threads);
    const Sides<T> sides{padded.matrix, {}, gradient.matrix, {}};
    CHECK(make_observed_pass(entries.view, 0.25, sides, parallel)->run() == loss);
    CHECK(numbers_of(gradient.matrix) == expected.numbers);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("kernels of a step agree with plain loops", "[descent]", float, double) {
  on_every_instruction_set([] {
    const StepKernels<TestType>& kernels = active_step_kernels<TestType>();
    check_products(kernels);
    check_lines(kernels);
    for (int64_t count = 0; count <= 70; ++count) check_residuals(kernels, count);
    for (const bool scaled : {false, true}) {
      for (const double weight_decay : {0.0, 0.5}) {
        for (int64_t rows = 0; rows <= 70; ++rows) check_updates(kernels, rows, 1, scaled, weight_decay);
        for (const int64_t stride : {8, 16, 48, 80}) check_updates(kernels, 7, stride, scaled, weight_decay);
      }
    }
  });
}

TEMPLATE_TEST_CASE("passes at observed entries agree with plain loops", "[descent]", float, double) {
  const Pattern few = random_pattern(40, 50, 300, 1, 1), many = random_pattern(1500, 1300, 40000, 2, 8);
  on_every_instruction_set([&] {
    for (const bool weighted : {false, true}) {
      for (const int64_t h : sizes) check_pass<TestType>(few, h, weighted, true);
      check_pass<TestType>(many, 70, weighted, false);
      check_formed_pass<TestType>(few, weighted);
      check_formed_pass<TestType>(full_pattern(300, 290), weighted);
    }
  });
}
