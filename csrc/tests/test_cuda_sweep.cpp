// The CUDA kernels of the sweep and the dense pass, run on the CPU by the shim, against plain loops in double.
#include "cuda_problems.h"

#include <catch2/catch.hpp>
#include <cmath>
#include <limits>

#include "../kernels/cuda/dense_pass.cuh"
#include "../kernels/cuda/sweep.cuh"

using namespace dmf;
using namespace dmf::test;
using dmf::cuda::Cuts;
using dmf::cuda::DeviceLayout;

namespace {

template <class Storage>
Outcome swept(const Problem& p, const DeviceLayout& layout, double scale, int64_t kept = 1000000) {
  PassArrays<Storage> arrays(p, in_row_order(layout, p.values), in_row_order(layout, p.weights), scale);
  ArrayWorkspace workspace;
  accumulator_t<Storage> loss = -1, loss_alone = -1;
  const Operands& operands = arrays.operands;
  cuda::sweep<Storage>(layout, Task::loss_gradients, operands, &loss, workspace, nullptr, kept);
  cuda::sweep<Storage>(layout, Task::loss, operands, &loss_alone, workspace, nullptr, kept);
  CHECK(loss_alone == loss);
  cuda::sweep<Storage>(layout, Task::product, operands, nullptr, workspace, nullptr, kept);
  return arrays.outcome(loss);
}

template <class Storage>
void check_against_plain_loops(const Pattern& pattern, int64_t h, double tolerance, const Cuts& cuts = {},
                               bool weighted = true) {
  INFO(pattern.rows << " x " << pattern.columns << ", h " << h << ", " << sizeof(Storage) << " bytes");
  const Problem problem(pattern, h, weighted);
  const Outcome expected = plain_loops(problem, 0.25);
  const LayoutOf built(pattern, cuts);
  // The column pass with stored coefficients, and with its own.
  const Outcome actual = swept<Storage>(problem, built.layout(), 0.25);
  const Outcome again = swept<Storage>(problem, built.layout(), 0.25, 0);
  CHECK(again.gradient_a == actual.gradient_a);
  CHECK(close(again.gradient_b, expected.gradient_b, tolerance));
  CHECK(actual.loss == Approx(expected.loss).epsilon(tolerance));
  CHECK(close(actual.gradient_a, expected.gradient_a, tolerance));
  CHECK(close(actual.gradient_b, expected.gradient_b, tolerance));
  CHECK(close(actual.products, expected.products, tolerance));
}

}  // namespace

TEST_CASE("CUDA: loss, gradients and products agree with plain loops") {
  for (const Pattern& pattern : small_patterns()) {
    check_against_plain_loops<double>(pattern, 5, 1e-13);
    check_against_plain_loops<float>(pattern, 5, 1e-5);
    check_against_plain_loops<float>(pattern, 8, 1e-5, {}, false);
  }
}

TEST_CASE("CUDA: every width agrees with plain loops") {
  const Pattern pattern = random_pattern(20, 30, 120, 2, 7);
  for (const int64_t h : {1, 4, 8, 16, 17, 33, 64, 66, 100, 130, 256}) {
    check_against_plain_loops<double>(pattern, h, 1e-13);
    check_against_plain_loops<float>(pattern, h, 1e-5);
    check_against_plain_loops<bfloat16>(pattern, h, 1e-5);
    check_against_plain_loops<float16>(pattern, h, 1e-5);
  }
}

TEST_CASE("CUDA: rows wider than a warp holds agree with plain loops") {
  const Pattern pattern = random_pattern(9, 12, 60, 2, 7);
  for (const Cuts& cuts : {Cuts{}, blocks_of_64}) {
    check_against_plain_loops<double>(pattern, 515, 1e-13, cuts);
    check_against_plain_loops<float>(pattern, 1024, 1e-5, cuts);
    check_against_plain_loops<bfloat16>(pattern, 1026, 1e-5, cuts);
  }
}

