// Chains of products and whole runs of the native engine against plain loops in double, on every instruction
// set.
#include <catch2/catch.hpp>
#include <cmath>
#include <memory>

#include "../kernels/cpu/chain.h"
#include "../kernels/cpu/descent.h"
#include "engine_problems.h"

using namespace dmf;
using namespace dmf::test;

namespace {

template <class T>
void check_chain(const DescentProblem& problem, int split, int calls) {
  INFO("split " << split);
  const DescentProgram program = program_of(problem, split);
  PlainBlas blas;
  ThreadPool parallel(2);
  Chain<T> chain(program, blas, parallel);
  std::vector<PlainMatrix> values, gradients;
  for (const Matrix& matrix : program.matrices) {
    values.push_back(drawn(matrix.rows, matrix.columns, 1 + static_cast<unsigned>(values.size())));
    gradients.push_back(drawn(matrix.rows, matrix.columns, 50));
  }
  for (int factor = 0; factor < program.factors; ++factor) copy(values[factor], chain.value(factor));
  for (const int end : {program.a, program.b_transposed}) {
    if (end != no_matrix) copy(gradients[end], chain.gradient(end));
  }
  for (const Product& product : program.products) {
    values[product.result] = values[product.left] * values[product.right];
  }
  for (auto product = program.products.rbegin(); product != program.products.rend(); ++product) {
    gradients[product->left] = gradients[product->result] * values[product->right].transposed();
    gradients[product->right] = values[product->left].transposed() * gradients[product->result];
  }
  chain.forward();
  chain.backward_rows(0, 0);
  chain.backward();
  CHECK(blas.calls == calls);
  const double tolerance = sizeof(T) == 8 ? 1e-13 : 1e-5;
  for (size_t matrix = 0; matrix < values.size(); ++matrix) {
    CHECK(close(numbers_of(chain.value(static_cast<int>(matrix))), values[matrix].numbers, tolerance));
    CHECK(close(numbers_of(chain.gradient(static_cast<int>(matrix))), gradients[matrix].numbers, tolerance));
  }
}

// A run with everything that it needs.
template <class T>
struct Run {
  const DescentProblem& problem;
  const int split;
  const DescentProgram program;
  const Entries<T> entries;
  PlainBlas blas;
  ThreadPool parallel;
  Descent<T> descent;

  Run(const DescentProblem& p, int split_at, int threads)
      : problem(p),
        split(split_at),
        program(program_of(p, split)),
        entries(p.pattern, p.values, p.weights, p.is_weighted),
        parallel(threads),
        descent(program, {entries.view}, {p.scale, p.rule, p.mean, !p.biases.empty()},
                facts(scales(p, split_at)), blas, parallel) {
    const std::vector<PlainMatrix> parameters = p.parameters();
    for (int j = 0; j < descent.parameters(); ++j) {
      descent.write(Part::parameter, j, narrow<T>(as_stored(parameters[j], j).numbers).data());
    }
  }

  PlainMatrix as_stored(const PlainMatrix& parameter, int j) const {
    return j < split ? parameter.transposed() : parameter;
  }
  dmf::Outcome to(int64_t until, double most_seconds = 1e9) {
    return descent.run(until, problem.stop, most_seconds);
  }
  void resume_from(const Run& other) { test::resume_from(descent, other.descent, problem.rule.moments()); }
  bool operator==(const Run& other) const {
    return are_at_the_same_point(descent, other.descent, problem.rule.moments());
  }

