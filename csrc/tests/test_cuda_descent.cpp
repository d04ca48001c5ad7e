// Whole runs of gradient descent by CUDA blocks, run on the CPU by the shim, against plain loops in double.
#include "simt_shim.h"

#include <catch2/catch.hpp>
#include <memory>

#include "../kernels/cuda/descent.cuh"
#include "../kernels/cuda/descent_plan.h"
#include "block_problems.h"

using namespace dmf;
using namespace dmf::test;
using dmf::cuda::BlockPlan;
using dmf::cuda::BlockTask;
using dmf::cuda::RunState;

namespace {

constexpr int64_t cramped = cuda::shared_front + 3000;

// The runs of a launch, each in its own memory.
template <class T>
class Launch {
 public:
  explicit Launch(int64_t shared_limit = roomy, int threads = 64)
      : shared_limit_(shared_limit), threads_(threads) {}

  void add(const DescentProblem& problem, int split) {
    const Pattern& pattern = problem.pattern;
    const cuda::RunOptions options{problem.rule, problem.stop, problem.scale, problem.weight_sum()};
    BlockPlan plan = cuda::plan_block_run(program_of(problem, split), options, pattern.nnz(),
                                          problem.is_weighted, sizeof(T), shared_limit_);
    CHECK(plan.shared_bytes <= shared_limit_);
    shared_bytes_ = std::max(shared_bytes_, plan.shared_bytes);
    // Unwritten memory is NaN, which makes any run that reads it diverge.
    std::vector<unsigned char>& memory = memories_.emplace_back(plan.memory_bytes, 0xff);
    for (int j = 0; j < plan.run.factors; ++j) {
      const cuda::BlockMatrix& matrix = plan.run.matrices[j];
      for (const int32_t home : {matrix.value.home, matrix.moments[0], matrix.moments[1]}) {
        if (home != cuda::no_home) std::memset(memory.data() + home, 0, matrix.value.bytes);
      }
    }
    const ObservedLines lines = sort_into_lines(pattern.row_of.data(), pattern.column_of.data(), pattern.nnz(),
                                                pattern.rows, pattern.columns);
    const std::vector<T> values = narrow<T>(problem.values), weights = narrow<T>(problem.weights);
    cuda::write_run(plan.run, lines, values.data(), problem.is_weighted ? weights.data() : nullptr,
                    memory.data());
    runs_.push_back(plan.run);
    states_.emplace_back();
    for (int j = 0; j < problem.depth(); ++j) {
      const PlainMatrix kept = j < split ? problem.factors[j].transposed() : problem.factors[j];
      for (int64_t row = 0; row < kept.rows; ++row) {
        for (int64_t column = 0; column < kept.columns; ++column) {
          number(runs_.size() - 1, j, row, column) = static_cast<T>(kept.at(row, column));
        }
      }
    }
    splits_.push_back(split);
  }

  // One launch that advances some of the runs, in this order, each to a step of its own.
  void descend(const std::vector<std::pair<size_t, int64_t>>& runs_and_steps) {
    std::vector<BlockTask> tasks;
    for (const auto& [run, until] : runs_and_steps) {
      tasks.push_back({memories_[run].data(), states_[run]});
      tasks.back().state.until = until;
    }
    cuda::launch(cuda::descend_block<T>, static_cast<int64_t>(tasks.size()), threads_, shared_bytes_, nullptr,
                 tasks.data());
    for (size_t k = 0; k < tasks.size(); ++k) states_[runs_and_steps[k].first] = tasks[k].state;
  }

  void descend(int64_t until) {
    std::vector<std::pair<size_t, int64_t>> all;
    for (size_t run = 0; run < runs_.size(); ++run) all.emplace_back(run, until);
    descend(all);
  }

  const RunState& state(size_t run = 0) const { return states_[run]; }
  dmf::Outcome outcome(size_t run = 0) const { return static_cast<dmf::Outcome>(states_[run].outcome); }

