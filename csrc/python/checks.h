// Argument checks of the module's functions, with the messages that Python raises.
//
// No index, size or layout is used before it has been checked here, and allocations are at most proportional to
// the size of the arguments. Arrays must not change while a call reads them, since the GIL is released.
#pragma once

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <limits>
#include <stdexcept>
#include <string>
#include <type_traits>

#include "../kernels/cpu/parameters.h"
#include "../kernels/descent/program.h"
#include "../kernels/observed_layout.h"
#include "../kernels/parallel.h"

namespace dmf::python {

// Misaligned numbers are copied.
template <class T>
using Array =
    pybind11::array_t<T, int{pybind11::array::c_style} | int{pybind11::detail::npy_api::NPY_ARRAY_ALIGNED_}>;

constexpr int64_t most_threads = 4096;

inline void require(bool holds, const std::string& what) {
  if (!holds) throw std::invalid_argument(what);
}

inline void check_range(int64_t number, int64_t least, int64_t most, const std::string& name) {
  require(number >= least && number <= most, name + " must be from " + std::to_string(least) + " to " +
                                                 std::to_string(most) + ", got " + std::to_string(number));
}

inline int checked_threads(int64_t threads) {
  check_range(threads, 1, most_threads, "threads");
  return static_cast<int>(threads);
}

template <class T>
void check_vector(const Array<T>& array, int64_t size, const std::string& name) {
  require(array.ndim() == 1 && array.size() == size,
          name + " must be one-dimensional with " + std::to_string(size) + " elements");
}

// Whether all indices are in [0, count). As unsigned numbers, negative ones exceed any count.
template <class Index>
bool lie_below(const Index* indices, int64_t nnz, int64_t count) {
  using Unsigned = std::make_unsigned_t<Index>;
  Unsigned largest = 0;
  for (int64_t k = 0; k < nnz; ++k) largest = std::max(largest, static_cast<Unsigned>(indices[k]));
  const int64_t most = std::min<int64_t>(count - 1, std::numeric_limits<Index>::max());
  return nnz == 0 || (count > 0 && largest <= static_cast<uint64_t>(most));
}

// The entries of a pattern: two vectors of equal length, whose indices are checked without the GIL.
template <class Index>
struct Pairs {
  const Index *row_of, *column_of;
  int64_t nnz;

  Pairs(const Array<Index>& rows, const Array<Index>& columns)
      : row_of(rows.data()), column_of(columns.data()), nnz(rows.size()) {
    check_vector(rows, nnz, "rows");
    check_vector(columns, nnz, "columns");
  }

  void check_inside(int64_t row_count, int64_t column_count, Parallel& parallel) const {
    std::atomic<bool> inside{true};
    for_slices(parallel, nnz, [&](int, int64_t begin, int64_t end) {
      if (!lie_below(row_of + begin, end - begin, row_count) ||
          !lie_below(column_of + begin, end - begin, column_count)) {
        inside = false;
      }
    });
    require(inside, "rows and columns must lie inside the matrix");
  }
};

LayoutView checked_layout(const Array<uint8_t>& buffer, const std::string& name);

// The same, and checks that all entries are valid (observed_layout.h).
void require_sound(const LayoutView& layout, Parallel& parallel, const std::string& name);

void check(const Rule& rule);
void check(const StopRules& stop);
// Python enumerations accept any number.
void check(Part part);

// Makes methods of objects whose __init__ failed raise an error, since pybind11 would pass them uninitialized
// memory.
void refuse_unfinished_objects(const pybind11::module_& module);

}  // namespace dmf::python