TEST_CASE("CUDA: without entries all of the gradients is zero, however wide") {
  const Pattern empty{3, 4, {}, {}};
  const LayoutOf built(empty);
  const Outcome outcome = swept<float>(Problem(empty, 520), built.layout(), 1.0);
  CHECK(outcome.loss == 0);
  CHECK(outcome.gradient_a == Numbers(3 * 520, 0.0));
  CHECK(outcome.gradient_b == Numbers(4 * 520, 0.0));
}

TEST_CASE("CUDA: blocks, wide indices and split lines agree with plain loops") {
  for (const Pattern& pattern : {random_pattern(90, 130, 600, 3, 2), random_pattern(3, 200, 300, 2, 3)}) {
    for (const Cuts& cuts : {blocks_of_64, wide_indices}) {
      check_against_plain_loops<double>(pattern, 6, 1e-13, cuts);
      check_against_plain_loops<float>(pattern, 64, 1e-5, cuts);
    }
  }
}

TEST_CASE("CUDA: lines of just under, exactly and just over whole batches agree with plain loops") {
  Pattern pattern{9, 70, {}, {}};
  const int64_t lengths[] = {31, 32, 33, 0, 1, 63, 64, 65, 70};
  for (int64_t row = 0; row < pattern.rows; ++row) {
    for (int64_t column = 0; column < lengths[row]; ++column) {
      pattern.row_of.push_back(row);
      pattern.column_of.push_back((column + 7 * row) % pattern.columns);
    }
  }
  constexpr Cuts whole_lines{65536, 64, 512, 512, 1};
  for (const Cuts& cuts : {Cuts{}, whole_lines}) {
    for (const int64_t h : {1, 17, 64, 100, 300}) {
      check_against_plain_loops<float>(pattern, h, 1e-5, cuts);
      check_against_plain_loops<double>(pattern, h, 1e-13, cuts, false);
    }
  }
}

TEST_CASE("CUDA: lines of hundreds of slots agree with plain loops") {
  const Pattern pattern = full_pattern(2, 900);
  constexpr Cuts one_block{65536, 64, 4, 4, 1};
  for (const int64_t h : {1, 17, 64, 300}) check_against_plain_loops<float>(pattern, h, 1e-5, one_block);
  check_against_plain_loops<float>(pattern, 17, 1e-5, blocks_of_64);
  check_against_plain_loops<double>(pattern, 100, 1e-13, blocks_of_64);
}

TEST_CASE("CUDA: infinite rows make results infinite where they are observed, and change nothing elsewhere") {
  constexpr double infinity = std::numeric_limits<double>::infinity();
  const Pattern pattern = random_pattern(12, 90, 400, 2, 5);
  const LayoutOf built(pattern);
  for (const int64_t h : {1, 17, 64, 100, 300, 530}) {
    Problem problem(pattern, h, false);
    for (double& number : problem.b_transposed) number = std::fabs(number) + 1;
    const Outcome finite = swept<float>(problem, built.layout(), 1.0, 0);
    std::fill_n(problem.a.begin(), h, infinity);
    for (const int64_t kept : {0, 1000}) {
      INFO("h " << h << ", kept " << kept);
      const Outcome outcome = swept<float>(problem, built.layout(), 1.0, kept);
      Outcome expected = finite;
      std::fill_n(expected.gradient_a.begin(), h, infinity);
      for (int64_t k = 0; k < pattern.nnz(); ++k) {
        if (pattern.row_of[k] != 0) continue;
        expected.products[k] = infinity;
        std::fill_n(expected.gradient_b.begin() + pattern.column_of[k] * h, h, infinity);
      }
      CHECK(outcome.products == expected.products);
      CHECK(outcome.gradient_a == expected.gradient_a);
      CHECK(outcome.gradient_b == expected.gradient_b);
    }
  }
}

