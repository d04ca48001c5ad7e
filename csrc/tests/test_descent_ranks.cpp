// Runs whose rows are shared: threads act as ranks, which must compute what a single process computes.
#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <stdexcept>

#include "../kernels/cpu/descent.h"
#include "engine_problems.h"
#include "rank_threads.h"

using namespace dmf;
using namespace dmf::test;

namespace {

// `count` blocks of `rows` rows, from block `first` on.
struct Share {
  int64_t rows, first, count;

  PlainMatrix of(const PlainMatrix& whole) const {
    PlainMatrix part(rows * count, whole.columns);
    const auto begin = whole.numbers.begin() + rows * first * whole.columns;
    part.numbers.assign(begin, begin + part.rows * part.columns);
    return part;
  }
};

// The entries of one block.
template <class T>
std::unique_ptr<Entries<T>> entries_of(const DescentProblem& problem, int64_t rows, int64_t block) {
  Pattern pattern{rows, problem.pattern.columns, {}, {}};
  Numbers values, weights;
  for (int64_t k = 0; k < problem.pattern.nnz(); ++k) {
    const int64_t row = problem.pattern.row_of[k] - block * rows;
    if (row < 0 || row >= rows) continue;
    pattern.row_of.push_back(row);
    pattern.column_of.push_back(problem.pattern.column_of[k]);
    values.push_back(problem.values[k]);
    weights.push_back(problem.weights[k]);
  }
  return std::make_unique<Entries<T>>(pattern, values, weights, problem.is_weighted);
}

template <class T>
struct Blocks {
  std::vector<std::unique_ptr<Entries<T>>> entries;
  std::vector<ObservedEntries<T>> views;

  Blocks(const DescentProblem& problem, const Share& share) {
    for (int64_t block = share.first; block < share.first + share.count; ++block) {
      entries.push_back(entries_of<T>(problem, share.rows, block));
      views.push_back(entries.back()->view);
    }
  }
};

// The run of one rank with everything that it needs. The last factor and the row biases are its share.
template <class T>
struct RankRun {
  const DescentProblem problem;
  const int split;
  const Blocks<T> train;
  PlainBlas blas;
  ThreadPool parallel;
  std::vector<std::vector<T>> scales, curvatures;
  Descent<T> descent;

  RankRun(const DescentProblem& whole, int split_at, const Share& share, int threads, Ranks* ranks)
      : problem(part_of_rank(whole, share)),
        split(split_at),
        train(whole, share),
        parallel(threads),
        descent(program_of(problem, split), train.views,
                {whole.scale, whole.rule, whole.mean, !whole.biases.empty()}, facts(whole, share), blas,
                parallel, ranks) {
    const std::vector<PlainMatrix> parameters = problem.parameters();
    for (int j = 0; j < descent.parameters(); ++j) {
      const PlainMatrix kept = as_kept(parameters[j], j);
      descent.write(Part::parameter, j, narrow<T>(kept.numbers).data());
    }
  }

  bool is_shared(int j) const { return j == problem.depth() - 1 || j == problem.depth(); }

 private:
  static DescentProblem part_of_rank(const DescentProblem& whole, const Share& share) {
    DescentProblem part = whole;
    part.factors.back() = share.of(whole.factors.back());
    if (!whole.biases.empty()) part.biases[0] = share.of(whole.biases[0]);
    return part;
  }

  PlainMatrix as_kept(const PlainMatrix& parameter, int j) const {
    return j < split ? parameter.transposed() : parameter;
  }

  // For every row of a parameter as stored: its scale and, for L-BFGS, its curvature.
  std::vector<RowFacts<T>> facts(const DescentProblem& whole, const Share& share) {
    const std::vector<PlainMatrix> parameters = whole.parameters();
    std::vector<RowFacts<T>> result;
    for (int j = 0; j < static_cast<int>(parameters.size()); ++j) {
      const int64_t all = as_kept(parameters[j], j).rows;
      const int64_t first = is_shared(j) ? share.first * share.rows : 0,
                    count = is_shared(j) ? share.count * share.rows : all;
      scales.emplace_back();
      curvatures.emplace_back();
      for (int64_t row = first; row < first + count; ++row) {
        if (!whole.scales.empty()) {
          scales.back().push_back(static_cast<T>(as_kept(whole.scales[j], j).at(row, 0)));
        }
        curvatures.back().push_back(T(0.01) * static_cast<T>(row % 3 + 1));
      }
    }
    for (size_t j = 0; j < scales.size(); ++j) {
      result.push_back({scales[j].empty() ? nullptr : scales[j].data(), curvatures[j].data()});
    }
    return result;
  }
};

// The outcome of a run, with the shares of the ranks concatenated.
struct Result {
  dmf::Outcome outcome{};
  int64_t step = 0;
  double loss = 0, gradient_norm = 0, error = 0;
  std::vector<double> scalars;
  std::vector<Numbers> numbers;  // of every parameter, followed by its moments