  // W_{j + 1} of a run.
  PlainMatrix factor(size_t run, int j) {
    const cuda::BlockMatrix& matrix = runs_[run].matrices[j];
    PlainMatrix kept(matrix.rows, matrix.columns);
    for (int64_t row = 0; row < kept.rows; ++row) {
      for (int64_t column = 0; column < kept.columns; ++column) {
        kept.at(row, column) = number(run, j, row, column);
      }
    }
    return j < splits_[run] ? kept.transposed() : kept;
  }

  // The complete state of a run, including the arrays that have homes in its memory.
  bool same(size_t run, const Launch& other, size_t other_run) const {
    const RunState &one = states_[run], &two = other.states_[other_run];
    if (one.step != two.step || one.loss != two.loss || one.gradient_norm != two.gradient_norm) return false;
    if (one.outcome != two.outcome || one.square_average != two.square_average) return false;
    const auto equal = [&](int32_t home, int32_t bytes) {
      return std::memcmp(memories_[run].data() + home, other.memories_[other_run].data() + home, bytes) == 0;
    };
    for (int j = 0; j < runs_[run].factors; ++j) {
      const cuda::BlockMatrix& matrix = runs_[run].matrices[j];
      if (!equal(matrix.value.home, matrix.value.bytes)) return false;
      for (const int32_t moment : matrix.moments) {
        if (moment != cuda::no_home && !equal(moment, matrix.value.bytes)) return false;
      }
    }
    return true;
  }

 private:
  T& number(size_t run, int j, int64_t row, int64_t column) {
    const cuda::BlockMatrix& matrix = runs_[run].matrices[j];
    T* home = reinterpret_cast<T*>(memories_[run].data() + matrix.value.home);
    return home[row * matrix.stride + column];
  }

  const int64_t shared_limit_;
  const int threads_;
  int64_t shared_bytes_ = 0;
  std::vector<cuda::BlockRun> runs_;
  std::vector<RunState> states_;
  std::vector<std::vector<unsigned char>> memories_;
  std::vector<int> splits_;
};

template <class T>
void check_against_plain_loops(const DescentProblem& problem, int split, int64_t steps, double tolerance,
                               int64_t shared_limit = roomy, int threads = 64) {
  INFO("depth " << problem.depth() << ", split " << split << ", " << sizeof(T) << " bytes, shared "
                << shared_limit);
  Launch<T> launch(shared_limit, threads);
  launch.add(problem, split);
  launch.descend(steps);
  PlainDescent plain(problem);
  CHECK(launch.outcome() == plain.descend_to(steps));
  CHECK(launch.state().step == plain.step);
  CHECK(launch.state().loss == Approx(plain.loss).epsilon(tolerance));
  CHECK(launch.state().gradient_norm == Approx(plain.gradient_norm).epsilon(tolerance));
  for (int j = 0; j < problem.depth(); ++j) {
    CHECK(close(launch.factor(0, j).numbers, plain.factors[j].numbers, tolerance));
  }
}

}  // namespace

TEST_CASE("CUDA descent: every depth and split agrees with plain loops") {
  const std::vector<int64_t> hidden{7, 5, 9, 6};
  for (int depth = 1; depth <= 5; ++depth) {
    const std::vector<int64_t> widths(hidden.begin(), hidden.begin() + depth - 1);
    const DescentProblem problem = problem_of(13, 11, 60, widths, gradient_descent(0.2), depth % 2 == 0);
    for (int split = 0; split < depth; ++split) {
      for (const int64_t limit : {roomy, cramped, cuda::shared_front}) {
        check_against_plain_loops<double>(problem, split, 6, 1e-11, limit);
      }
      check_against_plain_loops<float>(problem, split, 6, 1e-4);
    }
  }
}

TEST_CASE("CUDA descent: every shape agrees with plain loops") {
  const int64_t sizes[][3] = {{1, 1, 1},    {1, 9, 4},   {9, 1, 2},  {4, 4, 4},
                              {31, 20, 33}, {45, 8, 17}, {3, 50, 66}};
  for (const auto& [rows, columns, hidden] : sizes) {
    INFO(rows << " x " << columns << ", hidden " << hidden);
    const int64_t nnz = std::max<int64_t>(1, rows * columns / 3);
    const DescentProblem problem =
        problem_of(rows, columns, nnz, {hidden, hidden + 1, hidden}, gradient_descent(0.1));
    for (int split = 0; split < 4; ++split) {
      check_against_plain_loops<double>(problem, split, 3, 1e-11);
      check_against_plain_loops<float>(problem, split, 3, 1e-4, cramped);
    }
  }
}

