// A matrix in memory: row-major, rows a whole number of 64-byte lines apart, with zeros past the last column.
#pragma once

#include <cstdint>

#include "../number_types.h"

namespace dmf {

template <class T>
struct DenseMatrix {
  T* data = nullptr;
  int64_t rows = 0, columns = 0, stride = 0;

  DMF_INLINE T* row(int64_t i) const { return data + i * stride; }
  int64_t numbers() const { return rows * stride; }
  // `count` rows, starting at `first`.
  DenseMatrix rows_from(int64_t first, int64_t count) const {
    return {data + first * stride, count, columns, stride};
  }
};

template <class T>
constexpr int64_t row_stride(int64_t columns) {
  constexpr int64_t line = 64 / sizeof(T);
  return (columns + line - 1) / line * line;
}

}  // namespace dmf
