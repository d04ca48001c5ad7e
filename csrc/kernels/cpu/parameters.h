// What a run of gradient descent learns: the factors, and biases where it has some, with their gradients, the
// moments of the update rule and what is kept aside. All of a parameter's arrays have its shape and stride.
#pragma once

#include <algorithm>
#include <cstring>
#include <utility>
#include <vector>

#include "../aligned_numbers.h"
#include "../descent/dense_matrix.h"
#include "../parallel.h"
#include "step_kernels.h"

namespace dmf {

// Which numbers of a parameter are read or written: itself, a moment that the rule keeps (Rule::moments), or
// what was kept aside.
enum class Part : int { parameter = 0, first_moment = 1, second_moment = 2, kept = 3 };
constexpr int part_count = 4;

// One number a row, or null for ones.
template <class T>
struct RowFacts {
  const T* scale = nullptr;      // ParameterRows
  const T* curvature = nullptr;  // lbfgs.h
};

// Parameters are taken in slices of a fixed size, which are shared out to the threads and whose sums are added
// up in order: nothing depends on the number of threads.
template <class T>
class Parameters {
 public:
  explicit Parameters(Parallel& parallel) : parallel_(parallel) {}

  // `of_rows`: copied.
  void add(const DenseMatrix<T>& value, const DenseMatrix<T>& gradient, const RowFacts<T>& of_rows,
           double weight_decay, int moments) {
    Parameter parameter{{value}, gradient, {}, {}, {}, static_cast<T>(weight_decay)};
    if (of_rows.scale != nullptr) parameter.scale.assign(of_rows.scale, of_rows.scale + value.rows);
    if (of_rows.curvature != nullptr) {
      parameter.curvature.assign(of_rows.curvature, of_rows.curvature + value.rows);
    }
    parameters_.push_back(std::move(parameter));
    for (int moment = 1; moment <= moments; ++moment) allocate(parameters_.back(), moment);
    const int64_t rows = std::max<int64_t>(1, slice / value.stride);
    for (int64_t row = 0; row < value.rows; row += rows) {
      slices_.push_back({static_cast<int>(parameters_.size()) - 1, row, std::min(rows, value.rows - row)});
    }
    numbers_ += value.numbers();
  }

  int count() const { return static_cast<int>(parameters_.size()); }
  int64_t slices() const { return static_cast<int64_t>(slices_.size()); }
  // Without data where there is no such part.
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

  // Σ term(rows) over all slices.
  template <class Term>
  auto sum(const Term& term) const {
    using Sum = decltype(term(rows_of(0)));
    Sum total{};
    if (numbers_ <= most_serial_numbers) {
      for (int64_t slice = 0; slice < slices(); ++slice) total += term(rows_of(slice));
      return total;
    }
    std::vector<Sum> sums(slices_.size());
    for_slices(parallel_, static_cast<int64_t>(sums.size()), [&](int, int64_t begin, int64_t end) {
      for (int64_t slice = begin; slice < end; ++slice) sums[slice] = term(rows_of(slice));
    });
    for (const Sum& part : sums) total += part;
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
  static constexpr int64_t most_serial_numbers = 1
                                                 << 16;  // up to which waking threads costs more than they save

  struct Parameter {
    DenseMatrix<T> parts[part_count];
    DenseMatrix<T> gradient;
    std::vector<AlignedNumbers<T>> memory;  // of the parts that are allocated here
    std::vector<T> scale, curvature;        // of each row; empty for ones
    T weight_decay;
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
  std::vector<Parameter> parameters_;
  std::vector<Slice> slices_;
  int64_t numbers_ = 0;
};

}  // namespace dmf