TEST_CASE("CUDA descent: rows as long as a group of threads can hold, and too long ones") {
  for (const int64_t hidden : {64, 65, 127, 128}) {
    const DescentProblem problem = problem_of(6, 7, 30, {hidden}, gradient_descent(0.1));
    check_against_plain_loops<double>(problem, 1, 2, 1e-11);
    check_against_plain_loops<float>(problem, 1, 2, 1e-4);
  }
  check_against_plain_loops<float>(problem_of(6, 7, 30, {256}, gradient_descent(0.1)), 1, 2, 1e-4);
  Launch<double> launch;
  CHECK_THROWS_AS(launch.add(problem_of(6, 7, 30, {129}, gradient_descent(0.1)), 1), std::invalid_argument);
}

TEST_CASE("CUDA descent: lines that are full, and hundreds of entries long") {
  DescentProblem problem(full_pattern(5, 130), {130, 9, 5}, true, 3);
  problem.rule = gradient_descent(0.1);
  check_against_plain_loops<double>(problem, 1, 4, 1e-11);
  check_against_plain_loops<double>(problem, 0, 4, 1e-11);
  check_against_plain_loops<float>(problem, 1, 4, 1e-4, cramped, 256);
}

TEST_CASE("CUDA descent: the size that it is made for, by a whole block") {
  const DescentProblem problem = problem_of(100, 100, 2000, {100, 100, 100}, group_rmsprop(0.001));
  for (const int split : {0, 2}) {
    check_against_plain_loops<float>(problem, split, 2, 1e-4, roomy, cuda::descent_threads);
  }
}

TEST_CASE("CUDA descent: every rule agrees with its formula") {
  for (const Rule& rule :
       {gradient_descent(0.2, 0.9), gradient_descent(0.2, 0.5, 0.1), gradient_descent(0.2, 0, 0.1),
        group_rmsprop(0.02), group_rmsprop(0.02, 0.1), adam(0.02), adam(0.02, 0.1)}) {
    for (const int depth : {1, 3}) {
      std::vector<int64_t> hidden;
      if (depth == 3) hidden = {7, 6};
      const DescentProblem problem = problem_of(10, 14, 50, hidden, rule, true);
      for (const int64_t limit : {roomy, cramped}) {
        check_against_plain_loops<double>(problem, depth / 2, 7, 1e-10, limit);
      }
      check_against_plain_loops<float>(problem, 0, 7, 1e-3);
    }
  }
}

TEST_CASE("CUDA descent: a sum instead of a mean, and lines without entries") {
  DescentProblem problem(Pattern{9, 8, {0, 8, 4, 0}, {7, 0, 3, 1}}, {8, 5, 9}, true, 4);
  problem.scale = 1;
  problem.rule = gradient_descent(0.05);
  for (int split = 0; split < 2; ++split) check_against_plain_loops<double>(problem, split, 5, 1e-11);
}

TEST_CASE("CUDA descent: padding stays zero where Adam divides by nothing") {
  DescentProblem problem(full_pattern(5, 6), {6, 7, 5}, false, 5);
  problem.rule = adam(0.01);
  problem.rule.eps = 0;
  check_against_plain_loops<double>(problem, 1, 5, 1e-9);
}

TEST_CASE("CUDA descent: cut into launches it is the same bit for bit") {
  for (const Rule& rule : {gradient_descent(0.2, 0.9), group_rmsprop(0.02), adam(0.02, 0.01)}) {
    const DescentProblem problem = problem_of(12, 9, 50, {6, 7}, rule);
    for (int split = 0; split < 3; ++split) {
      Launch<float> whole(cramped);
      whole.add(problem, split);
      whole.descend(21);
      CHECK(whole.outcome() == dmf::Outcome::reached);
      for (const int64_t updates : {1, 3, 7}) {
        Launch<float> cut(cramped);
        cut.add(problem, split);
        for (int64_t made = updates; made <= 21; made += updates) {
          cut.descend(made);
          CHECK(cut.outcome() == dmf::Outcome::reached);
          CHECK(cut.state().step == made);
        }
        CHECK(cut.same(0, whole, 0));
      }
    }
  }
}

