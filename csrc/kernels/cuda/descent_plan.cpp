#include "descent_plan.h"

#include <algorithm>
#include <cstring>
#include <string>

#include "array_placement.h"

namespace dmf::cuda {

namespace {

template <class Error = std::invalid_argument>
void require(bool holds, const std::string& sentence) {
  if (!holds) throw Error("a block on a GPU cannot execute this run: " + sentence);
}

constexpr auto require_size = require<TooLargeForBlock>;

// Collects the arrays of a run and how a step uses them, and places them.
class Planner {
 public:
  Planner(const DescentProgram& program, int64_t nnz, bool weighted, int number_bytes)
      : program_(program),
        nnz_(nnz),
        number_bytes_(number_bytes),
        product_count_(static_cast<int>(program.products.size())) {
    run_.factors = program.factors;
    run_.products = product_count_;
    run_.a = program.a;
    run_.b_transposed = program.b_transposed;
    std::copy(program.products.begin(), program.products.end(), run_.product);
    run_.observed.nnz = static_cast<int32_t>(nnz);
    run_.observed.weighted = weighted;
    for (size_t number = 0; number < program.matrices.size(); ++number) add_matrix(static_cast<int>(number));
    add_observed(weighted);
  }

  BlockPlan finish(const RunOptions& options, int64_t shared_limit) {
    add_moments(options.rule.moments());
    const Placement placed = place_arrays(uses_, shared_front, shared_limit, homes_bytes_);
    require_size(placed.memory_bytes <= INT32_MAX, "it would need 2 GB of memory or more");
    for (size_t k = 0; k < uses_.size(); ++k) arrays_[k]->place = placed.places[k];
    run_.rule = options.rule;
    run_.stop = options.stop;
    run_.scale = options.scale;
    run_.total_weight = options.total_weight;
    return {run_, placed.shared_bytes, placed.memory_bytes, cycles()};
  }

 private:
  // In float32; descent.cuh has the counts.
  double cycles() const {
    const Matrix a = program_.matrices[program_.a];
    double sum = 400.0 * (update_part() + 1);
    sum += static_cast<double>(nnz_) * (program_.forms_product() ? 1.0 : 0.1 * a.columns);
    for (const Product& product : program_.products) {
      const Matrix left = program_.matrices[product.left], result = program_.matrices[product.result];
      sum += 3 * 0.0099 * left.columns * result.rows * result.columns;
    }
    for (int factor = 0; factor < program_.factors; ++factor) {
      sum += 0.15 * program_.matrices[factor].rows * program_.matrices[factor].columns;
    }
    return sum;
  }

  // The parts of a step: products, rows, columns, products backward, update.
  int forward_of(int product) const { return product; }
  int rows_part() const { return product_count_; }
  int columns_part() const { return product_count_ + 1; }
  int backward_of(int product) const { return 2 * product_count_ + 1 - product; }
  int update_part() const { return 2 * product_count_ + 2; }

  int product_with_result(int number) const {
    for (int p = 0; p < product_count_; ++p) {
      if (program_.products[p].result == number) return p;
    }
    return -1;
  }

  int product_with_operand(int number) const {
    for (int p = 0; p < product_count_; ++p) {
      if (program_.products[p].left == number || program_.products[p].right == number) return p;
    }
    return -1;
  }

  void add(BlockArray& array, int64_t bytes, bool has_home, int first, int last, double reads) {
    array.bytes = static_cast<int32_t>(bytes);
    if (has_home) array.home = static_cast<int32_t>(take_home(bytes));
    arrays_.push_back(&array);
    uses_.push_back({bytes, first, last, reads, array.home});
  }

  int64_t take_home(int64_t bytes) {
    const int64_t home = homes_bytes_;
    homes_bytes_ += aligned(bytes);
    return home;
  }

