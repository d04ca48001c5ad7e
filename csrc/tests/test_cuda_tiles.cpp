// The tensor core kernels, run on the CPU by the shim, against plain loops in double.
#include "cuda_problems.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "../kernels/cuda/tile_sweep.cuh"

using namespace dmf;
using namespace dmf::test;
using dmf::cuda::TilePrecision;

namespace {

constexpr double scale = 0.25;

// A problem whose numbers have more digits than TF32 holds.
Problem long_numbers(const Pattern& pattern, int64_t h, bool weighted) {
  Problem problem(pattern, h, weighted);
  for (double& number : problem.a) number *= 1.1;
  for (double& number : problem.b_transposed) number *= 1.1;
  return problem;
}

template <int width, class Storage = float>
Outcome tile_outcome(const Problem& problem, TilePrecision precision, int64_t blocks_at_once = 528) {
  const LayoutOf built(problem.pattern);
  const cuda::DeviceLayout layout = built.layout();
  REQUIRE(layout.shape.has_masks);
  PassArrays<Storage> arrays(problem, in_row_order(layout, problem.values),
                             in_row_order(layout, problem.weights), scale);
  ArrayWorkspace workspace;
  float loss = -1;
  cuda::blocks_on_cpu = blocks_at_once;
  cuda::tile_sweep_of_width<width>(layout, Narrow<Storage>::dtype, precision, arrays.operands, &loss, workspace,
                                   nullptr);
  return arrays.outcome(loss);
}

// Error bounds of the results if every product, coefficient and sum has an error of `unit` relative to the sum
// of the magnitudes of its terms.
Outcome bounds(const Problem& p, double unit) {
  Outcome bound{0, Numbers(p.a.size()), Numbers(p.b_transposed.size()), {}};
  for (int64_t k = 0; k < p.pattern.nnz(); ++k) {
    const double* a = p.a.data() + p.pattern.row_of[k] * p.h;
    const double* b = p.b_transposed.data() + p.pattern.column_of[k] * p.h;
    double product = 0, magnitude = std::fabs(p.values[k]);
    for (int64_t v = 0; v < p.h; ++v) {
      product += a[v] * b[v];
      magnitude += std::fabs(a[v] * b[v]);
    }
    const double residual = std::fabs(product - p.values[k]), error = unit * magnitude;
    bound.loss += scale * p.weights[k] * (2 * residual * error + error * error + unit * residual * residual);
    const double off = 2 * scale * p.weights[k] * (error + unit * residual);
    for (int64_t v = 0; v < p.h; ++v) {
      bound.gradient_a[p.pattern.row_of[k] * p.h + v] += off * std::fabs(b[v]);
      bound.gradient_b[p.pattern.column_of[k] * p.h + v] += off * std::fabs(a[v]);
    }
  }
  return bound;
}

bool within(const Numbers& actual, const Numbers& expected, const Numbers& bound) {
  for (size_t k = 0; k < expected.size(); ++k) {
    if (!(std::fabs(actual[k] - expected[k]) <= bound[k])) return false;
  }
  return true;
}

void check(const Problem& problem, const Outcome& actual, double unit) {
  INFO(problem.pattern.rows << " x " << problem.pattern.columns << ", h " << problem.h << ", weighted "
                            << problem.is_weighted << ", unit " << unit);
  const Outcome expected = plain_loops(problem, scale), bound = bounds(problem, unit);
  CHECK(std::fabs(actual.loss - expected.loss) <= bound.loss);
  CHECK(within(actual.gradient_a, expected.gradient_a, bound.gradient_a));
  CHECK(within(actual.gradient_b, expected.gradient_b, bound.gradient_b));
}

// Both operands of a product are rounded to 11 digits: off by 2^-12 to 2^-11 each.
constexpr double tf32_unit = 0x1p-10;
// The remainder after two parts of 11 digits and the product of the small parts are less than 2^-20 each.
constexpr double tf32x3_unit = 0x1p-18;

template <int width>
void check_both(const Pattern& pattern, int64_t h, bool weighted, int64_t blocks_at_once = 528) {
  const Problem problem = long_numbers(pattern, h, weighted);
  check(problem, tile_outcome<width>(problem, TilePrecision::tf32, blocks_at_once), tf32_unit);
  check(problem, tile_outcome<width>(problem, TilePrecision::tf32x3, blocks_at_once), tf32x3_unit);
}

bool all_finite(const Numbers& numbers) {
  return std::all_of(numbers.begin(), numbers.end(), [](double number) { return std::isfinite(number); });
}

}  // namespace