  bool operator==(const Result&) const = default;
};

template <class T>
Result result_of(RankRun<T>& run, dmf::Outcome outcome, const Blocks<T>& others) {
  Descent<T>& descent = run.descent;
  Result result{outcome, descent.step(), descent.loss(), descent.gradient_norm(), 0, descent.scalars(), {}};
  result.error = descent.mean_squared_error(others.views);
  for (int moment = 0; moment <= run.problem.rule.moments(); ++moment) {
    for (int j = 0; j < descent.parameters(); ++j) {
      const std::vector<T> numbers = test::part_of(descent, static_cast<Part>(moment), j);
      result.numbers.emplace_back(numbers.begin(), numbers.end());
    }
  }
  return result;
}

// Appends the share of the next rank; false if the ranks disagree about the rest.
bool append(Result& whole, const Result& next, int parameters, int depth) {
  Result mine = whole;
  mine.numbers = next.numbers;
  bool agree = mine == next;
  for (int place = 0; place < static_cast<int>(next.numbers.size()); ++place) {
    Numbers& numbers = whole.numbers[place];
    const int j = place % parameters;
    if (j == depth - 1 || j == depth) {
      numbers.insert(numbers.end(), next.numbers[place].begin(), next.numbers[place].end());
    } else {
      agree = agree && numbers == next.numbers[place];
    }
  }
  return agree;
}

struct Way {
  int ranks;
  int64_t blocks;  // of all ranks
  int threads = 1;
  bool alone = false;  // without Ranks
};

DescentProblem others_of(const DescentProblem& problem) {
  DescentProblem others = problem;
  others.pattern = random_pattern(problem.pattern.rows, problem.pattern.columns, 90, 1, 99);
  others.values.resize(90, 0.5);
  others.weights.resize(90, 1);
  return others;
}

template <class T>
Result run_in(const Way& way, const DescentProblem& problem, int split, int64_t steps,
              double seconds_of_last = 1e9) {
  const DescentProblem others = others_of(problem);
  std::vector<Result> results(way.ranks);
  on_ranks(way.ranks, [&](int rank, Ranks& ranks) {
    const int64_t blocks = way.blocks / way.ranks;
    const Share share{problem.pattern.rows / way.blocks, rank * blocks, blocks};
    RankRun<T> run(problem, split, share, way.threads, way.alone ? nullptr : &ranks);
    const double most_seconds = rank == way.ranks - 1 ? seconds_of_last : 1e9;
    const dmf::Outcome outcome = run.descent.run(steps, problem.stop, most_seconds);
    results[rank] = result_of(run, outcome, Blocks<T>(others, share));
  });
  Result whole = results[0];
  const int parameters = static_cast<int>(problem.parameters().size());
  for (int rank = 1; rank < way.ranks; ++rank) {
    CHECK(append(whole, results[rank], parameters, problem.depth()));
  }
  return whole;
}

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

// All depths and rules, without biases and with every option.
std::vector<Case> cases(int64_t rows) {
  std::vector<Case> found;
  const Pattern pattern = random_pattern(rows, 30, 9 * rows, 1, 3);
  const std::vector<std::vector<int64_t>> widths{
      {30, rows}, {30, 7, rows}, {30, 18, 7, rows}, {30, 18, 7, 20, rows}};
  for (const std::vector<int64_t>& of_depth : widths) {
    const int depth = static_cast<int>(of_depth.size()) - 1;
    for (int split = 0; split < depth; ++split) {
      for (const Rule& rule : rules()) {
        for (const bool rated : {false, true}) {
          DescentProblem problem(pattern, of_depth, rated, 7);
          problem.rule = rule;
          if (rated) rate(problem);
          if (rated && rule.kind != RuleKind::adam) scale(problem, split);
          found.push_back({problem, split});
        }
      }
    }
  }
  DescentProblem problem(pattern, widths[1], true, 7);
  rate(problem);
  problem.rule = {RuleKind::preconditioned_lbfgs, 1, 0.02};
  problem.rule.bias_weight_decay = 0.05;
  problem.rule.decay_rate = 0.9;
  problem.rule.concavity = 0.25;
  problem.rule.knee = 2;
  scale(problem, 1);
  found.push_back({problem, 1});
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
  const Case last = cases(48).back();
  on_every_instruction_set([&] { check_blocks<TestType>(last, 4, 5, {1, 2}); });
  check_blocks<TestType>(last, 6, 5);  // three blocks each for two
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

TEST_CASE("all ranks pause at the step at which one of them has no more time", "[ranks]") {
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
  Case one = cases(40)[20];
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
  const std::vector<Case> all = cases(40);
  for (const Case* one : {&all[20], &all.back()}) {
    Failing counting(1000);
    const auto run = [&](Ranks& ranks) {
      RankRun<double>(one->problem, one->split, {20, 0, 2}, 2, &ranks).descent.run(3, one->problem.stop, 1e9);
    };
    run(counting);
    for (int calls = 0; calls < 1000 - counting.calls_left; ++calls) {
      Failing failing(calls);
      CHECK_THROWS_AS(run(failing), std::domain_error);
    }
  }
}