 private:
  // One number per row of each parameter as stored.
  static std::vector<std::vector<T>> scales(const DescentProblem& p, int split) {
    std::vector<std::vector<T>> result;
    for (size_t j = 0; j < p.parameters().size(); ++j) {
      result.emplace_back();
      if (p.scales.empty()) continue;
      const PlainMatrix kept = static_cast<int>(j) < split ? p.scales[j].transposed() : p.scales[j];
      for (int64_t row = 0; row < kept.rows; ++row) result.back().push_back(static_cast<T>(kept.at(row, 0)));
    }
    return result;
  }
  static std::vector<RowFacts<T>> facts(const std::vector<std::vector<T>>& scales) {
    std::vector<RowFacts<T>> result;
    for (const std::vector<T>& scale : scales) result.push_back({scale.empty() ? nullptr : scale.data()});
    return result;
  }
};

// One run, runs in pieces and runs with pauses are bit-identical, for any number of threads.
template <class T>
void check_pieces(const DescentProblem& problem, int split, int64_t steps,
                  const std::vector<int>& thread_counts) {
  Run<T> whole(problem, split, 1);
  CHECK(whole.to(steps) == dmf::Outcome::reached);
  CHECK(whole.descent.step() == steps);
  for (const int threads : thread_counts) {
    Run<T> first(problem, split, threads), second(problem, split, threads), paused(problem, split, threads);
    CHECK(first.to(steps / 3) == dmf::Outcome::reached);
    second.resume_from(first);
    for (Run<T>* run : {&first, &second}) {
      CHECK(run->to(steps) == dmf::Outcome::reached);
      CHECK(*run == whole);
    }
    for (int64_t step = 1; step < steps; ++step) CHECK(paused.to(steps, -1) == dmf::Outcome::paused);
    CHECK(paused.to(steps, -1) == dmf::Outcome::reached);
    CHECK(paused == whole);
  }
}

template <class T>
void check_run(const DescentProblem& problem, int split, int64_t steps) {
  PlainDescent plain(problem);
  const dmf::Outcome expected = plain.descend_to(steps);
  const double tolerance = sizeof(T) == 8 ? 1e-10 : 1e-3;
  on_every_instruction_set([&] {
    Run<T> run(problem, split, 1);
    CHECK(run.to(steps) == expected);
    CHECK(run.descent.step() == plain.step);
    CHECK(run.descent.loss() == Approx(plain.loss).epsilon(tolerance));
    CHECK(run.descent.gradient_norm() == Approx(plain.gradient_norm).epsilon(tolerance));
    for (int j = 0; j < run.descent.parameters(); ++j) {
      const std::vector<T> numbers = part_of(run.descent, Part::parameter, j);
      CHECK(close(Numbers(numbers.begin(), numbers.end()), run.as_stored(plain.factors[j], j).numbers,
                  tolerance));
    }
  });
}

DescentProblem small_problem(const Rule& rule, bool weighted) {
  DescentProblem problem(random_pattern(40, 50, 300, 1, 1), {50, 17, 31, 40}, weighted, 5);
  problem.rule = rule;
  return problem;
}

// Large enough for the pass by tiles and for threads in the update.
DescentProblem large_problem() {
  return {random_pattern(250, 260, 10000, 1, 2), {260, 150, 250}, true, 6};
}

}  // namespace

TEMPLATE_TEST_CASE("products of a chain agree with plain loops", "[descent]", float, double) {
  const DescentProblem large(random_pattern(31, 200, 50, 1, 1), {200, 300, 20, 31}, false, 5);
  const DescentProblem in_rows(random_pattern(90, 300, 50, 1, 1), {300, 320, 90}, false, 5);
  const DescentProblem in_columns(random_pattern(90, 520, 50, 1, 1), {520, 64, 90}, false, 5);
  const DescentProblem small = small_problem({}, false);
  on_every_instruction_set([&] {
    for (const int split : {0, 1, 2}) check_chain<TestType>(small, split, 0);
    for (const int split : {0, 1, 2}) {
      check_chain<TestType>(large, split, split == 1 ? 0 : 3);  // products with W_1, forward and backward
    }
    check_chain<TestType>(in_rows, 0, 2 + 2 + 2);
    check_chain<TestType>(in_columns, 0, 3 + 1 + 3);
  });
}

TEMPLATE_TEST_CASE("runs agree with plain loops, in one or in pieces", "[descent]", float, double) {
  DescentProblem large = large_problem();
  for (const Rule& rule : rules()) {
    INFO("rule " << static_cast<int>(rule.kind) << ", momentum " << rule.momentum);
    for (const int split : {0, 1, 2}) {
      const DescentProblem problem = small_problem(rule, split == 1);
      check_run<TestType>(problem, split, 10);
      on_every_instruction_set([&] { check_pieces<TestType>(problem, split, 6, {1, 3}); });
    }
    // These divide by sums over all numbers and keep moments, which threads could change.
    if (rule.kind == RuleKind::gradient_descent) continue;
    large.rule = rule;
    check_pieces<TestType>(large, 1, 3, {2, 3});
  }
}