TEST_CASE("CUDA: the tensor cores' errors are no larger than what they round off, for all shapes of patterns") {
  const std::vector<Pattern> patterns{
      full_pattern(70, 66),                // two tiles, with and without a last one that is nearly empty
      random_pattern(129, 65, 400, 3, 2),  // lines without entries, one line in the last block
      random_pattern(20, 10, 9, 2, 3),
      Pattern{1, 1, {0}, {0}},
  };
  for (const Pattern& pattern : patterns) {
    for (const bool weighted : {false, true}) check_both<32>(pattern, 21, weighted);
  }
}

TEST_CASE("CUDA: the tensor cores take every width") {
  const Pattern pattern = random_pattern(30, 40, 200, 1, 1);
  for (const int64_t h : {1, 31, 32}) check_both<32>(pattern, h, true);
  for (const int64_t h : {33, 64}) check_both<64>(pattern, h, true);
  for (const int64_t h : {65, 96}) check_both<96>(pattern, h, true);
  for (const int64_t h : {97, 128}) check_both<128>(pattern, h, true);
}

TEST_CASE("CUDA: a block that walks over several tiles adds them up, in one part or several") {
  const Pattern pattern = random_pattern(70, 200, 900, 1, 1);
  check_both<32>(pattern, 20, true, 1);   // four tiles and two, one after the other
  check_both<32>(pattern, 20, false, 5);  // or each side in two parts
}

TEST_CASE("CUDA: 16-bit numbers lose nothing in TF32") {
  const Pattern pattern = random_pattern(40, 70, 300, 1, 1);
  // Numbers that fit in 8 bits, in any storage type. Only coefficients, which have more bits, are rounded.
  const Problem problem(pattern, 20);
  const Outcome expected = tile_outcome<32>(problem, TilePrecision::tf32);
  CHECK(close({expected.loss}, {plain_loops(problem, scale).loss}, 1e-6));
  const Outcome narrow[] = {tile_outcome<32, bfloat16>(problem, TilePrecision::tf32),
                            tile_outcome<32, float16>(problem, TilePrecision::tf32)};
  for (const Outcome& actual : narrow) {
    CHECK(actual.loss == expected.loss);
    CHECK(actual.gradient_a == expected.gradient_a);
    CHECK(actual.gradient_b == expected.gradient_b);
  }
}

TEST_CASE("CUDA: long walks keep float32's accuracy, though tensor cores round sums toward zero") {
  const Pattern pattern = full_pattern(3, 1600);
  Problem problem = long_numbers(pattern, 8, false);
  for (double& number : problem.values) number = -10;  // residuals of one sign, so that errors add up
  const Outcome actual = tile_outcome<32>(problem, TilePrecision::tf32x3, 1);
  CHECK(close(actual.gradient_a, plain_loops(problem, scale).gradient_a, 2e-6));
}

TEST_CASE(
    "CUDA: a number that is not finite affects the gradient of the other side, and results of entries observed "
    "with it") {
  for (const double wrong : {std::numeric_limits<double>::quiet_NaN(), HUGE_VAL}) {
    for (const TilePrecision precision : {TilePrecision::tf32, TilePrecision::tf32x3}) {
      Pattern dense = full_pattern(3, 70);
      dense.row_of.erase(dense.row_of.begin() + 70, dense.row_of.begin() + 140);  // nothing in row 1
      dense.column_of.erase(dense.column_of.begin() + 70, dense.column_of.begin() + 140);
      Problem problem = long_numbers(dense, 5, true);
      problem.a[1 * 5 + 2] = wrong;
      const Outcome actual = tile_outcome<32>(problem, precision);
      CHECK(std::isfinite(actual.loss));
      CHECK(all_finite(actual.gradient_a));
      for (int64_t column = 0; column < 70; ++column) CHECK(std::isnan(actual.gradient_b[column * 5 + 2]));
    }
  }
}

TEST_CASE(
    "CUDA: tensor-core passes start at most as many blocks as run at once, if possible, and cover every tile") {
  for (const int64_t own_blocks : {1, 29, 48, 395, 396, 397, 1000}) {
    for (const int64_t tiles : {1, 2, 58, 95, 4000}) {
      for (const int64_t at_once : {1, 264, 396}) {
        const int64_t each = cuda::tiles_a_part(tiles, own_blocks, at_once);
        const int64_t parts = cuda::ceil_divide(tiles, each);
        CHECK((each >= 1 && each * parts >= tiles));
        CHECK(own_blocks * parts <= std::max(own_blocks, at_once));
        // Shorter parts would be too many.
        if (each > 1) CHECK(own_blocks * cuda::ceil_divide(tiles, each - 1) > at_once);
      }
    }
  }
}
