// The best columns of rows against plain loops in double, on every instruction set. The numbers of `draw` make
// every sum exact, so that tests can require equality, ties included.
#include <catch2/catch.hpp>
#include <numeric>

#include "../kernels/cpu/top_columns.h"
#include "instruction_sets.h"
#include "problems.h"

using namespace dmf;
using namespace dmf::test;

namespace {

struct Ranking {
  std::vector<int64_t> columns;
  Numbers scores;
};

struct Case {
  int64_t m, h, n, k;
  std::vector<int64_t> rows;
  bool biased;
  Pattern seen;
};

Case random_case(int64_t m, int64_t h, int64_t n, int64_t k, int64_t asked, bool biased, int64_t seen) {
  Case one{m, h, n, k, {}, biased, random_pattern(m, n, seen, 2, 5)};
  for (int64_t place = 0; place < asked; ++place) one.rows.push_back(place * 7 % m);
  return one;
}

// The seen columns of every row, ascending, and the offsets of each row.
struct SeenLines {
  std::vector<int64_t> offsets;
  std::vector<int32_t> columns;

  explicit SeenLines(const Pattern& pattern) : offsets(pattern.rows + 1, 0) {
    std::set<std::pair<int64_t, int64_t>> sorted;
    for (int64_t k = 0; k < pattern.nnz(); ++k) sorted.emplace(pattern.row_of[k], pattern.column_of[k]);
    for (const auto& [row, column] : sorted) {
      ++offsets[row + 1];
      columns.push_back(static_cast<int32_t>(column));
    }
    std::partial_sum(offsets.begin(), offsets.end(), offsets.begin());
  }
};

Ranking plain_loops(const Case& one, const Numbers& a, const Numbers& b, const Numbers& bias) {
  Ranking ranking;
  std::set<std::pair<int64_t, int64_t>> seen;
  for (int64_t k = 0; k < one.seen.nnz(); ++k) seen.emplace(one.seen.row_of[k], one.seen.column_of[k]);
  for (const int64_t row : one.rows) {
    std::vector<std::pair<double, int64_t>> unseen;  // minus the score, so that pairs sort as they rank
    for (int64_t column = 0; column < one.n; ++column) {
      if (seen.count({row, column}) != 0) continue;
      double score = one.biased ? bias[column] : 0.0;
      for (int64_t v = 0; v < one.h; ++v) score += a[row * one.h + v] * b[v * one.n + column];
      unseen.emplace_back(-score, column);
    }
    std::sort(unseen.begin(), unseen.end());
    unseen.resize(one.k, {std::numeric_limits<double>::infinity(), -1});
    for (const auto& [score, column] : unseen) {
      ranking.columns.push_back(column);
      ranking.scores.push_back(-score);
    }
  }
  return ranking;
}

template <class T>
void check(const Case& one) {
  INFO(one.m << " x " << one.n << ", h " << one.h << ", k " << one.k);
  const Numbers a = draw(one.m * one.h, 1), b = draw(one.h * one.n, 2), bias = draw(one.n, 3);
  const Ranking expected = plain_loops(one, a, b, bias);
  const std::vector<T> as_a = narrow<T>(a), as_b = narrow<T>(b), as_bias = narrow<T>(bias);
  const SeenLines seen(one.seen);
  for (const int threads : {1, 3}) {
    std::vector<int64_t> columns(expected.columns.size(), -7);
    std::vector<T> scores(expected.scores.size());
    TopColumnsProblem<T> problem{as_a.data(),
                                 as_b.data(),
                                 one.h,
                                 one.n,
                                 nullptr,
                                 one.rows.data(),
                                 static_cast<int64_t>(one.rows.size()),
                                 one.k,
                                 nullptr,
                                 nullptr,
                                 columns.data(),
                                 scores.data()};
    if (one.biased) problem.column_bias = as_bias.data();
    if (one.seen.nnz() > 0) {
      problem.seen_offsets = seen.offsets.data();
      problem.seen_columns = seen.columns.data();
    }
    ThreadPool parallel(threads);
    top_columns(problem, parallel);
    CHECK(columns == expected.columns);
    CHECK(Numbers(scores.begin(), scores.end()) == expected.scores);
  }
}

}  // namespace

TEMPLATE_TEST_CASE("the best columns are those of plain loops", "[top]", float, double) {
  const std::vector<Case> cases{
      random_case(1, 1, 1, 1, 1, false, 0),        // nothing to choose from
      random_case(1, 1, 1, 3, 2, true, 1),         // nothing left
      random_case(5, 3, 40, 40, 5, true, 60),      // all that is left
      random_case(30, 1, 300, 9, 61, false, 900),  // a single factor, whose ties are many
      random_case(40, 17, 211, 1, 40, true, 2000),   random_case(120, 5, 1000, 200, 130, true, 9000),
      random_case(13, 1100, 330, 10, 13, true, 500),  // several stretches of panels
  };
  on_every_instruction_set([&] {
    for (const Case& one : cases) check<TestType>(one);
  });
}

TEST_CASE("no columns are found for no rows and among NaN", "[top]") {
  const std::vector<float> a{1, NAN}, b{1, NAN, -INFINITY};
  const std::vector<int64_t> rows{0, 1};
  on_every_instruction_set([&] {
    std::vector<int64_t> columns(4, -7);
    std::vector<float> scores(4);
    TopColumnsProblem<float> problem{a.data(), b.data(), 1,       3,       nullptr,        rows.data(),
                                     2,        2,        nullptr, nullptr, columns.data(), scores.data()};
    ThreadPool parallel(2);
    top_columns(problem, parallel);
    CHECK(columns == std::vector<int64_t>{0, -1, -1, -1});
    CHECK(scores[0] == 1);
    problem.row_count = 0;
    top_columns(problem, parallel);
  });
}
