// Products that are too large for the kernels here are delegated to a BLAS that the caller provides.
#pragma once

#include <cstdint>

#include "../number_types.h"

namespace dmf {

// A row-major matrix, or the transpose of one.
struct BlasOperand {
  void* data;
  int64_t rows, columns, stride;  // as it lies in memory
  bool transposed = false;
};

class Blas {
 public:
  virtual ~Blas() = default;

  // result = left · right; `result` is not transposed. Only columns of the matrix are written, nothing past
  // them.
  virtual void multiply(Dtype dtype, const BlasOperand& left, const BlasOperand& right,
                        const BlasOperand& result) = 0;
};

}  // namespace dmf
