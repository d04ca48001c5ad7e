// The parameters of a run of gradient descent: factors and optional biases, with their gradients, the moments
// of the update rule and kept copies. All arrays of a parameter have its shape and stride.
#pragma once

#include <algorithm>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "../aligned_numbers.h"
#include "../block_tree.h"
#include "../descent/dense_matrix.h"
#include "../parallel.h"
#include "../ranks.h"
#include "step_kernels.h"

namespace dmf {

// Which array of a parameter is read or written: the parameter itself, a moment of the rule (Rule::moments), or
// the kept copy.
enum class Part : int { parameter = 0, first_moment = 1, second_moment = 2, kept = 3 };
constexpr int part_count = 4;

constexpr int64_t most_serial_numbers = 1 << 16;  // below this, waking threads costs more than they save

// One number per row, or null for ones.
template <class T>
struct RowFacts {
  const T* scale = nullptr;      // ParameterRows
  const T* curvature = nullptr;  // lbfgs.h
};

// Parameters are processed in slices of a fixed size, which are distributed over the threads and whose sums are
// added in order, so that nothing depends on the number of threads.
//
// Parameters with the rows of W, which are the last factor and the row biases, may come in blocks of rows,
// which ranks share. Each block then starts a new slice, and sums are added up over blocks (block_tree.h), over
// ranks, and with those of the parameters that all ranks have.
template <class T>
class Parameters {
 public:
  // `parallel` and `ranks` must outlive the parameters. `ranks` is null if all rows are here.
  Parameters(Parallel& parallel, int64_t blocks, Ranks* ranks)
      : parallel_(parallel), blocks_(blocks), ranks_(ranks) {}

  // `of_rows` is copied. `with_rows`: the rows are those of W.
  void add(const DenseMatrix<T>& value, const DenseMatrix<T>& gradient, const RowFacts<T>& of_rows,
           double weight_decay, int moments, bool with_rows) {
    Parameter parameter{{value}, gradient, {}, {}, {}, static_cast<T>(weight_decay), with_rows, {}};
    if (of_rows.scale != nullptr) parameter.scale.assign(of_rows.scale, of_rows.scale + value.rows);
    if (of_rows.curvature != nullptr) {
      parameter.curvature.assign(of_rows.curvature, of_rows.curvature + value.rows);
    }
    parameters_.push_back(std::move(parameter));
    for (int moment = 1; moment <= moments; ++moment) allocate(parameters_.back(), moment);
    const int64_t rows = std::max<int64_t>(1, slice / value.stride), blocks = with_rows ? blocks_ : 1;
    for (int64_t block = 0; block < blocks; ++block) {
      parameters_.back().first_slice.push_back(slices());
      const int64_t end = value.rows / blocks * (block + 1);
      for (int64_t row = value.rows / blocks * block; row < end; row += rows) {
        slices_.push_back({count() - 1, row, std::min(rows, end - row)});
      }
    }
    parameters_.back().first_slice.push_back(slices());
    numbers_ += value.numbers();
    shared_.resize(shared_.size() + 2 * value.stride + largest_sum);
  }

  int count() const { return static_cast<int>(parameters_.size()); }
  int64_t slices() const { return static_cast<int64_t>(slices_.size()); }
  // Without data if there is no such part.
  const DenseMatrix<T>& part(Part part, int parameter) const {
    return parameters_[parameter].parts[static_cast<int>(part)];
  }

  // body(rows) for all slices.
  template <class Body>
  void each(const Body& body) const {
    const int64_t count = static_cast<int64_t>(slices_.size());
    const auto work = [&](int, int64_t begin, int64_t end) {
      for (int64_t slice = begin; slice < end; ++slice) body(rows_of(slice));
    };
    if (numbers_ <= most_serial_numbers) return work(0, 0, count);
    for_slices(parallel_, count, work);
  }

  // Σ term(rows) over all slices of all ranks. A sum is made of doubles.
  template <class Term>
  auto sum(const Term& term) const {
    using Sum = decltype(term(rows_of(0)));
    if (numbers_ <= most_serial_numbers) {
      return add_up(Sum{}, [&](Sum& sum, int64_t slice) { sum += term(rows_of(slice)); });
    }
    std::vector<Sum> sums(slices_.size());
    for_slices(parallel_, static_cast<int64_t>(sums.size()), [&](int, int64_t begin, int64_t end) {
      for (int64_t slice = begin; slice < end; ++slice) sums[slice] = term(rows_of(slice));
    });
    return add_up(Sum{}, [&](Sum& sum, int64_t slice) { sum += sums[slice]; });
  }