  // How often the 4 × 10 tiles of the products read each number of a matrix: a left operand once for every ten
  // columns of the result, a right one for every four rows. Rows gathered at Ω count three times: they wait for
  // their index, and no two threads read them together.
  void add_matrix(int number) {
    BlockMatrix& matrix = run_.matrices[number];
    matrix.rows = static_cast<int32_t>(program_.matrices[number].rows);
    matrix.columns = static_cast<int32_t>(program_.matrices[number].columns);
    matrix.stride = padded(matrix.columns) + (padded(matrix.columns) % 8 == 0 ? 4 : 0);
    const int64_t bytes = (int64_t{padded(matrix.rows)} * matrix.stride + 8) * number_bytes_;

    const bool is_factor = number < program_.factors, is_a = number == program_.a;
    const bool is_side = is_a || number == program_.b_transposed, whole_loop = is_a && program_.forms_product();
    double value_reads = 1, gradient_reads = is_factor ? 2 : 0;
    int value_first = 0, value_last = update_part();
    int gradient_first = is_a ? rows_part() : columns_part(), gradient_last = update_part();
    if (!is_factor) {
      const int made = product_with_result(number);
      const Product& product = program_.products[made];
      value_first = forward_of(made);
      value_last = is_side ? columns_part() : update_part();
      gradient_last = backward_of(made);
      gradient_reads += program_.matrices[product.left].columns / 10.0;  // dX_result · X_rightᵀ
      gradient_reads += program_.matrices[product.left].columns / 4.0;   // X_leftᵀ · dX_result
    }
    if (is_side) {
      if (!whole_loop) value_reads += 3.0 * static_cast<double>(nnz_) / matrix.rows;
    } else {
      const int used = product_with_operand(number);
      const Product& product = program_.products[used];
      const Matrix left = program_.matrices[product.left], right = program_.matrices[product.right];
      value_reads += 2 * (number == product.left ? right.columns / 10.0 : left.rows / 4.0);
      gradient_first = backward_of(used);
      if (!is_factor) value_last = backward_of(used);
    }
    // The gradient of a formed product is set to zero outside Ω once, at the start of a launch.
    if (whole_loop) {
      gradient_first = 0;
      gradient_last = update_part();
    }
    add(matrix.value, bytes, is_factor, value_first, value_last, value_reads);
    add(matrix.gradient, bytes, false, gradient_first, gradient_last, gradient_reads);
  }

  void add_observed(bool weighted) {
    BlockObserved& observed = run_.observed;
    const auto& [a, b] =
        std::pair(program_.matrices[program_.a], program_.matrices[std::max(program_.b_transposed, 0)]);
    const bool has_columns = !program_.forms_product();
    const int64_t rows = padded(static_cast<int>(a.rows)), numbers = nnz_ * number_bytes_;
    const auto always = [&](BlockArray& array, int64_t bytes, double reads) {
      add(array, bytes, true, 0, update_part(), reads);
    };
    always(observed.row_start, (rows + 1) * 4, 8);
    always(observed.column, nnz_ * 2, 3);
    always(observed.value, numbers, 1);
    if (weighted) always(observed.weight, numbers, 1);
    if (!has_columns) return;
    always(observed.column_place, nnz_ * 2, 1);
    always(observed.column_start, (padded(static_cast<int>(b.rows)) + 1) * 4, 8);
    always(observed.row, nnz_ * 2, 3);
    add(observed.coefficient, numbers, false, rows_part(), columns_part(), 4);
  }

  void add_moments(int count) {
    for (int number = 0; number < program_.factors; ++number) {
      BlockMatrix& matrix = run_.matrices[number];
      for (int moment = 0; moment < count; ++moment) {
        matrix.moments[moment] = static_cast<int32_t>(take_home(matrix.value.bytes));
      }
    }
  }

