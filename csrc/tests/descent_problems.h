// Runs of gradient descent for tests: chains of random factors over a pattern, their programs, and their
// results from plain loops in double, which form the whole matrix and every gradient by definition.
#pragma once

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <stdexcept>
#include <vector>

#include "../kernels/descent/observed_lines.h"
#include "../kernels/descent/program.h"
#include "patterns.h"
#include "problems.h"

namespace dmf::test {

// Row-major.
struct PlainMatrix {
  int64_t rows, columns;
  Numbers numbers;

  PlainMatrix(int64_t row_count, int64_t column_count)
      : rows(row_count), columns(column_count), numbers(row_count * column_count, 0.0) {}
  double& at(int64_t row, int64_t column) { return numbers[row * columns + column]; }
  double at(int64_t row, int64_t column) const { return numbers[row * columns + column]; }

  PlainMatrix transposed() const {
    PlainMatrix result(columns, rows);
    for (int64_t i = 0; i < rows; ++i) {
      for (int64_t j = 0; j < columns; ++j) result.at(j, i) = at(i, j);
    }
    return result;
  }
};

inline PlainMatrix operator*(const PlainMatrix& left, const PlainMatrix& right) {
  PlainMatrix result(left.rows, right.columns);
  for (int64_t i = 0; i < left.rows; ++i) {
    for (int64_t k = 0; k < left.columns; ++k) {
      for (int64_t j = 0; j < right.columns; ++j) result.at(i, j) += left.at(i, k) * right.at(k, j);
    }
  }
  return result;
}

// A chain W_N · … · W_1 with `widths` d_0 … d_N that descends on the observed entries of a random matrix.
struct DescentProblem {
  Pattern pattern;
  std::vector<PlainMatrix> factors;  // W_1 first
  Numbers values, weights;           // in the caller's order
  std::vector<PlainMatrix> biases;   // of rows (m, 1) and of columns (n, 1), or none
  double mean = 0;
  std::vector<PlainMatrix> scales;  // of each number of a parameter, or none
  Rule rule;
  StopRules stop;
  double scale = 0.5;

  DescentProblem(const Pattern& p, const std::vector<int64_t>& widths, bool weighted, unsigned seed)
      : pattern(p), values(draw(p.nnz(), seed)), weights(draw(p.nnz(), seed + 1)) {
    std::mt19937_64 generator(seed + 2);
    std::normal_distribution<double> normal;
    for (size_t j = 1; j < widths.size(); ++j) {
      PlainMatrix factor(widths[j], widths[j - 1]);
      // Floats, so that both types start from the same numbers.
      for (double& number : factor.numbers) {
        number = static_cast<float>(normal(generator) / std::sqrt(widths[j - 1]));
      }
      factors.push_back(factor);
    }
    for (double& weight : weights) weight = weighted ? std::fabs(weight) + 0.125 : 1.0;
    is_weighted = weighted;
    scale = 1 / weight_sum();
  }

  bool is_weighted;
  int depth() const { return static_cast<int>(factors.size()); }
  std::vector<PlainMatrix> parameters() const {
    std::vector<PlainMatrix> all = factors;
    all.insert(all.end(), biases.begin(), biases.end());
    return all;
  }

  double weight_sum() const {
    double sum = 0;
    for (const double weight : weights) sum += weight;
    return sum;
  }
};

// The program that splits the chain below W_{split + 1}; split 0 forms the matrix.
inline DescentProgram program_of(const DescentProblem& problem, int split) {
  DescentProgram program;
  program.factors = problem.depth();
  for (int j = 0; j < problem.depth(); ++j) {
    const PlainMatrix& factor = problem.factors[j];
    program.matrices.push_back(j < split ? Matrix{factor.columns, factor.rows}
                                         : Matrix{factor.rows, factor.columns});
  }
  const auto chain = [&](int first, int last, int step) {
    int result = first;
    for (int j = first; j != last;) {
      j += step;
      const Product product{result, j, static_cast<int>(program.matrices.size())};
      program.matrices.push_back({program.matrices[result].rows, program.matrices[j].columns});
      program.products.push_back(product);
      result = product.result;
    }
    return result;
  };
  program.a = chain(problem.depth() - 1, split, -1);
  if (split > 0) program.b_transposed = chain(0, split - 1, 1);
  return program;
}

// The same loop as the engines', written from the definitions.
class PlainDescent {
 public:
  explicit PlainDescent(const DescentProblem& problem)
      : factors(problem.parameters()),
        problem_(problem),
        first_moments_(factors),
        second_moments_(first_moments_) {
    for (auto* moments : {&first_moments_, &second_moments_}) {
      for (PlainMatrix& moment : *moments) moment.numbers.assign(moment.numbers.size(), 0.0);
    }
  }

  dmf::Outcome descend_to(int64_t until) {
    for (;;) {
      evaluate();
      if (!std::isfinite(loss)) return dmf::Outcome::diverged;
      if (loss <= problem_.stop.train_loss) return dmf::Outcome::train_loss_threshold;
      if (gradient_norm <= problem_.stop.gradient_norm) return dmf::Outcome::gradient_norm_threshold;
      if (step == until) return dmf::Outcome::reached;
      update();
    }
  }

  std::vector<PlainMatrix> factors;  // followed by the biases
  int64_t step = 0;
  double loss = 0, gradient_norm = 0;

