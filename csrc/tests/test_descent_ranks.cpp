// Runs whose rows are shared: threads act as ranks, which must compute what a single process computes.
#include <catch2/catch.hpp>
#include <cmath>
#include <stdexcept>

#include "rank_runs.h"

using namespace dmf;
using namespace dmf::test;

namespace {

void check_close(const Result& result, const Result& expected) {
  // Sums in another order; the adaptive step divides differences of them. Random problems depend on the
  // library.
  constexpr double tolerance = 1e-11;
  CHECK(result.outcome == expected.outcome);
  CHECK(result.step == expected.step);
  CHECK(result.loss == Approx(expected.loss).epsilon(tolerance));
  CHECK(result.gradient_norm == Approx(expected.gradient_norm).epsilon(tolerance));
  CHECK(result.error == Approx(expected.error).epsilon(tolerance));
  for (size_t place = 0; place < expected.numbers.size(); ++place) {
    CHECK(close(result.numbers[place], expected.numbers[place], tolerance));
  }
}

struct Case {
  DescentProblem problem;
  int split;
};

std::vector<int64_t> widths_of(int depth, int64_t rows) {
  std::vector<int64_t> widths{30, 18, 7, 20};
  if (depth == 2) return {30, 7, rows};
  widths.resize(depth);
  widths.push_back(rows);
  return widths;
}

Case case_of(int depth, int64_t rows, int split, const Rule& rule, bool with_options) {
  Case one{DescentProblem(random_pattern(rows, 30, 9 * rows, 1, 3), widths_of(depth, rows), with_options, 7),
           split};
  one.problem.rule = rule;
  if (with_options) rate(one.problem);
  if (with_options && rule.kind != RuleKind::adam) scale(one.problem, split);
  return one;
}

Case lbfgs_case(int64_t rows) {
  Rule rule{RuleKind::preconditioned_lbfgs, 1, 0.02};
  rule.bias_weight_decay = 0.05;
  rule.decay_rate = 0.9;
  rule.concavity = 0.25;
  rule.knee = 2;
  Case one = case_of(2, rows, 1, rule, true);
  one.problem.rule = rule;  // no clipping
  return one;
}

// All rules at depth 2 and two at each other depth and split, without and with all options; L-BFGS.
std::vector<Case> cases(int64_t rows) {
  std::vector<Case> found;
  for (int depth = 1; depth <= 4; ++depth) {
    for (int split = 0; split < depth; ++split) {
      const int count = static_cast<int>(rules().size());
      for (int k = 0; k < (depth == 2 ? count : 2); ++k) {
        for (const bool with_options : {false, true}) {
          found.push_back(
              case_of(depth, rows, split, rules()[(2 * (depth + split) + k) % count], with_options));
        }
      }
    }
  }
  found.push_back(lbfgs_case(rows));
  return found;
}

// Large enough for the pass by tiles, for products by BLAS and for threads in the update.
std::vector<Case> large_cases() {
  std::vector<Case> found;
  const auto add = [&](const std::vector<int64_t>& widths, int64_t nnz, int split, const Rule& rule) {
    const Pattern pattern = random_pattern(widths.back(), widths.front(), nnz, 1, 2);
    DescentProblem problem(pattern, widths, true, 6);
    problem.rule = rule;
    rate(problem);
    if (rule.kind == RuleKind::preconditioned_lbfgs) problem.rule.gradient_clip = 0;
    scale(problem, split);
    found.push_back({problem, split});
  };
  const Rule adaptive{RuleKind::adaptive_gradient_descent, 1, 1e-3};
  add({160, 310, 120}, 10000, 1, {RuleKind::preconditioned_lbfgs, 1, 0.02});
  add({60, 6, 520, 240}, 3000, 1, adaptive);
  return found;
}

template <class T>
void check_blocks(const Case& one, int64_t blocks, int64_t steps, const std::vector<int>& thread_counts = {1}) {
  const Result whole = run_in<T>({1, blocks, 1, true}, one.problem, one.split, steps);
  for (const int ranks : {1, 2, 4}) {
    if (blocks % ranks != 0) continue;
    for (const int threads : thread_counts) {
      INFO(ranks << " ranks of " << threads << " threads");
      CHECK(run_in<T>({ranks, blocks, threads}, one.problem, one.split, steps) == whole);
    }
  }
}

}  // namespace

TEST_CASE("ranks that share the rows make the steps of one process", "[ranks]") {
  for (const Case& one : cases(40)) {
    INFO("depth " << one.problem.depth() << ", split " << one.split << ", rule "
                  << static_cast<int>(one.problem.rule.kind) << ", biases " << !one.problem.biases.empty());
    const Result alone = run_in<double>({1, 1, 1, true}, one.problem, one.split, 8);
    for (const int ranks : {1, 2, 4}) {
      INFO(ranks << " ranks");
      check_close(run_in<double>({ranks, ranks}, one.problem, one.split, 8), alone);
    }
  }
}