  const DescentProgram& program_;
  const int64_t nnz_;
  const int number_bytes_, product_count_;
  BlockRun run_;
  std::vector<BlockArray*> arrays_;
  std::vector<ArrayUse> uses_;
  int64_t homes_bytes_ = sizeof(BlockRun);
};

void check(const DescentProgram& program, const RunOptions& options, int64_t nnz, int number_bytes,
           int64_t shared_limit) {
  require(program.factors >= 1 && nnz >= 1, "it has no factors or no entries");
  require_size(program.factors <= most_factors, "it has " + std::to_string(program.factors) +
                                                    " factors, and a block takes 1 to " +
                                                    std::to_string(most_factors));
  require_size(shared_limit >= shared_front, "it has too little shared memory");
  require_size(nnz <= most_lines, "at most 65536 entries may be observed");
  require(options.rule.kind != RuleKind::adaptive_gradient_descent &&
              options.rule.kind != RuleKind::preconditioned_lbfgs && options.rule.gradient_clip == 0,
          "a block supports neither the adaptive step, nor L-BFGS, nor clipped gradients");
  require(options.total_weight > 0, "the weights must sum to more than 0");
  const auto count = static_cast<int>(program.matrices.size());
  require(count == program.factors + static_cast<int>(program.products.size()) && count <= most_matrices,
          "matrices must be the factors and a result of each product");
  const auto is_matrix = [count](int number) { return number >= 0 && number < count; };
  require(is_matrix(program.a) && (program.forms_product() || is_matrix(program.b_transposed)),
          "its program refers to matrices that do not exist");
  for (const Matrix& matrix : program.matrices) {
    require(matrix.rows >= 1 && matrix.columns >= 1, "a matrix is empty");
    require_size(matrix.rows <= most_lines && matrix.columns <= most_lines,
                 "matrices may have at most 65536 rows and columns");
    require_size((matrix.rows + 4) * (matrix.columns + 8) * number_bytes <= INT32_MAX / most_matrices / 2,
                 "a matrix is too large");
  }
  std::vector<int> times_used(program.matrices.size(), 0);
  ++times_used[program.a];
  if (!program.forms_product()) ++times_used[program.b_transposed];
  int next_result = program.factors;
  for (const Product& product : program.products) {
    require(is_matrix(product.left) && is_matrix(product.right),
            "its program refers to matrices that do not exist");
    require(product.left < next_result && product.right < next_result && product.result == next_result,
            "products must be of matrices that exist already, with results numbered in order");
    ++next_result;
    ++times_used[product.left];
    ++times_used[product.right];
    const Matrix left = program.matrices[product.left], right = program.matrices[product.right],
                 result = program.matrices[product.result];
    require(left.columns == right.rows && result.rows == left.rows && result.columns == right.columns,
            "the shapes of a product do not match");
  }
  require(std::all_of(times_used.begin(), times_used.end(), [](int times) { return times == 1; }),
          "every matrix must be used once: in a product, or at the observed entries");
  if (program.forms_product()) return;
  const int64_t h = program.matrices[program.a].columns;
  require(program.matrices[program.b_transposed].columns == h, "A and Bᵀ must have the same number of columns");
  require_size((h + 3) / 4 * 4 * number_bytes <= most_line_bytes,
               "A and Bᵀ have " + std::to_string(h) + " columns, and a block takes at most " +
                   std::to_string(most_line_bytes / number_bytes));
}

}  // namespace

BlockPlan plan_block_run(const DescentProgram& program, const RunOptions& options, int64_t nnz, bool weighted,
                         int number_bytes, int64_t shared_limit) {
  check(program, options, nnz, number_bytes, shared_limit);
  return Planner(program, nnz, weighted, number_bytes).finish(options, shared_limit);
}

template <class T>
void write_run(const BlockRun& run, const ObservedLines& lines, const T* values, const T* weights,
               unsigned char* memory) {
  std::memcpy(memory, &run, sizeof run);
  const BlockObserved& observed = run.observed;
  const auto home = [memory](const BlockArray& array, auto number) {
    return reinterpret_cast<decltype(number)*>(memory + array.home);
  };
  const auto write_starts = [&](const BlockArray& array, const std::vector<int32_t>& start) {
    const int64_t count = array.bytes / 4;
    for (int64_t line = 0; line < count; ++line) {
      home(array, int32_t{})[line] = line < static_cast<int64_t>(start.size()) ? start[line] : observed.nnz;
    }
  };
  write_starts(observed.row_start, lines.row_start);
  for (int64_t k = 0; k < lines.nnz; ++k) {
    home(observed.column, uint16_t{})[k] = static_cast<uint16_t>(lines.column[k]);
    home(observed.value, T{})[k] = values[lines.position[k]];
    if (weights != nullptr) home(observed.weight, T{})[k] = weights[lines.position[k]];
  }
  if (run.b_transposed == no_matrix) return;
  write_starts(observed.column_start, lines.column_start);
  for (int64_t k = 0; k < lines.nnz; ++k) {
    home(observed.row, uint16_t{})[k] = static_cast<uint16_t>(lines.row[k]);
    home(observed.column_place, uint16_t{})[lines.place[k]] = static_cast<uint16_t>(k);
  }
}

template void write_run(const BlockRun&, const ObservedLines&, const float*, const float*, unsigned char*);
template void write_run(const BlockRun&, const ObservedLines&, const double*, const double*, unsigned char*);

}  // namespace dmf::cuda
