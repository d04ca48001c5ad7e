// Plans of runs in CUDA blocks: where arrays are, which problems are refused, how long a step takes by count.
#include <catch2/catch.hpp>
#include <string>

#include "../kernels/cuda/array_placement.h"
#include "../kernels/cuda/descent_plan.h"
#include "block_problems.h"

using namespace dmf;
using namespace dmf::test;
using dmf::cuda::ArrayUse;
using dmf::cuda::Place;

namespace {

std::string answer(const DescentProgram& program, const cuda::RunOptions& options, int64_t nnz,
                   int64_t limit = roomy) {
  try {
    cuda::plan_block_run(program, options, nnz, false, 4, limit);
    return "taken";
  } catch (const cuda::TooLargeForBlock&) {
    return "too large";
  } catch (const std::invalid_argument&) {
    return "wrong";
  }
}

}  // namespace

TEST_CASE("CUDA descent: arrays that live at the same time lie apart") {
  std::mt19937_64 generator(6);
  const auto draw = [&](int64_t count) { return static_cast<int64_t>(generator() % count); };
  for (int round = 0; round < 200; ++round) {
    std::vector<ArrayUse> arrays(1 + draw(20));
    for (ArrayUse& array : arrays) {
      const auto first = static_cast<int>(draw(8));
      array = {1 + draw(100), first, first + static_cast<int>(draw(8 - first)), static_cast<double>(draw(5))};
    }
    const int64_t limit = 32 + draw(400);
    const cuda::Placement placed = cuda::place_arrays(arrays, 20, limit, 40);
    CHECK(placed.shared_bytes <= std::max<int64_t>(limit, 32));
    for (size_t one = 0; one < arrays.size(); ++one) {
      const Place place = placed.places[one];
      const int64_t end = place.offset + arrays[one].bytes;
      CHECK(place.offset % 16 == 0);
      CHECK(place.offset >= (place.shared ? 20 : 40));
      CHECK(end <= (place.shared ? placed.shared_bytes : placed.memory_bytes));
      for (size_t two = 0; two < one; ++two) {
        const Place other = placed.places[two];
        if (place.shared != other.shared) continue;
        if (arrays[one].last < arrays[two].first || arrays[two].last < arrays[one].first) continue;
        CHECK((end <= other.offset || other.offset + arrays[two].bytes <= place.offset));
      }
    }
  }
}

TEST_CASE("CUDA descent: the most read arrays come to shared memory, and arrays in turn share a place") {
  const std::vector<ArrayUse> arrays{{64, 0, 1, 1}, {64, 0, 3, 9}, {64, 2, 3, 2}, {64, 1, 2, 3, 8}};
  const cuda::Placement placed = cuda::place_arrays(arrays, 0, 128, 100);
  CHECK(placed.places[1].shared == 1);
  CHECK(placed.places[3].shared == 1);
  CHECK(placed.places[0].shared == 0);
  CHECK(placed.places[2].shared == 0);
  CHECK(placed.places[0].offset == 112);
  CHECK(placed.places[2].offset == 112);
  CHECK(placed.memory_bytes == 176);
  const cuda::Placement tight = cuda::place_arrays(arrays, 0, 64, 100);
  CHECK(tight.places[3].shared == 0);
  CHECK(tight.places[3].offset == 8);
}

TEST_CASE("CUDA descent: problems too large for a block are told from wrong ones") {
  const auto plain = [](int64_t rows, int64_t columns, int64_t nnz, const std::vector<int64_t>& hidden) {
    return program_of(problem_of(rows, columns, nnz, hidden, gradient_descent(0.3)), 1);
  };
  const DescentProgram program = plain(12, 9, 50, {6, 7});
  cuda::RunOptions options;
  options.total_weight = 50;
  CHECK(answer(program, options, 50) == "taken");
  CHECK(answer(program, options, 65537) == "too large");
  CHECK(answer(program, options, 50, cuda::shared_front - 1) == "too large");
  CHECK(answer(plain(5, 5, 9, std::vector<int64_t>(8, 3)), options, 9) == "too large");
  CHECK(answer(plain(5, 5, 9, {257}), options, 9) == "too large");

  CHECK(answer(program, options, 0) == "wrong");
  DescentProgram astray = program;
  astray.products[0].right = 17;
  CHECK(answer(astray, options, 50) == "wrong");
  for (const RuleKind kind : {RuleKind::adaptive_gradient_descent, RuleKind::preconditioned_lbfgs}) {
    cuda::RunOptions unknown = options;
    unknown.rule.kind = kind;
    CHECK(answer(program, unknown, 50) == "wrong");
  }
  options.total_weight = 0;
  CHECK(answer(program, options, 50) == "wrong");
}

TEST_CASE("CUDA descent: cycles are counted as the kernel's header says") {
  const auto cycles = [](const std::vector<int64_t>& hidden, int split, int64_t nnz) {
    const DescentProblem problem = problem_of(100, 100, nnz, hidden, group_rmsprop(0.001));
    cuda::RunOptions options;
    options.total_weight = 1;
    return cuda::plan_block_run(program_of(problem, split), options, nnz, false, 4, roomy).cycles;
  };
  for (int depth = 2; depth <= 4; ++depth) {
    const std::vector<int64_t> hidden(depth - 1, 100);
    CHECK(cycles(hidden, 1, 2000) == Approx(24000 + (depth - 2) * 31000).epsilon(0.1));
    CHECK(cycles(hidden, 0, 2000) == Approx(35000 + (depth - 2) * 30500).epsilon(0.1));
  }
}
