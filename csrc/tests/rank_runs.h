// Runs whose rows are shared by ranks, which are threads, and what all of them computed.
#pragma once

#include <catch2/catch.hpp>
#include <memory>
#include <vector>

#include "../kernels/cpu/descent.h"
#include "engine_problems.h"
#include "rank_threads.h"

namespace dmf::test {

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
      const PlainMatrix kept = as_stored(parameters[j], j);
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

  PlainMatrix as_stored(const PlainMatrix& parameter, int j) const {
    return j < split ? parameter.transposed() : parameter;
  }

  // For every row of a parameter as stored: its scale and, for L-BFGS, its curvature.
  std::vector<RowFacts<T>> facts(const DescentProblem& whole, const Share& share) {
    const std::vector<PlainMatrix> parameters = whole.parameters();
    std::vector<RowFacts<T>> result;
    for (int j = 0; j < static_cast<int>(parameters.size()); ++j) {
      const int64_t all = as_stored(parameters[j], j).rows;
      const int64_t first = is_shared(j) ? share.first * share.rows : 0,
                    count = is_shared(j) ? share.count * share.rows : all;
      const PlainMatrix scale = whole.scales.empty() ? PlainMatrix(0, 0) : as_stored(whole.scales[j], j);
      scales.emplace_back();
      curvatures.emplace_back();
      for (int64_t row = first; row < first + count; ++row) {
        if (!whole.scales.empty()) scales.back().push_back(static_cast<T>(scale.at(row, 0)));
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
inline bool append(Result& whole, const Result& next, int parameters, int depth) {
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

inline DescentProblem others_of(const DescentProblem& problem) {
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

}  // namespace dmf::test
