// A repeated pair is found, whatever the number of threads and of columns without entries.
#include <catch2/catch.hpp>

#include "../kernels/repeated_pairs.h"
#include "patterns.h"

using namespace dmf;
using namespace dmf::test;

TEST_CASE("a place that is named twice is found wherever it stands") {
  for (const int threads : {1, 3}) {
    ThreadPool parallel(threads);
    const Pattern pattern = random_pattern(40, 50, 300, 1, 1);
    std::vector<int32_t> rows(pattern.row_of.begin(), pattern.row_of.end()),
        columns(pattern.column_of.begin(), pattern.column_of.end());
    const auto repeats = [&] {
      return has_repeated_pairs(rows.data(), columns.data(), static_cast<int64_t>(rows.size()), 40, 50,
                                parallel);
    };
    CHECK_FALSE(repeats());
    for (const size_t place : {size_t{0}, size_t{150}, size_t{299}}) {
      rows.push_back(rows[place]);
      columns.push_back(columns[place]);
      CHECK(repeats());
      rows.pop_back();
      columns.pop_back();
    }
    rows.clear();
    columns.clear();
    CHECK_FALSE(repeats());
  }
}
