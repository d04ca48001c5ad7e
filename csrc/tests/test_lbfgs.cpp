// The passes of preconditioned L-BFGS against plain loops, and its runs: in pieces and for any number of
// threads.
#include <catch2/catch.hpp>
#include <cmath>

#include "../kernels/cpu/descent.h"
#include "engine_problems.h"

using namespace dmf;
using namespace dmf::test;

namespace {

// Rows of a parameter, all numbers in double; numbers past the last column of a row are zero, as in the engine.
struct PlainRows {
  int64_t rows, columns, stride;
  Numbers x, g, u, v, scale, curvature, decay, decay_before, column_curvature;

  PlainRows(int64_t row_count, int64_t column_count, int64_t row_stride)
      : rows(row_count),
        columns(column_count),
        stride(row_stride),
        scale(row_count),
        curvature(row_count),
        decay(row_stride, 1.0),
        decay_before(row_stride, 1.0),
        column_curvature(row_stride, 0.0) {
    unsigned seed = 1;
    for (Numbers* numbers : {&x, &g, &u, &v}) {
      *numbers = draw(rows * stride, seed++);
      for (int64_t k = 0; k < rows * stride; ++k) {
        if (k % stride >= columns) (*numbers)[k] = 0;
      }
    }
    for (int64_t row = 0; row < rows; ++row) {
      scale[row] = row % 2 == 0 ? 0.5 : 2;
      curvature[row] = 0.25 * static_cast<double>(row % 5);
    }
    for (int64_t column = 0; column < columns; ++column) {
      decay[column] = 0.5 + 0.125 * static_cast<double>(column % 3);
      decay_before[column] = 0.25 + 0.125 * static_cast<double>(column % 4);
      column_curvature[column] = 0.5 * static_cast<double>(column % 7);
    }
  }
};

template <class T>
void check_passes(const StepKernels<T>& kernels, int64_t rows, int64_t columns, bool plain) {
  INFO(rows << " x " << columns << ", without scales " << plain);
  PlainRows given(rows, columns, columns == 1 ? 1 : row_stride<T>(columns));
  if (plain) {
    given.scale.assign(rows, 1.0);
    given.curvature.assign(rows, 1.0);
  }
  SecantSums sums;
  Numbers squares(given.stride, 0.0), curvatures(given.stride, 0.0), x = given.x, u = given.u, v = given.v;
  for (int64_t k = 0; k < rows * given.stride; ++k) {
    const int64_t row = k / given.stride, column = k % given.stride;
    const double theta = x[k] / given.scale[row], gradient = given.scale[row] * given.g[k];
    const double d = gradient + given.decay[column] * theta;
    const double y = d - v[k] - given.decay_before[column] * (theta - u[k]);
    const double p = given.curvature[row] * given.column_curvature[column] + given.decay[column];
    sums += {u[k] * d, u[k] * y, y * y / p, y * d / p, d * d / p, u[k] * u[k] * p};
    squares[column] += theta * theta;
    curvatures[column] += given.curvature[row] * theta * theta;
    const double step = 0.5 * (0.25 * u[k] + (2 * y - d) / p);
    x[k] += given.scale[row] * step;
    u[k] = step;
    v[k] = gradient;
  }
  std::vector<T> own_x = narrow<T>(given.x), own_u = narrow<T>(given.u), own_v = narrow<T>(given.v);
  const std::vector<T> g = narrow<T>(given.g), scale = narrow<T>(given.scale),
                       curvature = narrow<T>(given.curvature), decay = narrow<T>(given.decay),
                       before = narrow<T>(given.decay_before), of_columns = narrow<T>(given.column_curvature);
  const ParameterRows<T> own{own_x.data(),
                             g.data(),
                             own_u.data(),
                             own_v.data(),
                             plain ? nullptr : scale.data(),
                             0,
                             rows,
                             given.stride,
                             plain ? nullptr : curvature.data()};
  const ColumnFacts<T> facts{decay.data(), before.data(), of_columns.data()};
  const double tolerance = sizeof(T) == 8 ? 1e-13 : 1e-5;
  const auto near = [tolerance](const auto& actual, const Numbers& expected) {
    return close(Numbers(actual.begin(), actual.end()), expected, tolerance);
  };

  Numbers own_squares(given.stride, 0.0), own_curvatures(given.stride, 0.0);
  kernels.column_sums(own, own_squares.data(), own_curvatures.data());
  CHECK(near(own_squares, squares));
  CHECK(near(own_curvatures, curvatures));
  const SecantSums found = kernels.secant(own, facts);
  CHECK(
      near(Numbers{found.step_gradient, found.step_turn, found.turn_turn, found.turn_gradient, found.gradient},
           {sums.step_gradient, sums.step_turn, sums.turn_turn, sums.turn_gradient, sums.gradient}));
  kernels.advance(own, facts, {T(2), T(0.25), T(0.5)});
  CHECK(near(own_x, x));
  CHECK(near(own_u, u));
  CHECK(near(own_v, v));
  kernels.shorten(own, T(0.25));
  for (int64_t k = 0; k < rows * given.stride; ++k) {
    x[k] -= 0.75 * given.scale[k / given.stride] * u[k];
    u[k] *= 0.25;
  }
  CHECK(near(own_x, x));
  CHECK(near(own_u, u));
}

class NoBlas final : public Blas {
  void multiply(Dtype, const BlasOperand&, const BlasOperand&, const BlasOperand&) override {
    FAIL("two factors have no product to form");
  }
};

template <class T>
struct LbfgsRun {
  const DescentProblem& problem;
  const DescentProgram program;
  const Entries<T> entries;
  NoBlas blas;
  ThreadPool parallel;
  std::vector<std::vector<T>> scales, curvatures;
  Descent<T> descent;