TEMPLATE_TEST_CASE("biases, a mean, clipping and scales agree with plain loops", "[descent]", float, double) {
  for (const Rule& rule : rules()) {
    INFO("rule " << static_cast<int>(rule.kind) << ", momentum " << rule.momentum);
    for (const int split : {0, 1}) {
      DescentProblem problem = small_problem(rule, split == 1);
      problem.mean = 0.5;  // without biases
      check_run<TestType>(problem, split, 6);
      rate(problem);
      check_run<TestType>(problem, split, 6);
      if (rule.kind == RuleKind::adam) continue;
      scale(problem, split);
      check_run<TestType>(problem, split, 6);
      check_pieces<TestType>(problem, split, 6, {1, 3});
    }
  }
  DescentProblem dense(random_pattern(100, 110, 10000, 1, 2), {110, 150, 100}, true,
                       6);  // for the pass by tiles
  DescentProblem large = large_problem();
  for (DescentProblem* problem : {&dense, &large}) {
    rate(*problem);
    problem->rule.kind = RuleKind::adaptive_gradient_descent;
    problem->rule.lr = 1;
    scale(*problem, 1);
  }
  check_run<TestType>(dense, 1, 4);
  check_pieces<TestType>(large, 1, 3, {2, 3});
}

TEMPLATE_TEST_CASE("errors of other entries are those of the present parameters", "[descent]", float, double) {
  for (const int split : {0, 1}) {
    for (const bool rated : {false, true}) {
      DescentProblem problem = small_problem(rules()[0], true);
      if (rated) rate(problem);
      DescentProblem other = problem;
      other.pattern = random_pattern(40, 50, 120, 1, 9);
      other.values.resize(120);
      other.weights.resize(120);
      const Entries<TestType> entries(other.pattern, other.values, other.weights, true);
      on_every_instruction_set([&] {
        Run<TestType> run(problem, split, 2);
        const double tolerance = sizeof(TestType) == 8 ? 1e-12 : 1e-4;
        for (const int64_t steps : {0, 3}) {
          PlainDescent plain(problem);
          if (steps > 0) {
            plain.descend_to(steps);
            run.to(steps);
          }
          DescentProblem now = other;
          now.factors.assign(plain.factors.begin(), plain.factors.begin() + problem.depth());
          now.biases.assign(plain.factors.begin() + problem.depth(), plain.factors.end());
          PlainDescent there(now);
          there.descend_to(0);
          CHECK(run.descent.mean_squared_error({entries.view}) == Approx(there.loss).epsilon(tolerance));
        }
      });
    }
  }
}

TEMPLATE_TEST_CASE("parameters that are kept stay as they were", "[descent]", float, double) {
  DescentProblem problem(random_pattern(450, 500, 4000, 1, 2), {500, 300, 450}, false, 6);
  problem.rule = rules()[0];
  rate(problem);
  Run<TestType> run(problem, 1, 2);
  CHECK_FALSE(run.descent.has(Part::kept, 0));
  for (const int64_t steps : {2, 4}) {
    run.to(steps);
    run.descent.keep();
    std::vector<std::vector<TestType>> before;
    for (int j = 0; j < run.descent.parameters(); ++j)
      before.push_back(part_of(run.descent, Part::parameter, j));
    run.to(steps + 1);
    for (int j = 0; j < run.descent.parameters(); ++j) {
      CHECK(part_of(run.descent, Part::kept, j) == before[j]);
      CHECK(part_of(run.descent, Part::parameter, j) != before[j]);
    }
  }
}

TEMPLATE_TEST_CASE("runs end where their rules say", "[descent]", float, double) {
  DescentProblem problem = small_problem(rules()[0], true);
  PlainDescent plain(problem);
  plain.descend_to(20);
  const double loss = plain.loss, norm = plain.gradient_norm;
  plain.descend_to(21);
  REQUIRE(plain.loss < loss);
  problem.stop.train_loss = (loss + plain.loss) / 2;
  check_run<TestType>(problem, 1, 30);
  problem.stop = {};
  problem.stop.gradient_norm = (norm + plain.gradient_norm) / 2;
  check_run<TestType>(problem, 1, 1000);
  problem.stop = {};
  for (Rule rule : rules()) {
    if (rule.kind == RuleKind::adam || rule.kind == RuleKind::adaptive_gradient_descent) continue;
    rule.lr = sizeof(TestType) == 8 ? 1e60 : 1e9;  // GroupRMSprop grows by about this much per step
    problem.rule = rule;
    on_every_instruction_set([&] {
      for (const int threads : {1, 3}) {
        Run<TestType> run(problem, 1, threads);
        CHECK(run.to(1000) == dmf::Outcome::diverged);
        CHECK(run.descent.step() < 1000);
        CHECK(run.to(1000) == dmf::Outcome::diverged);
      }
    });
  }
}