TEST_CASE("CUDA: coefficients given in the caller's order are scattered to both gradients") {
  const Pattern pattern = random_pattern(40, 50, 250, 2, 9);
  const Problem problem(pattern, 11);
  Outcome expected{0, Numbers(problem.a.size(), 0.0), Numbers(problem.b_transposed.size(), 0.0), {}};
  for (int64_t k = 0; k < pattern.nnz(); ++k) {
    for (int64_t v = 0; v < problem.h; ++v) {
      const int64_t in_a = pattern.row_of[k] * problem.h + v, in_b = pattern.column_of[k] * problem.h + v;
      expected.gradient_a[in_a] += problem.values[k] * problem.b_transposed[in_b];
      expected.gradient_b[in_b] += problem.values[k] * problem.a[in_a];
    }
  }
  for (const Cuts& cuts : {Cuts{}, blocks_of_64}) {
    const LayoutOf built(pattern, cuts);
    Numbers gradient_a(problem.a.size(), 1e30), gradient_b(problem.b_transposed.size(), 1e30);
    Operands operands;
    operands.a = problem.a.data();
    operands.b_transposed = problem.b_transposed.data();
    operands.h = problem.h;
    operands.coefficients = problem.values.data();
    operands.gradient_a = gradient_a.data();
    operands.gradient_b_transposed = gradient_b.data();
    ArrayWorkspace workspace;
    cuda::sweep<double>(built.layout(), Task::gradients, operands, nullptr, workspace, nullptr, 0);
    CHECK(close(gradient_a, expected.gradient_a, 1e-13));
    CHECK(close(gradient_b, expected.gradient_b, 1e-13));
  }
}

TEST_CASE("CUDA: loss and gradient of a dense matrix agree with plain loops") {
  for (const Pattern& pattern : small_patterns()) {
    const Problem problem(pattern, 1);
    const LayoutOf built(pattern, blocks_of_64);
    const DeviceLayout layout = built.layout();
    const Numbers dense = draw(pattern.rows * pattern.columns, 7);
    Numbers expected(dense.size(), 0.0);
    double loss = 0;
    for (int64_t k = 0; k < pattern.nnz(); ++k) {
      const int64_t place = pattern.row_of[k] * pattern.columns + pattern.column_of[k];
      const double residual = dense[place] - problem.values[k];
      loss += problem.weights[k] * residual * residual;
      expected[place] = 0.5 * problem.weights[k] * residual;
    }
    const Numbers values = in_row_order(layout, problem.values),
                  weights = in_row_order(layout, problem.weights);
    Numbers gradient(dense.size(), 1e30);
    const DenseOperands operands{dense.data(), values.data(), weights.data(), gradient.data(), 0.25};
    ArrayWorkspace workspace;
    double actual = -1;
    cuda::dense_loss_of<double>(layout, operands, &actual, workspace, nullptr);
    CHECK(actual == Approx(0.25 * loss).epsilon(1e-13));
    CHECK(gradient == expected);
  }
}

TEST_CASE("CUDA: gathering and scattering a dense matrix are inverse, and row order is undone") {
  for (const Pattern& pattern : small_patterns()) {
    const LayoutOf built(pattern, wide_indices);
    const DeviceLayout layout = built.layout();
    const Numbers values = draw(pattern.nnz(), 5);
    Numbers dense(pattern.rows * pattern.columns, 1.0), gathered(pattern.nnz()), expected(dense.size(), 0.0);
    cuda::copy_of<true, uint64_t>(layout, values.data(), dense.data(), nullptr);
    cuda::copy_of<false, uint64_t>(layout, dense.data(), gathered.data(), nullptr);
    for (int64_t k = 0; k < pattern.nnz(); ++k) {
      expected[pattern.row_of[k] * pattern.columns + pattern.column_of[k]] = values[k];
    }
    CHECK(dense == expected);
    CHECK(gathered == values);
    const Numbers row_order = in_row_order(layout, values);
    Numbers ordered(values.size());
    cuda::order_of<uint64_t>(layout.position, pattern.nnz(), row_order.data(), ordered.data(), nullptr);
    CHECK(ordered == values);
  }
}
