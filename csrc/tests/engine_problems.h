// What tests of the native engine share: matrices as the engine stores them, entries, all instruction sets. The
// numbers of `draw` are multiples of 1/32 below 8, so sums of their products are exact in float32, too, and
// tests can require equality.
#pragma once

#include <atomic>
#include <catch2/catch.hpp>
#include <vector>

#include "../kernels/aligned_numbers.h"
#include "../kernels/cpu/descent.h"
#include "../kernels/cpu/observed_pass.h"
#include "descent_problems.h"
#include "instruction_sets.h"

namespace dmf::test {

inline const std::vector<int64_t> sizes{1, 2, 3, 5, 16, 17, 31, 47, 70};
constexpr double garbage = 1e30;

inline PlainMatrix drawn(int64_t rows, int64_t columns, unsigned seed) {
  PlainMatrix result(rows, columns);
  result.numbers = draw(rows * columns, seed);
  return result;
}

template <class T>
void copy(const PlainMatrix& from, const DenseMatrix<T>& to) {
  for (int64_t i = 0; i < to.rows; ++i) {
    for (int64_t j = 0; j < to.columns; ++j) to.row(i)[j] = static_cast<T>(from.at(i, j));
  }
}

// The numbers of a matrix, provided that there are zeros past its last column.
template <class T>
Numbers numbers_of(const DenseMatrix<T>& matrix) {
  Numbers numbers;
  bool zeros_behind = true;  // one assertion per number would take longer than the rest of a test
  for (int64_t i = 0; i < matrix.rows; ++i) {
    for (int64_t j = 0; j < matrix.columns; ++j) numbers.push_back(static_cast<double>(matrix.row(i)[j]));
    for (int64_t j = matrix.columns; j < matrix.stride; ++j)
      zeros_behind = zeros_behind && matrix.row(i)[j] == 0;
  }
  REQUIRE(zeros_behind);
  return numbers;
}

template <class T>
struct Padded {
  AlignedNumbers<T> memory;
  DenseMatrix<T> matrix;

  explicit Padded(const PlainMatrix& from) : Padded(from.rows, from.columns, 0) { copy(from, matrix); }
  Padded(int64_t rows, int64_t columns, double fill)
      : memory(rows * row_stride<T>(columns)), matrix{memory.data(), rows, columns, row_stride<T>(columns)} {
    PlainMatrix filled(rows, columns);
    filled.numbers.assign(filled.numbers.size(), fill);
    copy(filled, matrix);
  }
};

template <class T>
struct Entries {
  std::vector<char> buffer;
  std::vector<T> values, weights;  // in the layout's order
  ObservedEntries<T> view;

  Entries(const Pattern& pattern, const Numbers& given_values, const Numbers& given_weights, bool weighted)
      : buffer(build_layout(pattern)) {
    const LayoutView layout = view_layout(buffer.data(), buffer.size());
    for (int64_t entry = 0; entry < pattern.nnz(); ++entry) {
      const int64_t position = layout.position_of(entry);
      values.push_back(static_cast<T>(given_values[position]));
      weights.push_back(static_cast<T>(given_weights[position]));
    }
    view = observed_entries(layout, values.data(), weighted ? weights.data() : nullptr);
  }
  Entries(const Entries&) = delete;  // the view points into this one
};

class PlainBlas final : public Blas {
 public:
  std::atomic<int> calls{0};  // from all threads

  void multiply(Dtype dtype, const BlasOperand& left, const BlasOperand& right,
                const BlasOperand& result) override {
    ++calls;
    dtype == Dtype::float64 ? multiply_as<double>(left, right, result)
                            : multiply_as<float>(left, right, result);
  }

 private:
  template <class T>
  static T& number(const BlasOperand& of, int64_t row, int64_t column) {
    return static_cast<T*>(of.data)[of.transposed ? column * of.stride + row : row * of.stride + column];
  }
  template <class T>
  static void multiply_as(const BlasOperand& left, const BlasOperand& right, const BlasOperand& result) {
    const int64_t terms = left.transposed ? left.rows : left.columns;
    for (int64_t i = 0; i < result.rows; ++i) {
      for (int64_t j = 0; j < result.columns; ++j) {
        double sum = 0;
        for (int64_t k = 0; k < terms; ++k)
          sum += double(number<T>(left, i, k)) * double(number<T>(right, k, j));
        number<T>(result, i, j) = static_cast<T>(sum);
      }
    }
  }
};

inline std::vector<Rule> rules() {
  return {{RuleKind::gradient_descent, 0.5},
          {RuleKind::gradient_descent, 0.25, 1e-3, 0.8},
          {RuleKind::group_rmsprop, 0.05, 1e-3, 0, 0.9, 0, 0, 1e-6},
          {RuleKind::adam, 0.01, 1e-3, 0, 0, 0.9, 0.99, 1e-4},
          {RuleKind::adaptive_gradient_descent, 1, 1e-3}};
}

// As for ratings: with biases, a mean, a separate weight decay for biases, and gradient clipping.
inline void rate(DescentProblem& problem) {
  const Pattern& pattern = problem.pattern;
  problem.biases = {drawn(pattern.rows, 1, 11), drawn(pattern.columns, 1, 12)};
  problem.mean = 0.75;
  problem.rule.bias_weight_decay = 1e-2;
  problem.rule.gradient_clip = 0.125;
}

// One scale for each row of a parameter as stored.
inline void scale(DescentProblem& problem, int split) {
  const std::vector<PlainMatrix> parameters = problem.parameters();
  for (int j = 0; j < static_cast<int>(parameters.size()); ++j) {
    PlainMatrix scales = parameters[j];
    for (int64_t row = 0; row < scales.rows; ++row) {
      for (int64_t column = 0; column < scales.columns; ++column) {
        scales.at(row, column) = 0.5 + 0.25 * static_cast<double>((j < split ? column : row) % 5);
      }
    }
    problem.scales.push_back(scales);
  }
}

// The numbers of a parameter of a run, or of one of its moments.
template <class T>
std::vector<T> part_of(const Descent<T>& descent, Part part, int parameter) {
  const Matrix shape = descent.shape(parameter);
  std::vector<T> numbers(shape.rows * shape.columns);
  descent.read(part, parameter, numbers.data());
  return numbers;
}

// Moves a run to the state of another one whose rule has this many moments.
template <class T>
void resume_from(Descent<T>& descent, const Descent<T>& other, int moments) {
  for (int moment = 0; moment <= moments; ++moment) {
    const Part part = static_cast<Part>(moment);
    for (int j = 0; j < descent.parameters(); ++j) descent.write(part, j, part_of(other, part, j).data());
  }
  descent.resume_from(other.step(), other.scalars());
}

template <class T>
bool are_at_the_same_point(const Descent<T>& left, const Descent<T>& right, int moments) {
  bool same = left.step() == right.step() && left.loss() == right.loss() && left.scalars() == right.scalars() &&
              left.gradient_norm() == right.gradient_norm();
  for (int moment = 0; moment <= moments; ++moment) {
    const Part part = static_cast<Part>(moment);
    for (int j = 0; j < left.parameters(); ++j)
      same = same && part_of(left, part, j) == part_of(right, part, j);
  }
  return same;
}

}  // namespace dmf::test