  LbfgsRun(const DescentProblem& p, int threads)
      : problem(p),
        program(program_of(p, 1)),
        entries(p.pattern, p.values, p.weights, p.is_weighted),
        parallel(threads),
        descent(program, {entries.view}, {p.scale, p.rule, p.mean, true}, facts(p.pattern), blas, parallel) {
    const std::vector<PlainMatrix> parameters = p.parameters();
    for (int j = 0; j < descent.parameters(); ++j) {
      const PlainMatrix kept = j == 0 ? parameters[j].transposed() : parameters[j];
      descent.write(Part::parameter, j, narrow<T>(kept.numbers).data());
    }
  }

  // The scale and curvature of each row, by its number.
  std::vector<RowFacts<T>> facts(const Pattern& pattern) {
    std::vector<RowFacts<T>> result;
    for (const int64_t rows : {pattern.columns, pattern.rows, pattern.rows, pattern.columns}) {
      scales.emplace_back();
      curvatures.emplace_back();
      for (int64_t row = 0; row < rows; ++row) {
        scales.back().push_back(T(0.5) + T(0.125) * static_cast<T>(row % 4));
        curvatures.back().push_back(T(0.01) * static_cast<T>(row % 3 + 1));
      }
    }
    for (size_t j = 0; j < scales.size(); ++j) result.push_back({scales[j].data(), curvatures[j].data()});
    return result;
  }

  dmf::Outcome to(int64_t until, double most_seconds = 1e9) { return descent.run(until, {}, most_seconds); }

  void resume_from(const LbfgsRun& other) { test::resume_from(descent, other.descent, problem.rule.moments()); }
  bool operator==(const LbfgsRun& other) const {
    return are_at_the_same_point(descent, other.descent, problem.rule.moments());
  }
};

DescentProblem problem_of(const Pattern& pattern, int64_t h) {
  DescentProblem problem(pattern, {pattern.columns, h, pattern.rows}, true, 5);
  problem.rule.kind = RuleKind::preconditioned_lbfgs;
  problem.rule.lr = 1;
  problem.rule.weight_decay = 0.02;
  problem.rule.bias_weight_decay = 0.05;
  problem.rule.decay_rate = 0.9;
  problem.rule.concavity = 0.25;
  problem.rule.knee = 2;
  problem.biases = {drawn(pattern.rows, 1, 11), drawn(pattern.columns, 1, 12)};
  problem.mean = 0.75;
  return problem;
}

template <class T>
void check_pieces(const DescentProblem& problem, int64_t steps, const std::vector<int>& thread_counts,
                  const std::vector<int64_t>& stops) {
  LbfgsRun<T> whole(problem, 1);
  whole.to(0);
  const double before = whole.descent.loss();
  CHECK(whole.to(steps) == dmf::Outcome::reached);
  CHECK(whole.descent.loss() < 0.5 * before);
  for (const int threads : thread_counts) {
    for (const int64_t stop : stops) {
      LbfgsRun<T> first(problem, threads), second(problem, threads);
      CHECK(first.to(stop) == dmf::Outcome::reached);
      second.resume_from(first);
      for (LbfgsRun<T>* run : {&first, &second}) {
        CHECK(run->to(steps) == dmf::Outcome::reached);
        CHECK(*run == whole);
      }
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("passes of L-BFGS agree with plain loops", "[lbfgs]", float, double) {
  on_every_instruction_set([] {
    const StepKernels<TestType>& kernels = active_step_kernels<TestType>();
    for (const bool plain : {false, true}) {
      for (const int64_t columns : sizes) {
        for (const int64_t rows : {0, 1, 7}) check_passes(kernels, rows, columns, plain);
      }
    }
  });
}

TEMPLATE_TEST_CASE("runs of L-BFGS are bitwise the same in pieces and for any threads", "[lbfgs]", float,
                   double) {
  on_every_instruction_set(
      [] { check_pieces<TestType>(problem_of(random_pattern(40, 50, 300, 1, 1), 17), 9, {1, 2, 3}, {1, 4}); });
  // Large enough for the pass by tiles and for threads in the update.
  check_pieces<TestType>(problem_of(random_pattern(250, 260, 10000, 1, 2), 150), 6, {2, 3}, {4});
}
