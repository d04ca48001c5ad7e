// The native engine against plain loops in double, on every instruction set: its kernels, its passes at Ω, its
// products and whole runs. The numbers that `draw` makes are multiples of 1/32 below 8, so that sums of their
// products are exact in float32 too, and equality can be asked for.
#include <catch2/catch.hpp>
#include <cmath>
#include <memory>
#include <string>

#include "../kernels/cpu/chain.h"
#include "../kernels/cpu/descent.h"
#include "../kernels/cpu/line_pass.h"
#include "../kernels/instruction_set.h"
#include "descent_problems.h"

using namespace dmf;
using namespace dmf::test;

namespace {

const std::vector<int64_t> sizes{1, 2, 3, 5, 16, 17, 31, 47, 70};
constexpr double rubbish = 1e30;

template <class Body>
void on_every_instruction_set(const Body& body) {
  const std::string before = active_instruction_set();
  for (const std::string& name : available_instruction_sets()) {
    INFO("instruction set " << name);
    REQUIRE(set_instruction_set(name));
    body();
  }
  REQUIRE(set_instruction_set(before));
}

PlainMatrix drawn(int64_t rows, int64_t columns, unsigned seed) {
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

// What a matrix holds, as long as there are zeros behind its last column.
template <class T>
Numbers numbers_of(const DenseMatrix<T>& matrix) {
  Numbers numbers;
  for (int64_t i = 0; i < matrix.rows; ++i) {
    for (int64_t j = 0; j < matrix.columns; ++j) numbers.push_back(static_cast<double>(matrix.row(i)[j]));
    for (int64_t j = matrix.columns; j < matrix.stride; ++j) REQUIRE(matrix.row(i)[j] == 0);
  }
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
void check_products(const StepKernels<T>& kernels) {
  for (const int64_t m : sizes) {
    for (const int64_t k : sizes) {
      const PlainMatrix left = drawn(m, k, 1);
      const Padded<T> padded_left(left), padded_transposed(left.transposed());
      Padded<T> transposed(k, m, rubbish);
      for (int64_t p = 0; p < transposed.matrix.numbers(); ++p) transposed.memory[p] = T(rubbish);
      kernels.transpose(padded_left.matrix, transposed.matrix);
      CHECK(numbers_of(transposed.matrix) == left.transposed().numbers);
      for (const int64_t n : sizes) {
        INFO(m << " x " << k << " x " << n);
        const PlainMatrix right = drawn(k, n, 2);
        const Numbers expected = (left * right).numbers;
        const Padded<T> padded_right(right), product(m, n, rubbish), other(m, n, rubbish);
        kernels.multiply(padded_left.matrix, padded_right.matrix, product.matrix);
        CHECK(numbers_of(product.matrix) == expected);
        kernels.multiply_transposed(padded_transposed.matrix, padded_right.matrix, other.matrix);
        CHECK(numbers_of(other.matrix) == expected);
      }
    }
  }
}

// Line i has i entries, in an order that is neither that of rows nor that of columns.
Pattern lines_of_every_length() {
  Pattern pattern{21, 23, {}, {}};
  for (int64_t entry = 0; entry < 20; ++entry) {
    for (int64_t row = pattern.rows - 1; row > entry; --row) {
      pattern.row_of.push_back(row);
      pattern.column_of.push_back((row * 7 + entry * 5) % pattern.columns);
    }
  }
  return pattern;
}

template <class T>
void check_lines(const StepKernels<T>& kernels) {
  const Pattern pattern = lines_of_every_length();
  const ObservedLines sorted = sort_into_lines(pattern.row_of.data(), pattern.column_of.data(), pattern.nnz(),
                                               pattern.rows, pattern.columns);
  for (const int64_t h : sizes) {
    INFO("h " << h);
    const PlainMatrix a = drawn(pattern.rows, h, 1), b = drawn(pattern.columns, h, 2);
    const Padded<T> padded_a(a), padded_b(b), sums_a(pattern.rows, h, rubbish),
        sums_b(pattern.columns, h, rubbish);
    std::vector<int32_t> columns = sorted.column, rows = sorted.row;
    for (int32_t& column : columns) column *= static_cast<int32_t>(padded_b.matrix.stride);
    for (int32_t& row : rows) row *= static_cast<int32_t>(padded_a.matrix.stride);
    const LineSide row_side{sorted.row_start.data(), columns.data(), nullptr, pattern.rows};
    const LineSide column_side{sorted.column_start.data(), rows.data(), sorted.place.data(), pattern.columns};

    const Numbers drawn_coefficients = draw(pattern.nnz(), 3);
    std::vector<T> dots(pattern.nnz() + 1, T(rubbish)), coefficients(pattern.nnz());
    Numbers expected_dots(dots.size(), static_cast<double>(T(rubbish)));
    PlainMatrix expected_a(pattern.rows, h), expected_b(pattern.columns, h);
    for (int64_t place = 0; place < pattern.nnz(); ++place) {
      const int64_t k = sorted.position[place], i = pattern.row_of[k], j = pattern.column_of[k];
      coefficients[place] = static_cast<T>(drawn_coefficients[k]);
      expected_dots[place] = 0;
      for (int64_t v = 0; v < h; ++v) {
        expected_dots[place] += a.at(i, v) * b.at(j, v);
        expected_a.at(i, v) += drawn_coefficients[k] * b.at(j, v);
        expected_b.at(j, v) += drawn_coefficients[k] * a.at(i, v);
      }
    }
    kernels.dots(row_side, padded_a.matrix, padded_b.matrix, dots.data());
    CHECK(Numbers(dots.begin(), dots.end()) == expected_dots);
    kernels.gather(row_side, coefficients.data(), padded_b.matrix, sums_a.matrix);
    CHECK(numbers_of(sums_a.matrix) == expected_a.numbers);
    kernels.gather(column_side, coefficients.data(), padded_a.matrix, sums_b.matrix);
    CHECK(numbers_of(sums_b.matrix) == expected_b.numbers);
  }
}

template <class T>
void check_numbers(const StepKernels<T>& kernels, int64_t count) {
  INFO(count << " numbers");
  const Numbers w = draw(count + 1, 1), g = draw(count + 1, 2), u = draw(count + 1, 3),
                drawn_v = draw(count + 1, 4);
  Numbers v;  // of squares
  for (const double number : drawn_v) v.push_back(std::fabs(number));
  double squares = 0, decayed_squares = 0;
  Numbers plain_w = w, momentum_w = w, momentum_u = u, adam_w = w, adam_u = u, adam_v = v;
  UpdateFactors<T> factors;
  factors.weight_decay = T(0.5);
  factors.step_size = T(0.25);
  factors.momentum = T(0.5);
  factors.one_less_beta1 = T(0.125);
  factors.beta2 = T(0.75);
  factors.one_less_beta2 = T(0.25);
  factors.root_correction = T(0.5);
  factors.eps = T(0.0625);
  for (int64_t k = 0; k < count; ++k) {
    const double d = g[k] + 0.5 * w[k];
    squares += g[k] * g[k];
    decayed_squares += d * d;
    plain_w[k] -= 0.25 * d;
    momentum_u[k] = 0.5 * u[k] + d;
    momentum_w[k] -= 0.25 * momentum_u[k];
    adam_u[k] = 0.875 * u[k] + 0.125 * d;
    adam_v[k] = 0.75 * v[k] + 0.25 * d * d;
    adam_w[k] -= 0.25 * adam_u[k] / (std::sqrt(adam_v[k]) / 0.5 + 0.0625);
  }
  const auto same = [](const std::vector<T>& actual, const Numbers& expected) {
    return Numbers(actual.begin(), actual.end()) == expected;
  };
  std::vector<T> new_w = narrow<T>(w), new_u = narrow<T>(u), new_v = narrow<T>(v);
  const std::vector<T> as_g = narrow<T>(g);
  CHECK(kernels.sum_of_squares(as_g.data(), count) == squares);
  CHECK(kernels.sum_of_decayed_squares(as_g.data(), new_w.data(), count, T(0.5)) == decayed_squares);
  kernels.descend(new_w.data(), as_g.data(), nullptr, count, factors);
  CHECK(same(new_w, plain_w));
  new_w = narrow<T>(w);
  kernels.descend(new_w.data(), as_g.data(), new_u.data(), count, factors);
  CHECK(same(new_w, momentum_w));
  CHECK(same(new_u, momentum_u));
  new_w = narrow<T>(w);
  new_u = narrow<T>(u);
  kernels.adam(new_w.data(), as_g.data(), new_u.data(), new_v.data(), count, factors);
  const double tolerance = sizeof(T) == 8 ? 1e-14 : 1e-6;
  CHECK(close(Numbers(new_w.begin(), new_w.end()), adam_w, tolerance));
  CHECK(close(Numbers(new_u.begin(), new_u.end()), adam_u, tolerance));
  CHECK(close(Numbers(new_v.begin(), new_v.end()), adam_v, tolerance));

  for (const bool weighted : {false, true}) {  // w: dots, g: values, v: weights
    Numbers coefficients = w;
    double loss = 0;
    for (int64_t k = 0; k < count; ++k) {
      const double residual = w[k] - g[k], weighted_residual = (weighted ? v[k] : 1.0) * residual;
      loss += weighted_residual * residual;
      coefficients[k] = 0.5 * weighted_residual;
    }
    std::vector<T> dots = narrow<T>(w);
    const std::vector<T> weights = narrow<T>(v);
    CHECK(kernels.residuals(as_g.data(), weighted ? weights.data() : nullptr, count, T(0.5), dots.data()) ==
          loss);
    CHECK(same(dots, coefficients));
  }
}

template <class T>
struct Entries {
  std::vector<char> buffer;
  std::vector<T> values, weights, layout_values, layout_weights;
  ObservedEntries<T> view;

  Entries(const Pattern& pattern, const Numbers& given_values, const Numbers& given_weights, bool weighted)
      : buffer(build_layout(pattern)), values(narrow<T>(given_values)), weights(narrow<T>(given_weights)) {
    view = {pattern.nnz(), pattern.row_of.data(), pattern.column_of.data(), values.data(), nullptr};
    view.layout = view_layout(buffer.data(), buffer.size());
    for (int64_t entry = 0; entry < pattern.nnz(); ++entry) {
      layout_values.push_back(values[view.layout.position_of(entry)]);
      layout_weights.push_back(weights[view.layout.position_of(entry)]);
    }
    view.layout_values = layout_values.data();
    if (weighted) {
      view.weights = weights.data();
      view.layout_weights = layout_weights.data();
    }
  }
  Entries(const Entries&) = delete;  // the view points into this one
};

template <class T>
void check_pass(const Pattern& pattern, int64_t h, bool weighted, bool by_lines) {
  INFO(pattern.rows << " x " << pattern.columns << ", h " << h);
  const Problem problem(pattern, h, weighted);
  const auto expected = plain_loops(problem, 0.25);
  const Entries<T> entries(pattern, problem.values, problem.weights, weighted);
  const Padded<T> a(drawn(pattern.rows, h, 1)), b(drawn(pattern.columns, h, 2));
  const Padded<T> gradient_a(pattern.rows, h, rubbish), gradient_b(pattern.columns, h, rubbish);
  const Sides<T> sides{a.matrix, b.matrix, gradient_a.matrix, gradient_b.matrix};
  CHECK(LinePass<T>::suits(pattern.nnz(), sides) == by_lines);
  const double tolerance = sizeof(T) == 8 ? 1e-13 : 1e-5;
  for (const int threads : {1, 3}) {
    StdThreads parallel(threads);
    const auto pass = make_observed_pass(entries.view, 0.25, sides, parallel);
    for (int time = 0; time < 2; ++time) {
      CHECK(std::fabs(pass->run() - expected.loss) <= tolerance * expected.loss);
      CHECK(close(numbers_of(gradient_a.matrix), expected.gradient_a, tolerance));
      CHECK(close(numbers_of(gradient_b.matrix), expected.gradient_b, tolerance));
    }
  }
}

template <class T>
void check_formed_pass(const Pattern& pattern, bool weighted) {
  const Problem problem(pattern, 1, weighted);
  const Entries<T> entries(pattern, problem.values, problem.weights, weighted);
  const PlainMatrix w = drawn(pattern.rows, pattern.columns, 7);
  const Padded<T> padded(w), gradient(pattern.rows, pattern.columns, 0);
  PlainMatrix expected(pattern.rows, pattern.columns);
  double loss = 0;
  for (int64_t k = 0; k < pattern.nnz(); ++k) {
    const int64_t i = pattern.row_of[k], j = pattern.column_of[k];
    const double residual = w.at(i, j) - problem.values[k];
    loss += problem.weights[k] * residual * residual;
    expected.at(i, j) = 0.5 * problem.weights[k] * residual;
  }
  for (const int threads : {1, 3}) {
    StdThreads parallel(threads);
    const Sides<T> sides{padded.matrix, {}, gradient.matrix, {}};
    CHECK(make_observed_pass(entries.view, 0.25, sides, parallel)->run() == loss);
    CHECK(numbers_of(gradient.matrix) == expected.numbers);
  }
}

class PlainBlas final : public Blas {
 public:
  int calls = 0;

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

template <class T>
void check_chain(const DescentProblem& problem, int split, int calls) {
  INFO("split " << split);
  const DescentProgram program = program_of(problem, split);
  PlainBlas blas;
  Chain<T> chain(program, blas);
  std::vector<PlainMatrix> values, gradients;
  for (const Matrix& matrix : program.matrices) {
    values.push_back(drawn(matrix.rows, matrix.columns, 1 + static_cast<unsigned>(values.size())));
    gradients.push_back(drawn(matrix.rows, matrix.columns, 50));
  }
  for (int factor = 0; factor < program.factors; ++factor) copy(values[factor], chain.value(factor));
  for (const int end : {program.a, program.b_transposed}) {
    if (end != no_matrix) copy(gradients[end], chain.gradient(end));
  }
  for (const Product& product : program.products) {
    values[product.result] = values[product.left] * values[product.right];
  }
  for (auto product = program.products.rbegin(); product != program.products.rend(); ++product) {
    gradients[product->left] = gradients[product->result] * values[product->right].transposed();
    gradients[product->right] = values[product->left].transposed() * gradients[product->result];
  }
  chain.forward();
  chain.backward();
  CHECK(blas.calls == calls);
  const double tolerance = sizeof(T) == 8 ? 1e-13 : 1e-5;
  for (size_t matrix = 0; matrix < values.size(); ++matrix) {
    CHECK(close(numbers_of(chain.value(static_cast<int>(matrix))), values[matrix].numbers, tolerance));
    CHECK(close(numbers_of(chain.gradient(static_cast<int>(matrix))), gradients[matrix].numbers, tolerance));
  }
}

std::vector<Rule> rules() {
  return {{RuleKind::gradient_descent, 0.5},
          {RuleKind::gradient_descent, 0.25, 1e-3, 0.8},
          {RuleKind::group_rmsprop, 0.05, 1e-3, 0, 0.9, 0, 0, 1e-6},
          {RuleKind::adam, 0.01, 1e-3, 0, 0, 0.9, 0.99, 1e-4}};
}

// A run with all that it needs.
template <class T>
struct Run {
  const DescentProblem& problem;
  const int split;
  const DescentProgram program;
  Entries<T> entries;
  PlainBlas blas;
  StdThreads parallel;
  Descent<T> descent;

  Run(const DescentProblem& p, int split_at, int threads)
      : problem(p),
        split(split_at),
        program(program_of(p, split)),
        entries(p.pattern, p.values, p.weights, p.is_weighted),
        parallel(threads),
        descent(program, entries.view, p.scale, p.weight_sum(), p.rule, blas, parallel) {
    for (int j = 0; j < p.depth(); ++j) {
      descent.write(Part::factor, j,
                    narrow<T>((j < split ? p.factors[j].transposed() : p.factors[j]).numbers).data());
    }
  }

  dmf::Outcome to(int64_t until, double most_seconds = 1e9) {
    return descent.run(until, problem.stop, most_seconds);
  }
  std::vector<T> part(int moment, int factor) const {
    std::vector<T> numbers(problem.factors[factor].numbers.size());
    descent.read(static_cast<Part>(moment), factor, numbers.data());
    return numbers;
  }
  void go_on_from(const Run& other) {
    for (int moment = 0; moment <= problem.rule.moments(); ++moment) {
      for (int j = 0; j < problem.depth(); ++j) {
        descent.write(static_cast<Part>(moment), j, other.part(moment, j).data());
      }
    }
    descent.go_on_from(other.descent.step(), other.descent.square_average());
  }
  bool operator==(const Run& other) const {
    bool same = descent.step() == other.descent.step() && descent.loss() == other.descent.loss() &&
                descent.square_average() == other.descent.square_average() &&
                descent.gradient_norm() == other.descent.gradient_norm();
    for (int moment = 0; moment <= problem.rule.moments(); ++moment) {
      for (int j = 0; j < problem.depth(); ++j) same = same && part(moment, j) == other.part(moment, j);
    }
    return same;
  }
};

// One run, runs in pieces and runs with pauses are bitwise the same, for any number of threads.
template <class T>
void check_pieces(const DescentProblem& problem, int split, int64_t steps) {
  Run<T> whole(problem, split, 1);
  CHECK(whole.to(steps) == dmf::Outcome::reached);
  CHECK(whole.descent.step() == steps);
  for (const int threads : {1, 3}) {
    Run<T> first(problem, split, threads), second(problem, split, threads), paused(problem, split, threads);
    CHECK(first.to(steps / 3) == dmf::Outcome::reached);
    second.go_on_from(first);
    for (Run<T>* run : {&first, &second}) {
      CHECK(run->to(steps) == dmf::Outcome::reached);
      CHECK(*run == whole);
    }
    for (int64_t step = 1; step < steps; ++step) CHECK(paused.to(steps, -1) == dmf::Outcome::paused);
    CHECK(paused.to(steps, -1) == dmf::Outcome::reached);
    CHECK(paused == whole);
  }
}

template <class T>
void check_run(const DescentProblem& problem, int split, int64_t steps) {
  PlainDescent plain(problem);
  const dmf::Outcome expected = plain.descend_to(steps);
  Run<T> run(problem, split, 1);
  CHECK(run.to(steps) == expected);
  CHECK(run.descent.step() == plain.step);
  const double tolerance = sizeof(T) == 8 ? 1e-10 : 1e-3;
  CHECK(run.descent.loss() == Approx(plain.loss).epsilon(tolerance));
  CHECK(run.descent.gradient_norm() == Approx(plain.gradient_norm).epsilon(tolerance));
  for (int j = 0; j < problem.depth(); ++j) {
    const std::vector<T> numbers = run.part(0, j);
    const PlainMatrix& factor = plain.factors[j];
    CHECK(close(Numbers(numbers.begin(), numbers.end()), (j < split ? factor.transposed() : factor).numbers,
                tolerance));
  }
}

DescentProblem small_problem(const Rule& rule, bool weighted) {
  DescentProblem problem(random_pattern(40, 50, 300, 1, 1), {50, 17, 31, 40}, weighted, 5);
  problem.rule = rule;
  return problem;
}

}  // namespace

TEMPLATE_TEST_CASE("kernels of a step agree with plain loops", "[descent]", float, double) {
  on_every_instruction_set([] {
    const StepKernels<TestType>& kernels = active_step_kernels<TestType>();
    check_products(kernels);
    check_lines(kernels);
    for (int64_t count = 0; count <= 70; ++count) check_numbers(kernels, count);
  });
}

TEMPLATE_TEST_CASE("passes at observed entries agree with plain loops", "[descent]", float, double) {
  const Pattern few = random_pattern(40, 50, 300, 1, 1), many = random_pattern(1500, 1300, 40000, 2, 8);
  on_every_instruction_set([&] {
    for (const bool weighted : {false, true}) {
      for (const int64_t h : sizes) check_pass<TestType>(few, h, weighted, true);
      check_pass<TestType>(many, 70, weighted, false);
      check_formed_pass<TestType>(few, weighted);
      check_formed_pass<TestType>(full_pattern(300, 290), weighted);
    }
  });
}

TEMPLATE_TEST_CASE("products of a chain agree with plain loops", "[descent]", float, double) {
  const DescentProblem large(random_pattern(31, 200, 50, 1, 1), {200, 300, 20, 31}, false, 5);
  const DescentProblem small = small_problem({}, false);
  on_every_instruction_set([&] {
    for (const int split : {0, 1, 2}) {
      check_chain<TestType>(small, split, 0);
      check_chain<TestType>(large, split, split == 1 ? 0 : 3);  // products with W_1, forward and backward
    }
  });
}

TEMPLATE_TEST_CASE("runs agree with plain loops, in one or in pieces", "[descent]", float, double) {
  on_every_instruction_set([] {
    for (const Rule& rule : rules()) {
      INFO("rule " << static_cast<int>(rule.kind) << ", momentum " << rule.momentum);
      for (const int split : {0, 1, 2}) {
        const DescentProblem problem = small_problem(rule, split == 1);
        check_run<TestType>(problem, split, 30);
        check_pieces<TestType>(problem, split, 12);
      }
      // Large enough for the pass by tiles and for threads in the update.
      DescentProblem large(random_pattern(450, 500, 4000, 1, 2), {500, 300, 450}, true, 6);
      large.rule = rule;
      check_pieces<TestType>(large, 1, 4);
    }
  });
}

TEMPLATE_TEST_CASE("runs end where their rules say", "[descent]", float, double) {
  on_every_instruction_set([] {
    DescentProblem problem = small_problem(rules()[0], true);
    PlainDescent plain(problem);
    plain.descend_to(20);
    const double loss = plain.loss, norm = plain.gradient_norm;
    plain.descend_to(21);
    REQUIRE(plain.loss < loss);
    problem.stop.train_loss = (loss + plain.loss) / 2;
    check_run<TestType>(problem, 1, 30);
    problem.stop = {};
    problem.stop.gradient_norm = (norm + plain.gradient_norm) / 2;
    check_run<TestType>(problem, 1, 1000);
    problem.stop = {};
    for (Rule rule : rules()) {
      if (rule.kind == RuleKind::adam) continue;
      rule.lr = sizeof(TestType) == 8 ? 1e60 : 1e9;  // GroupRMSprop grows by about so much a step
      problem.rule = rule;
      for (const int threads : {1, 3}) {
        Run<TestType> run(problem, 1, threads);
        CHECK(run.to(1000) == dmf::Outcome::diverged);
        CHECK(run.descent.step() < 1000);
        CHECK(run.to(1000) == dmf::Outcome::diverged);
      }
    }
  });
}
