// The tensor cores' CUDA kernels, run on the CPU by the shim, against plain loops in double.
#include "cuda_problems.h"

#include <catch2/catch.hpp>
#include <cmath>

#include "../kernels/cuda/tile_sweep.cuh"

using namespace dmf;
using namespace dmf::test;
using dmf::cuda::TilePrecision;

namespace {

// A problem whose numbers have more digits than TF32 holds.
Problem long_numbers(const Pattern& pattern, int64_t h, bool weighted) {
  Problem problem(pattern, h, weighted);
  for (double& number : problem.a) number *= 1.1;
  for (double& number : problem.b_transposed) number *= 1.1;
  return problem;
}

template <int width, class Storage>
void check_tiles(const Problem& problem, TilePrecision precision, double tolerance, int64_t blocks = 528) {
  const Pattern& pattern = problem.pattern;
  INFO(pattern.rows << " x " << pattern.columns << ", h " << problem.h << ", precision "
                    << static_cast<int>(precision));
  const Outcome expected = plain_loops(problem, 0.25);
  const LayoutOf built(pattern);
  const cuda::DeviceLayout layout = built.layout();
  REQUIRE(layout.shape.has_masks);
  PassArrays<Storage> arrays(problem, in_row_order(layout, problem.values),
                             in_row_order(layout, problem.weights), 0.25);
  ArrayWorkspace workspace;
  float loss = -1;
  cuda::tile_sweep_of_width<width>(layout, Narrow<Storage>::dtype, precision, arrays.operands, &loss, workspace,
                                   nullptr, blocks);
  const Outcome actual = arrays.outcome(loss);
  CHECK(std::fabs(actual.loss - 0.25 * expected.loss) <= tolerance * 0.25 * expected.loss);
  CHECK(close(actual.gradient_a, expected.gradient_a, tolerance));
  CHECK(close(actual.gradient_b, expected.gradient_b, tolerance));
}

}  // namespace

TEST_CASE("CUDA: the tensor cores' loss and gradients agree with plain loops") {
  const std::vector<Pattern> patterns{full_pattern(70, 66), random_pattern(80, 150, 700, 1, 1),
                                      random_pattern(20, 10, 9, 2, 3), Pattern{1, 1, {0}, {0}}};
  for (const Pattern& pattern : patterns) {
    for (const bool weighted : {false, true}) {
      const Problem problem = long_numbers(pattern, 37, weighted);
      check_tiles<64, float>(problem, TilePrecision::tf32, 2e-3);
      check_tiles<64, float>(problem, TilePrecision::tf32x3, 5e-6);
      check_tiles<64, float>(problem, TilePrecision::bfloat16, 2.5e-2);
    }
  }
}

TEST_CASE("CUDA: the tensor cores take every width") {
  const Pattern pattern = random_pattern(40, 70, 300, 1, 1);
  check_tiles<32, float>(long_numbers(pattern, 1, true), TilePrecision::tf32, 2e-3);
  check_tiles<32, float>(long_numbers(pattern, 32, true), TilePrecision::bfloat16, 2.5e-2);
  check_tiles<128, float>(long_numbers(pattern, 97, true), TilePrecision::tf32x3, 5e-6);
  check_tiles<128, float>(long_numbers(pattern, 128, true), TilePrecision::bfloat16, 2.5e-2);
}

TEST_CASE("CUDA: 16-bit numbers lose nothing in TF32") {
  const Pattern pattern = random_pattern(40, 70, 300, 1, 1);
  // Only the residuals, which are not 16-bit numbers, are rounded.
  check_tiles<32, bfloat16>(Problem(pattern, 20), TilePrecision::tf32, 5e-4);
  check_tiles<32, float16>(Problem(pattern, 20), TilePrecision::tf32, 5e-4);
}

TEST_CASE("CUDA: a block that walks over several tiles adds them up") {
  const Pattern pattern = random_pattern(70, 330, 1200, 1, 1);
  for (const int64_t blocks : {1, 5}) {
    check_tiles<32, float>(long_numbers(pattern, 20, false), TilePrecision::tf32, 2e-3, blocks);
    check_tiles<32, float>(long_numbers(pattern, 20, true), TilePrecision::tf32x3, 5e-6, blocks);
    check_tiles<32, float>(long_numbers(pattern, 20, false), TilePrecision::bfloat16, 2.5e-2, blocks);
  }
}

TEST_CASE("CUDA: long walks keep float32's accuracy, though tensor cores round sums toward zero") {
  const Pattern pattern = full_pattern(3, 1600);
  Problem problem = long_numbers(pattern, 8, false);
  for (double& number : problem.values) number = -10;  // residuals of one sign, so that errors add up
  check_tiles<32, float>(problem, TilePrecision::tf32x3, 2e-6, 1);
}