 private:
  void evaluate() {
    const int depth = problem_.depth();
    // before[j] = W_j … W_1 and after[j] = W_N … W_{j + 1}, with identities at the ends.
    std::vector<PlainMatrix> before{identity(factors[0].columns)}, after{identity(factors[depth - 1].rows)};
    for (int j = 0; j < depth; ++j) before.push_back(factors[j] * before.back());
    for (int j = depth - 1; j > 0; --j) after.insert(after.begin(), after.front() * factors[j]);
    const PlainMatrix& product = before.back();
    PlainMatrix residuals(product.rows, product.columns), ones_of_rows(1, product.rows),
        ones(product.columns, 1);
    ones_of_rows.numbers.assign(product.rows, 1.0);
    ones.numbers.assign(product.columns, 1.0);
    loss = 0;
    const Pattern& pattern = problem_.pattern;
    for (int64_t k = 0; k < pattern.nnz(); ++k) {
      const int64_t i = pattern.row_of[k], j = pattern.column_of[k];
      double residual = product.at(i, j) + problem_.mean - problem_.values[k];
      if (has_biases()) residual += factors[depth].numbers[i] + factors[depth + 1].numbers[j];
      loss += problem_.weights[k] * residual * residual;
      residuals.at(i, j) = 2 * problem_.scale * problem_.weights[k] * residual;
    }
    loss /= problem_.weight_sum();
    gradients_.clear();
    for (int j = 0; j < depth; ++j) {
      gradients_.push_back(after[j].transposed() * residuals * before[j].transposed());
    }
    if (has_biases()) {
      gradients_.push_back(residuals * ones);
      gradients_.push_back((ones_of_rows * residuals).transposed());
    }
    double squares = 0;
    each([&](size_t j, size_t k) {
      gradients_[j].numbers[k] *= scale(j, k);
      squares += gradients_[j].numbers[k] * gradients_[j].numbers[k];
    });
    gradient_norm = std::sqrt(squares);
  }

  bool has_biases() const { return !problem_.biases.empty(); }
  // The rule works on parameters divided by their scales.
  double scale(size_t j, size_t k) const {
    return problem_.scales.empty() ? 1.0 : problem_.scales[j].numbers[k];
  }
  template <class Body>
  void each(const Body& body) const {
    for (size_t j = 0; j < factors.size(); ++j) {
      for (size_t k = 0; k < factors[j].numbers.size(); ++k) body(j, k);
    }
  }

  void update() {
    const Rule& rule = problem_.rule;
    ++step;
    const double t = static_cast<double>(step);
    double squares = 0, turned_squares = 0, parameter_squares = 0;
    const double clip =
        rule.gradient_clip == 0 ? 1 : std::min(1.0, rule.gradient_clip / (gradient_norm + 1e-6));
    each([&](size_t j, size_t k) {
      const double decay = j < problem_.factors.size() ? rule.weight_decay : rule.bias_weight_decay;
      double &g = gradients_[j].numbers[k], x = factors[j].numbers[k] / scale(j, k);
      g = clip * g + decay * x;
      squares += g * g;
      parameter_squares += x * x;
      turned_squares += (g - first_moments_[j].numbers[k]) * (g - first_moments_[j].numbers[k]);
    });
    group_square_ = rule.alpha * group_square_ + (1 - rule.alpha) * squares;
    if (rule.kind == RuleKind::adaptive_gradient_descent) {
      if (step == 1) {
        size_ = 1e-3 * std::sqrt(parameter_squares) / std::sqrt(squares);
      } else {
        const double before = size_;
        size_ = std::min(std::sqrt(1 + growth_) * size_, length_ / (2 * std::sqrt(turned_squares)));
        growth_ = size_ / before;
      }
      length_ = rule.lr * size_ * std::sqrt(squares);
    }
    each([&](size_t j, size_t k) {
      const double g = gradients_[j].numbers[k], s = scale(j, k);
      double &w = factors[j].numbers[k], &u = first_moments_[j].numbers[k], &v = second_moments_[j].numbers[k];
      switch (rule.kind) {
        case RuleKind::gradient_descent:
          v = step == 1 ? g : rule.momentum * v + g;
          w -= s * rule.lr * v;
          break;
        case RuleKind::group_rmsprop:
          w -= s * rule.lr / (std::sqrt(group_square_ / (1 - std::pow(rule.alpha, t))) + rule.eps) * g;
          break;
        case RuleKind::adam:
          u = rule.beta1 * u + (1 - rule.beta1) * g;
          v = rule.beta2 * v + (1 - rule.beta2) * g * g;
          w -= rule.lr / (1 - std::pow(rule.beta1, t)) * u /
               (std::sqrt(v) / std::sqrt(1 - std::pow(rule.beta2, t)) + rule.eps);
          break;
        case RuleKind::adaptive_gradient_descent:
          u = g;
          w -= s * rule.lr * size_ * g;
          break;
        case RuleKind::preconditioned_lbfgs:
          throw std::logic_error("L-BFGS has plain loops of its own");
      }
    });
  }

  static PlainMatrix identity(int64_t size) {
    PlainMatrix result(size, size);
    for (int64_t i = 0; i < size; ++i) result.at(i, i) = 1;
    return result;
  }

  const DescentProblem& problem_;
  std::vector<PlainMatrix> gradients_, first_moments_, second_moments_;
  double group_square_ = 0;
  double size_ = 0, growth_ = std::numeric_limits<double>::infinity(), length_ = 0;  // of adaptive steps
};

}  // namespace dmf::test