TEST_CASE("CUDA descent: the runs of a launch do not touch each other") {
  const std::vector<std::pair<DescentProblem, int>> runs{
      {problem_of(12, 9, 50, {6, 7}, gradient_descent(0.2, 0.9)), 1},
      {problem_of(9, 12, 30, {}, adam(0.05), true, 2), 0},
      {problem_of(20, 5, 60, {4, 4, 4}, group_rmsprop(0.02), false, 3), 2},
      {problem_of(4, 4, 5, {130}, gradient_descent(0.1), true, 4), 1}};
  Launch<float> together, in_turn;
  for (const auto& [problem, split] : runs) together.add(problem, split);
  for (const auto& [problem, split] : runs) in_turn.add(problem, split);
  together.descend({{0, 8}, {1, 5}, {2, 11}, {3, 8}});
  // Other launches, of subsets, in other orders.
  in_turn.descend({{2, 4}, {0, 8}});
  in_turn.descend({{3, 1}, {1, 5}, {2, 9}});
  in_turn.descend({{2, 11}, {3, 8}});
  const int64_t ends[] = {8, 5, 11, 8};
  for (size_t run = 0; run < runs.size(); ++run) {
    Launch<float> alone;
    alone.add(runs[run].first, runs[run].second);
    alone.descend(ends[run]);
    CHECK(alone.state().step == ends[run]);
    CHECK(alone.same(0, together, run));
    CHECK(alone.same(0, in_turn, run));
  }
}

TEST_CASE("CUDA descent: a run that diverges ends, and the others continue") {
  const DescentProblem wild = problem_of(12, 9, 50, {6, 7}, gradient_descent(1e6));
  const DescentProblem tame = problem_of(12, 9, 50, {6, 7}, gradient_descent(0.1));
  Launch<float> launch;
  launch.add(wild, 1);
  launch.add(tame, 1);
  launch.descend(40);
  CHECK(launch.outcome(0) == dmf::Outcome::diverged);
  CHECK_FALSE(std::isfinite(launch.state(0).loss));
  CHECK(launch.state(0).step < 40);
  CHECK(launch.outcome(1) == dmf::Outcome::reached);
  const int64_t ended = launch.state(0).step;
  launch.descend(50);
  CHECK(launch.state(0).step == ended);
  CHECK(launch.state(1).step == 50);
}

TEST_CASE("CUDA descent: runs end by their rules") {
  for (const bool by_loss : {true, false}) {
    DescentProblem problem = problem_of(12, 9, 50, {6, 7}, gradient_descent(0.3));
    PlainDescent plain(problem);
    plain.descend_to(9);
    if (by_loss) {
      problem.stop.train_loss = plain.loss * (1 + 1e-9);
    } else {
      problem.stop.gradient_norm = plain.gradient_norm * (1 + 1e-9);
    }
    check_against_plain_loops<double>(problem, 1, 100, 1e-10);
    Launch<double> launch;
    launch.add(problem, 1);
    launch.descend(100);
    CHECK(launch.outcome() ==
          (by_loss ? dmf::Outcome::train_loss_threshold : dmf::Outcome::gradient_norm_threshold));
    CHECK(launch.state().step <= 9);
  }
}

TEST_CASE("CUDA descent: a launch to the step where the run stands evaluates the state") {
  const DescentProblem problem = problem_of(12, 9, 50, {6, 7}, gradient_descent(0.3));
  PlainDescent plain(problem);
  plain.descend_to(0);
  Launch<double> launch;
  launch.add(problem, 1);
  launch.descend(0);
  CHECK(launch.outcome() == dmf::Outcome::reached);
  CHECK(launch.state().step == 0);
  CHECK(launch.state().loss == Approx(plain.loss).epsilon(1e-12));
  CHECK(launch.state().gradient_norm == Approx(plain.gradient_norm).epsilon(1e-12));
}
