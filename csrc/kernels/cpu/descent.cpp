#include "descent.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <stdexcept>

#include "../block_tree.h"

namespace dmf {
namespace {

double seconds_now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

template <class T>
Sides<T> all_sides(const DescentProgram& program, const Chain<T>& chain, double mean) {
  Sides<T> sides;
  sides.a = chain.value(program.a);
  sides.gradient_a = chain.gradient(program.a);
  if (!program.forms_product()) {
    sides.b_transposed = chain.value(program.b_transposed);
    sides.gradient_b_transposed = chain.gradient(program.b_transposed);
  }
  sides.mean = mean;
  return sides;
}

template <class T>
double weight_of(const std::vector<ObservedEntries<T>>& entries) {
  return sum_in_tree(0, static_cast<int64_t>(entries.size()),
                     [&](int64_t block) { return entries[block].total_weight; });
}

void check_weight(double weight) {
  if (!(weight > 0)) throw std::invalid_argument("the weights of all entries must sum to more than 0");
}

// Gradients whose norm does not exceed `clip` are unchanged (torch.nn.utils.clip_grad_norm_).
double clipped(double clip, double norm) {
  return std::min(1.0, clip / (norm + 1e-6));
}

}  // namespace

template <class T>
Descent<T>::Descent(const DescentProgram& program, const std::vector<ObservedEntries<T>>& train,
                    const DescentOptions& options, const std::vector<RowFacts<T>>& rows, Blas& blas,
                    Parallel& parallel, Ranks* ranks)
    : train_(train),
      factors_(program.factors),
      loss_scale_(options.loss_scale),
      gradient_clip_(options.rule.gradient_clip),
      parallel_(parallel),
      ranks_(ranks),
      chain_(program, blas, parallel, blocks()),
      sides_(all_sides(program, chain_, options.mean)),
      parameters_(parallel, blocks(), ranks) {
  const Rule& rule = options.rule;
  const std::vector<bool> with_rows = program.with_rows();
  for (int factor = 0; factor < program.factors; ++factor) {
    parameters_.add(chain_.value(factor), chain_.gradient(factor), rows[factor], rule.weight_decay,
                    rule.moments(), with_rows[factor]);
  }
  add_levels(program, options.biases);
  if (options.biases || options.mean != 0) add_biases(options, rows);
  walk_tree(
      0, blocks(), 0,
      [&](int64_t block, int level) {
        passes_.push_back(
            make_observed_pass(train_[block], options.loss_scale, sides_of(block, level), parallel));
      },
      [](int) {});
  rule_ = make_update_rule(rule, parameters_);
  total_weight_ = sum_over_ranks({weight_of(train_), 0})[0];
  check_weight(total_weight_);
}

template <class T>
void Descent<T>::add_levels(const DescentProgram& program, bool biases) {
  constexpr Dtype dtype = sizeof(T) == 8 ? Dtype::float64 : Dtype::float32;
  const int64_t columns = train_[0].layout.header->columns;
  for (int number = 0; number < tree_levels(blocks()); ++number) {
    Level level;
    if (!program.forms_product()) level.b_transposed = chain_.gradient(program.b_transposed, number);
    for (const int matrix : chain_.sums_over_rows()) {
      const DenseMatrix<T>& gradient = chain_.gradient(matrix, number);
      level.vectors.push_back({gradient.data, gradient.numbers(), dtype});
    }
    if (biases) {
      level.column_bias = AlignedNumbers<T>(columns);
      level.vectors.push_back({level.column_bias.data(), columns, dtype});
    }
    levels_.push_back(std::move(level));
  }
}

template <class T>
void Descent<T>::add_biases(const DescentOptions& options, const std::vector<RowFacts<T>>& rows) {
  if (options.biases) row_bias_gradient_memory_ = AlignedNumbers<T>(sides_.a.rows);
  sides_.gradient_row_bias = row_bias_gradient_memory_.data();
  sides_.gradient_column_bias = levels_[0].column_bias.data();
  const int64_t lines[] = {sides_.a.rows, train_[0].layout.header->columns};
  T* const gradients[] = {sides_.gradient_row_bias, sides_.gradient_column_bias};
  for (int side = 0; side < 2; ++side) {
    bias_memory_[side] = AlignedNumbers<T>(lines[side]);
    if (!options.biases) continue;
    parameters_.add({bias_memory_[side].data(), lines[side], 1, 1}, {gradients[side], lines[side], 1, 1},
                    rows[factors_ + side], options.rule.bias_weight_decay, options.rule.moments(), side == 0);
  }
  sides_.row_bias = bias_memory_[0].data();
  sides_.column_bias = bias_memory_[1].data();
}

// For one block of rows; sums over its rows are written to a level of the tree.
template <class T>
Sides<T> Descent<T>::sides_of(int64_t block, int level) const {
  Sides<T> sides = sides_;
  const int64_t rows = sides_.a.rows / blocks(), first = block * rows;
  sides.a = sides_.a.rows_from(first, rows);
  sides.gradient_a = sides_.gradient_a.rows_from(first, rows);
  sides.gradient_b_transposed = levels_[level].b_transposed;
  if (sides.has_biases()) sides.row_bias += first;
  if (sides.learns_biases()) {
    sides.gradient_row_bias += first;
    sides.gradient_column_bias = levels_[level].column_bias.data();
  }
  return sides;
}

template <class T>
Outcome Descent<T>::run(int64_t until, const StopRules& stop, double most_seconds) {
  const double deadline = seconds_now() + most_seconds;
  const int64_t first = step_;
  for (;;) {
    if (!evaluate(deadline)) return Outcome::diverged;
    if (loss() <= stop.train_loss) return Outcome::train_loss_threshold;
    if (stop.gradient_norm >= 0 && gradient_norm() <= stop.gradient_norm) {
      return Outcome::gradient_norm_threshold;
    }
    if (step_ >= until) return Outcome::reached;
    if (step_ > first && time_is_over_) return Outcome::paused;
    update();
  }
}

// Products, loss and gradients at the current parameters; false if the next step cannot be finite. All ranks
// return the same; time is up for all of them once it is up for any of them.
template <class T>
bool Descent<T>::evaluate(double deadline) {
  while (!evaluated_) {
    chain_.forward();
    const double loss = evaluate_rows();
    const TwoSums sums = sum_over_ranks({loss, seconds_now() > deadline ? 1.0 : 0.0}, levels_[0].vectors);
    loss_sum_ = sums[0];
    time_is_over_ = sums[1] > 0;
    chain_.backward();
    evaluated_ = !rule_->retracts(parameters_, loss_scale_ * loss_sum_);
  }
  return std::isfinite(loss_sum_) && rule_->is_finite();
}

// The loss of the rows of this rank. Sums of gradients are written to the first level.
template <class T>
double Descent<T>::evaluate_rows() {
  std::array<double, 64> losses;  // of each level
  walk_tree(
      0, blocks(), 0,
      [&](int64_t block, int level) {
        losses[level] = passes_[block]->run();
        chain_.backward_rows(block, level);
      },
      [&](int level) {
        losses[level] += losses[level + 1];
        add_next_level(level);
      });
  return losses[0];
}

template <class T>
void Descent<T>::add_next_level(int level) {
  for (size_t place = 0; place < levels_[level].vectors.size(); ++place) {
    const RankVector& sum = levels_[level].vectors[place];
    const T* next = static_cast<const T*>(levels_[level + 1].vectors[place].numbers);
    T* numbers = static_cast<T*>(sum.numbers);
    const auto add = [&](int, int64_t begin, int64_t end) {
      for (int64_t number = begin; number < end; ++number) numbers[number] += next[number];
    };
    sum.count <= most_serial_numbers ? add(0, 0, sum.count) : for_slices(parallel_, sum.count, add);
  }
}

// Of two numbers and of vectors, in place.
template <class T>
typename Descent<T>::TwoSums Descent<T>::sum_over_ranks(const TwoSums& sums,
                                                        const std::vector<RankVector>& vectors) {
  if (ranks_ == nullptr) return sums;
  shared_ = sums;
  std::vector<RankVector> all = vectors;
  all.push_back({shared_.data(), static_cast<int64_t>(shared_.size()), Dtype::float64});
  ranks_->sum(all);
  return shared_;
}

template <class T>
void Descent<T>::update() {
  ++step_;
  const double factor = gradient_clip_ > 0 ? clipped(gradient_clip_, gradient_norm()) : 1;
  rule_->update(parameters_, step_, loss_scale_ * loss_sum_, factor);
  evaluated_ = false;
}

template <class T>
double Descent<T>::gradient_norm() const {
  const StepKernels<T>& kernels = active_step_kernels<T>();
  return std::sqrt(parameters_.sum([&](ParameterRows<T> rows) {
    rows.weight_decay = 0;
    return kernels.sum_of_direction_squares(rows, 1);
  }));
}

template <class T>
double Descent<T>::mean_squared_error(const std::vector<ObservedEntries<T>>& entries) {
  if (!evaluated_) chain_.forward();
  const double error = sum_in_tree(
      0, blocks(), [&](int64_t block) { return squared_error(entries[block], sides_of(block, 0), parallel_); });
  const TwoSums sums = sum_over_ranks({error, weight_of(entries)});
  check_weight(sums[1]);
  return sums[0] / sums[1];
}

template <class T>
Matrix Descent<T>::shape(int parameter) const {
  const DenseMatrix<T>& value = parameters_.part(Part::parameter, parameter);
  return {value.rows, value.columns};
}

template <class T>
void Descent<T>::read(Part part, int parameter, T* numbers) const {
  const DenseMatrix<T>& from = parameters_.part(part, parameter);
  for (int64_t row = 0; row < from.rows; ++row) {
    std::memcpy(numbers + row * from.columns, from.row(row), from.columns * sizeof(T));
  }
}

template <class T>
void Descent<T>::write(Part part, int parameter, const T* numbers) {
  const DenseMatrix<T>& to = parameters_.part(part, parameter);
  for (int64_t row = 0; row < to.rows; ++row) {
    std::memcpy(to.row(row), numbers + row * to.columns, to.columns * sizeof(T));
  }
  if (part == Part::parameter) evaluated_ = false;
}

template <class T>
void Descent<T>::resume_from(int64_t step, const std::vector<double>& scalars) {
  step_ = step;
  rule_->set_scalars(scalars);
}

template class Descent<float>;
template class Descent<double>;

}  // namespace dmf