  // The sum over all slices of all ranks; add(sum, slice) adds a slice's part to a sum that starts at `zero`. A
  // sum has at most two doubles for each column of every parameter.
  template <class Sum, class Add>
  Sum add_up(const Sum& zero, const Add& add) const {
    const bool together = blocks_ == 1 && ranks_ == nullptr;  // all parameters are summed alike
    const auto add_slices = [&](Sum& sum, const Parameter& parameter, int64_t block) {
      for (int64_t slice = parameter.first_slice[block]; slice < parameter.first_slice[block + 1]; ++slice) {
        add(sum, slice);
      }
    };
    Sum total = sum_in_tree(0, blocks_, [&](int64_t block) {
      Sum of_block = zero;
      for (const Parameter& parameter : parameters_) {
        if (together || parameter.with_rows) add_slices(of_block, parameter, block);
      }
      return of_block;
    });
    if (together) return total;
    if (ranks_ != nullptr) sum_over_ranks(total);
    Sum of_others = zero;
    for (const Parameter& parameter : parameters_) {
      if (!parameter.with_rows) add_slices(of_others, parameter, 0);
    }
    total += of_others;
    return total;
  }

  // Copies the parameters to Part::kept.
  void keep() {
    for (Parameter& parameter : parameters_) {
      if (parameter.parts[static_cast<int>(Part::kept)].data == nullptr) {
        allocate(parameter, static_cast<int>(Part::kept));
      }
    }
    const int64_t count = static_cast<int64_t>(slices_.size());
    const auto work = [&](int, int64_t begin, int64_t end) {
      for (int64_t number = begin; number < end; ++number) {
        const Slice& slice = slices_[number];
        const DenseMatrix<T>&from = part(Part::parameter, slice.parameter),
              &to = part(Part::kept, slice.parameter);
        std::memcpy(to.row(slice.row), from.row(slice.row), slice.rows * from.stride * sizeof(T));
      }
    };
    if (numbers_ <= most_serial_numbers) return work(0, 0, count);
    for_slices(parallel_, count, work);
  }

 private:
  static constexpr int64_t slice = 1 << 13;  // numbers
  static constexpr int64_t largest_sum = 8;  // doubles in a sum without columns

  struct Parameter {
    DenseMatrix<T> parts[part_count];
    DenseMatrix<T> gradient;
    std::vector<AlignedNumbers<T>> memory;  // of the parts that are allocated here
    std::vector<T> scale, curvature;        // of each row; empty for ones
    T weight_decay;
    bool with_rows;
    std::vector<int64_t> first_slice;  // of each block; the last is a sentinel
  };
  struct Slice {
    int parameter;
    int64_t row, rows;
  };

  static void allocate(Parameter& parameter, int part) {
    parameter.memory.emplace_back(parameter.parts[0].numbers());
    parameter.parts[part] = parameter.parts[0];
    parameter.parts[part].data = parameter.memory.back().data();
  }

  template <class Sum>
  void sum_over_ranks(Sum& sum) const {
    std::span<double> doubles;
    if constexpr (requires { sum.doubles(); }) {
      doubles = sum.doubles();
    } else {
      static_assert(std::is_trivially_copyable_v<Sum> && sizeof(Sum) <= largest_sum * sizeof(double));
      doubles = {reinterpret_cast<double*>(&sum), sizeof(Sum) / sizeof(double)};
    }
    std::copy(doubles.begin(), doubles.end(), shared_.begin());
    ranks_->sum({{shared_.data(), static_cast<int64_t>(doubles.size()), Dtype::float64}});
    std::copy_n(shared_.begin(), doubles.size(), doubles.begin());
  }

  ParameterRows<T> rows_of(int64_t number) const {
    const Slice& slice = slices_[number];
    const Parameter& parameter = parameters_[slice.parameter];
    const auto from = [&](const DenseMatrix<T>& matrix) {
      return matrix.data == nullptr ? nullptr : matrix.row(slice.row);
    };
    const DenseMatrix<T>(&parts)[part_count] = parameter.parts;
    return {from(parts[0]),
            from(parameter.gradient),
            from(parts[1]),
            from(parts[2]),
            parameter.scale.empty() ? nullptr : parameter.scale.data() + slice.row,
            parameter.weight_decay,
            slice.rows,
            parts[0].stride,
            parameter.curvature.empty() ? nullptr : parameter.curvature.data() + slice.row,
            slice.parameter,
            number};
  }

  Parallel& parallel_;
  const int64_t blocks_;
  Ranks* const ranks_;
  mutable std::vector<double> shared_;  // what ranks add up; its address stays the same for the whole run
  std::vector<Parameter> parameters_;
  std::vector<Slice> slices_;
  int64_t numbers_ = 0;
};

}  // namespace dmf