TEMPLATE_TEST_CASE("runs in blocks are bitwise the same for any ranks and threads", "[ranks]", float, double) {
  for (const Case& one : cases(48)) {
    const int depth = one.problem.depth();
    if (one.problem.biases.empty() || one.split != (depth == 3 ? 0 : depth / 2)) continue;
    INFO("depth " << one.problem.depth() << ", split " << one.split << ", rule "
                  << static_cast<int>(one.problem.rule.kind) << ", biases " << !one.problem.biases.empty());
    check_blocks<TestType>(one, 8, 5);
  }
  const Case lbfgs = lbfgs_case(48);
  on_every_instruction_set([&] { check_blocks<TestType>(lbfgs, 4, 5, {1, 2}); });
  check_blocks<TestType>(lbfgs, 6, 5);  // three blocks each for two
  for (const Case& one : large_cases()) check_blocks<TestType>(one, 2, 2, {1, 2});
}

TEST_CASE("runs in blocks make the steps of one block", "[ranks]") {
  for (const Case& one : cases(40)) {
    if (one.problem.depth() == 4) continue;
    const Result whole = run_in<double>({1, 1, 1, true}, one.problem, one.split, 8);
    for (const int64_t blocks : {2, 5}) {
      check_close(run_in<double>({1, blocks, 1, true}, one.problem, one.split, 8), whole);
    }
  }
  for (const Case& one : large_cases()) {
    const Result whole = run_in<double>({1, 1, 2, true}, one.problem, one.split, 2);
    check_close(run_in<double>({1, 2, 2, true}, one.problem, one.split, 2), whole);
  }
}

TEMPLATE_TEST_CASE("rows, blocks and ranks may have no entries", "[ranks]", float, double) {
  for (const int split : {0, 1}) {
    Pattern pattern = random_pattern(5, 30, 60, 1, 3);  // all in the first of eight blocks
    pattern.rows = 40;
    Case one{DescentProblem(pattern, {30, 7, 40}, true, 7), split};
    rate(one.problem);
    one.problem.rule = rules()[2];
    check_blocks<TestType>(one, 8, 5);
    const Result whole = run_in<TestType>({4, 8}, one.problem, split, 5);
    CHECK(whole.step == 5);
    CHECK(std::isfinite(whole.loss));
  }
}

TEST_CASE("entries of no weight on any rank are refused", "[ranks]") {
  DescentProblem problem({40, 30, {}, {}}, {30, 7, 40}, false, 7);
  problem.rule = rules()[0];
  problem.scale = 1;
  for (const int ranks : {1, 2}) {
    CHECK_THROWS_AS(run_in<double>({ranks, 2}, problem, 1, 3), std::invalid_argument);
  }
}

TEST_CASE("all ranks pause at the step at which one of them runs out of time", "[ranks]") {
  for (const Case& one : cases(40)) {
    if (one.problem.depth() != 2) continue;
    const Result whole = run_in<double>({4, 4}, one.problem, one.split, 6);
    std::vector<int64_t> steps(4, 0);
    std::vector<double> losses(4);
    on_ranks(4, [&](int rank, Ranks& ranks) {
      RankRun<double> run(one.problem, one.split, {10, rank, 1}, 1, &ranks);
      int pauses = 0;
      while (run.descent.run(6, {}, rank == 2 ? -1 : 1e9) == dmf::Outcome::paused) {
        if (run.descent.step() != ++pauses) return;
      }
      steps[rank] = run.descent.step();
      losses[rank] = run.descent.loss();
    });
    CHECK(steps == std::vector<int64_t>(4, 6));
    CHECK(losses == std::vector<double>(4, whole.loss));
  }
}

TEST_CASE("ranks stop together where a rule of all rows says so", "[ranks]") {
  Case one = case_of(2, 40, 1, rules()[0], false);
  const Result there = run_in<double>({1, 1, 1, true}, one.problem, one.split, 4);
  one.problem.stop.train_loss = there.loss * (1 + 1e-9);
  const Result stopped = run_in<double>({4, 4}, one.problem, one.split, 100);
  CHECK(stopped.outcome == dmf::Outcome::train_loss_threshold);
  CHECK(stopped.step == 4);
  one.problem.rule = {RuleKind::gradient_descent, 1e60};
  std::vector<dmf::Outcome> outcomes(4);
  std::vector<int64_t> steps(4);
  on_ranks(4, [&](int rank, Ranks& ranks) {
    RankRun<double> run(one.problem, one.split, {10, rank, 1}, 1, &ranks);
    outcomes[rank] = run.descent.run(1000, {}, 1e9);
    steps[rank] = run.descent.step();
  });
  CHECK(outcomes == std::vector<dmf::Outcome>(4, dmf::Outcome::diverged));
  CHECK(steps == std::vector<int64_t>(4, steps[0]));
}

TEST_CASE("what a sum over the ranks throws leaves the run", "[ranks]") {
  struct Failing final : Ranks {
    int calls_left;
    explicit Failing(int calls) : calls_left(calls) {}
    void sum(const std::vector<RankVector>&) override {
      if (calls_left-- == 0) throw std::domain_error("no network");
    }
  };
  for (const Case& one : {case_of(2, 40, 1, rules()[0], false), lbfgs_case(40)}) {
    Failing counting(1000);
    const auto run = [&](Ranks& ranks) {
      RankRun<double>(one.problem, one.split, {20, 0, 2}, 2, &ranks).descent.run(3, one.problem.stop, 1e9);
    };
    run(counting);
    for (int calls = 0; calls < 1000 - counting.calls_left; ++calls) {
      Failing failing(calls);
      CHECK_THROWS_AS(run(failing), std::domain_error);
    }
  }
}
